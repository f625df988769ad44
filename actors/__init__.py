"""Ray actors around the domain's machines, the links between them, and ports to the outside."""

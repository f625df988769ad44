"""The REST API: operations declared in tables, handled on one short path."""

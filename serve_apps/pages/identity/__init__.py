"""Pages of who one is: how people come in, links from e-mails, the profile, and leaving."""

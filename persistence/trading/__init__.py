"""The exchange in Postgres: the catalogue, and what the projector makes of the journal."""

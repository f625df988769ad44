"""The pages of the back office, each for who holds the permission that it needs."""

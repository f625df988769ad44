"""Notifications on their way to people: how each reads."""

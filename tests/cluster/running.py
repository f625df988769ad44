"""Whole platforms for tests, started as an operator does: see ``cluster.chaos.running``."""

from __future__ import annotations

from cluster.chaos.running import Running, environment, free_port, kontor

__all__ = ["Running", "environment", "free_port", "kontor"]

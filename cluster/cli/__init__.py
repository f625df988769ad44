"""The ``kontor`` command: what an operator and a developer type."""

from __future__ import annotations

from cluster.cli.main import main

__all__ = ["main"]

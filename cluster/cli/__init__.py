"""The ``kontor`` command: what an operator and a developer type."""

from __future__ import annotations

from cluster.cli import accounts
from cluster.cli.main import app, main

app.add_typer(accounts.app, name="accounts", no_args_is_help=True)

__all__ = ["main"]

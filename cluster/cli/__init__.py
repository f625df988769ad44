"""The ``kontor`` command: what an operator and a developer type."""

from __future__ import annotations

from cluster.cli import (
    accounts,
    admin,
    audit,
    backup,
    bench,
    canary,
    chaos,
    drain,
    history,
    instrument,
    mail,
    pin,
    rebalance,
    recover,
    role,
    scale,
    simulate,
)
from cluster.cli.main import app, main

app.add_typer(accounts.app, name="accounts", no_args_is_help=True)
app.add_typer(admin.app, name="admin", no_args_is_help=True)
app.add_typer(audit.app, name="audit", no_args_is_help=True)
app.add_typer(bench.app, name="bench")
app.add_typer(canary.app, name="canary", no_args_is_help=True)
app.add_typer(history.app, name="history", no_args_is_help=True)
app.add_typer(instrument.app, name="instrument", no_args_is_help=True)
app.add_typer(mail.app, name="mail", no_args_is_help=True)
app.add_typer(recover.app, name="recover", no_args_is_help=True)
app.add_typer(role.app, name="role", no_args_is_help=True)
app.command()(scale.scale)
app.command()(scale.placement)
app.command()(pin.pin)
app.command()(pin.unpin)
app.command()(rebalance.rebalance)
app.command()(drain.drain)
app.command()(drain.undrain)
app.command()(chaos.chaos)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(simulate.simulate)

__all__ = ["main"]

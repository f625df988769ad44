"""Results as tables for people."""

from __future__ import annotations

from rich.table import Table

from cluster.addresses import Addresses
from cluster.status import ActorStatus

_MIB = 1024 * 1024


def status_table(platform: Addresses, actors: list[ActorStatus]) -> Table:
    """One row for each Ray actor."""
    table = Table(
        title=f"Kontor at {platform.url}", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("Kind", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Hosts")
    for column in ("Position", "Lag", "Restarts", "MiB", "Pid"):
        table.add_column(column, justify="right", no_wrap=True)
    for actor in actors:
        table.add_row(
            actor.kind,
            actor.state,
            actor.hosts.removeprefix(f"{actor.kind}(").removesuffix(")"),
            _text(actor.position),
            _text(actor.lag),
            str(actor.restarts),
            _text(actor.memory and actor.memory // _MIB),
            _text(actor.pid),
        )
    return table


def _text(number: int | None) -> str:
    return "" if number is None else f"{number:,}"

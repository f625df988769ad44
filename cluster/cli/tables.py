"""Results as tables for people."""

from __future__ import annotations

from rich.table import Table

from cluster.addresses import Addresses
from cluster.status import ActorStatus
from persistence.supervision import Incident, NodeRow

_MIB = 1024 * 1024
_INCIDENTS_SHOWN = 8
_ID_SHOWN = 8


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
    several = len({actor.node for actor in actors if actor.node}) > 1
    if several:
        table.add_column("Node", no_wrap=True)
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
            *([actor.node[:_ID_SHOWN]] if several else []),
        )
    return table


def nodes_table(nodes: list[NodeRow]) -> Table:
    """One row for each living node."""
    table = Table(title="Nodes", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("Node", "Name", "Address", "State"):
        table.add_column(column, no_wrap=True)
    table.add_column("Partitions", justify="right")
    for node in nodes:
        if node.alive:
            state = "draining" if node.draining else "head" if node.head else ""
            partitions = str(node.partitions)
            table.add_row(node.node[:_ID_SHOWN], node.name, node.address, state, partitions)
    return table


def incidents_table(incidents: list[Incident]) -> Table:
    """The latest incidents, newest first."""
    table = Table(title="Supervisor", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("When", "Event", "Stream"):
        table.add_column(column, no_wrap=True)
    table.add_column("What")
    for one in incidents[:_INCIDENTS_SHOWN]:
        when = f"{one.at.astimezone():%Y-%m-%d %H:%M:%S}"
        table.add_row(when, one.event, one.stream or "", one.what)
    return table


def _text(number: int | None) -> str:
    return "" if number is None else f"{number:,}"

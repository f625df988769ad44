"""``kontor drain`` and ``kontor undrain``: empty a Ray node of partitions before it leaves.

Only the wish is written here; the supervisor in ``kontor up`` follows it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.cli import moves
from cluster.cli.main import Json, show
from cluster.cli.moves import NoWait
from persistence import supervision
from persistence.database import OUTAGES, Pool
from persistence.supervision import NodeRow, UnknownNode

_LOOK_S: Final = 0.3
_OLD_S: Final = 15.0

Node = Annotated[str, typer.Argument(help="Name, address, or the first digits of its id.")]


def drain(node: Node, no_wait: NoWait = False, as_json: Json = False) -> None:
    """Move all partitions off a node, and let it have no more."""
    again = f"kontor drain {node}"

    async def work(pool: Pool) -> NodeRow:
        found = await _found(pool, node)
        others = [
            row
            for row in await supervision.nodes(pool)
            if row.alive and not row.draining and row.node != found.node
        ]
        if not others:
            moves.refuse(f"No other node could take the partitions of {_name(found)}.")
        await supervision.wish_drained(pool, found.node, True)
        return found if no_wait else await _follow(pool, found, quiet=as_json)

    row = moves.carry_out(work, again=again)
    if as_json:
        done = row.partitions == 0
        show({**msgspec.to_builtins(row), "draining": True, "done": done})
    elif row.partitions:
        typer.echo(f"{_name(row)} is being emptied; `{again}` shows how far it is.")
    else:
        typer.echo(f"{_name(row)} has no partitions; it may leave.")


def undrain(node: Node, as_json: Json = False) -> None:
    """Let a node have partitions again."""

    async def work(pool: Pool) -> NodeRow:
        found = await _found(pool, node)
        await supervision.wish_drained(pool, found.node, False)
        return found

    row = moves.carry_out(work, again=f"kontor undrain {node}")
    if as_json:
        show({**msgspec.to_builtins(row), "draining": False})
    else:
        typer.echo(f"{_name(row)} may have partitions again.")


async def _found(pool: Pool, name: str) -> NodeRow:
    try:
        found = await supervision.find_node(pool, name)
    except UnknownNode as error:
        moves.refuse(str(error))
    if found.seen is not None and time.time() - found.seen.timestamp() > _OLD_S:
        moves.refuse(f"The supervisor has not seen {_name(found)} lately: is the platform up?")
    return found


def _name(row: NodeRow) -> str:
    return row.name or row.address


async def _follow(pool: Pool, row: NodeRow, *, quiet: bool) -> NodeRow:
    """Wait until the supervisor has moved all partitions off the node, or the node is gone."""
    console = Console(stderr=True, highlight=False, quiet=quiet or not sys.stderr.isatty())
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("partitions"), TimeElapsedColumn(),
    )  # fmt: skip
    total = row.partitions
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(_name(row), total=total)
        while row.partitions:
            await asyncio.sleep(_LOOK_S)
            try:
                found = [seen for seen in await supervision.nodes(pool) if seen.node == row.node]
            except OUTAGES:
                continue
            row = found[0] if found else msgspec.structs.replace(row, partitions=0)
            bar.update(task, completed=max(0, total - row.partitions))
    return row

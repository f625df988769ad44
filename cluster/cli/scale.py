"""``kontor scale`` and ``kontor placement``: how many partitions share the slots, and how."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from actors.durable.placement import STREAMS_MAX, Plan
from actors.durable.placement import scale as wish
from actors.operations import Operations, Overview, SlotRun
from cluster.cli import moves
from cluster.cli.main import Json, show
from cluster.cli.moves import Kind, Moves, NoWait
from cluster.cli.permissions import noted
from persistence.database import Pool

_MIB = 1024 * 1024

Count = Annotated[int, typer.Argument(help="Partitions that are to share the slots.")]


def scale(kind: Kind, count: Count, no_wait: NoWait = False, as_json: Json = False) -> None:
    """Grow or shrink the partitions while they run; wait until each slot is where it is to be."""
    moves.known(kind)
    if not 1 <= count <= STREAMS_MAX:
        moves.refuse(f"From 1 to {STREAMS_MAX} partitions, not {count}.")
    again = f"kontor scale {kind} {count}"

    async def work(pool: Pool) -> tuple[Plan, Moves]:
        async with noted(pool, "platform.scale", kind, partitions=count):
            plan = await wish(pool, kind, count)
        title = f"{kind}: {count} partition{'s' if count > 1 else ''}"
        return plan, await moves.wait(pool, kind, title, no_wait=no_wait, as_json=as_json)

    plan, moved = moves.carry_out(work, again=again)
    if as_json:
        show({"kind": kind, "streams": plan.streams, **_json(moved)})
    else:
        subject = f"{count} partitions share" if count > 1 else "1 partition has"
        moves.say(moved, f"{subject} the slots of {kind}.", again=again)


def _json(moved: Moves) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(moved)
    return {**found, "done": moved.done}


def placement(kind: Kind, as_json: Json = False) -> None:
    """Show who owns the slots, what is on its way, who is pinned, and how busy each is."""
    moves.known(kind)

    async def work(pool: Pool) -> tuple[Overview, list[SlotRun]]:
        operations = Operations(pool, (kind,))
        try:
            return await operations.overview(), (await operations.slots())[kind]
        finally:
            operations.close()

    overview, runs = moves.carry_out(work, again=f"kontor placement {kind}")
    if as_json:
        show({**msgspec.to_builtins(overview), "slots": msgspec.to_builtins(runs)})
        return
    console = Console(highlight=False)
    console.print(_table(overview))
    for view in overview.partitions:
        for key in view.pinned:
            console.print(f"  pinned: {key} in {view.stream}")
    if overview.moving:
        console.print(f"  {overview.moving:,} slots are on the move.")


def _table(overview: Overview) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("Stream", no_wrap=True)
    table.add_column("State", no_wrap=True)
    for column in ("Slots", "Arriving", "Leaving", "In memory", "Load/s", "Queue", "MiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for view in overview.partitions:
        said = (
            (f"{view.entities:,}", f"{view.load:,.1f}", f"{view.queue:,}", f"{view.memory // _MIB}")
            if view.answers
            else ("", "", "", "")
        )
        placed = (f"{view.slots:,}", f"{view.arriving:,}", f"{view.leaving:,}")
        table.add_row(view.stream, view.state, *placed, *said)
    return table

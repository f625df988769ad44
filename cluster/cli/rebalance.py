"""``kontor rebalance``: which slots should move, as the measured load says."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from actors.durable.placement import PRIVATE_FIRST, Suggestion, suggest
from actors.operations import Operations, Overview
from cluster.cli import moves
from cluster.cli.main import Json, show
from cluster.cli.moves import Kind, Moves, NoWait
from cluster.cli.permissions import noted
from cluster.errors import Exit, StartError
from persistence import placement
from persistence.database import Pool

_HOT_SHARE: Final = 0.5


class Advice(msgspec.Struct, frozen=True):
    """A suggestion beside what it was made from: owners and load by slot.

    ``hot`` is a slot that carries more than half of an average partition's load by itself.
    """

    suggestion: Suggestion
    owners: dict[int, str]
    loads: dict[int, float]
    hot: int | None = None


def rebalance(
    kind: Kind,
    apply: Annotated[bool, typer.Option("--apply", help="Carry the suggestion out.")] = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Suggest moves that even out the load of the last seconds; change nothing without --apply."""
    moves.known(kind)
    again = f"kontor placement {kind}"

    async def work(pool: Pool) -> tuple[Advice, Moves | None]:
        advice = await advise(pool, kind)
        if not apply or not advice.suggestion.targets:
            return advice, None
        targets = advice.suggestion.targets
        async with noted(pool, "platform.rebalance", kind, slots=len(targets)):
            await placement.retarget(pool, kind, targets)
        title = f"{kind}: by load"
        return advice, await moves.wait(pool, kind, title, no_wait=no_wait, as_json=as_json)

    advice, moved = moves.carry_out(work, again=again)
    if as_json:
        show(_json(kind, advice, moved))
        return
    _show(Console(highlight=False), kind, advice)
    if moved is not None:
        moves.say(moved, "The slots are where they are to be.", again=again)


async def advise(pool: Pool, kind: str) -> Advice:
    """Ask all partitions for their load, and work out what should move."""
    operations = Operations(pool, (kind,))
    try:
        overview = await operations.overview()
    finally:
        operations.close()
    streams = _sharing(kind, overview)
    loads = {slot: load for view in overview.partitions for slot, load in view.loads}
    owners = await placement.owners(pool, kind)
    owners |= {slot: way[1] for slot, way in (await placement.wishes(pool, kind)).items()}
    return Advice(suggest(owners, loads, streams), owners, loads, _hot(loads, len(streams)))


def _hot(loads: dict[int, float], streams: int) -> int | None:
    shared = {slot: load for slot, load in loads.items() if slot < PRIVATE_FIRST}
    hottest = max(shared, key=shared.__getitem__, default=None)
    if hottest is None or shared[hottest] <= _HOT_SHARE * sum(shared.values()) / streams:
        return None
    return hottest


def _sharing(kind: str, overview: Overview) -> list[str]:
    """The partitions that share the slots; all must have told their load."""
    sharing = [
        view
        for view in overview.partitions
        if (view.slots or view.arriving) and not placement.is_pin(view.stream)
    ]
    silent = [view.stream for view in sharing if not view.answers]
    if silent:
        raise StartError(
            f"{', '.join(silent)} did not answer, so the load is not known", Exit.NOT_RUNNING
        )
    if len(sharing) < 2:
        moves.refuse(f"One partition has all slots: `kontor scale {kind} 2` makes a second.")
    return [view.stream for view in sharing]


def _ways(advice: Advice) -> dict[tuple[str, str], list[int]]:
    ways: dict[tuple[str, str], list[int]] = {}
    for slot, target in advice.suggestion.targets.items():
        ways.setdefault((advice.owners[slot], target), []).append(slot)
    return ways


def _json(kind: str, advice: Advice, moved: Moves | None) -> dict[str, Any]:
    suggestion = advice.suggestion
    return {
        "kind": kind,
        "before": round(suggestion.before, 3),
        "after": round(suggestion.after, 3),
        "moves": [
            {"slot": slot, "from": source, "to": target, "load": advice.loads.get(slot, 0.0)}
            for (source, target), slots in _ways(advice).items()
            for slot in slots
        ],
        "hot_slot": advice.hot,
        "applied": None if moved is None else {**msgspec.to_builtins(moved), "done": moved.done},
    }


def _show(console: Console, kind: str, advice: Advice) -> None:
    suggestion = advice.suggestion
    by_stream: dict[str, float] = {}
    for slot, load in advice.loads.items():
        stream = advice.owners[slot]
        by_stream[stream] = by_stream.get(stream, 0.0) + load
    for stream, load in sorted(by_stream.items(), key=lambda item: placement.order_of(item[0])):
        console.print(f"  {stream}: {load:,.1f} commands/s")
    console.print(f"The busiest partition carries {suggestion.before:.2f} times the average.")
    if not suggestion.targets:
        console.print("No move would make that better.")
    else:
        table = Table("From", "To", box=None, padding=(0, 2, 0, 2))
        table.add_column("Slots", justify="right")
        table.add_column("Load/s", justify="right")
        for (source, target), slots in _ways(advice).items():
            load = sum(advice.loads.get(slot, 0.0) for slot in slots)
            table.add_row(source, target, f"{len(slots):,}", f"{load:,.1f}")
        console.print(table)
        console.print(f"Afterwards it would carry {suggestion.after:.2f} times the average.")
    if advice.hot is not None:
        console.print(
            f"Slot {advice.hot} alone carries {advice.loads[advice.hot]:,.1f}/s: if one"
            f" {moves.noun(kind)} is the reason, `kontor pin {kind} KEY` helps, and no move does."
        )

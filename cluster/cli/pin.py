"""``kontor pin`` and ``kontor unpin``: a busy entity gets a Ray actor alone, or returns."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from cluster.cli import moves
from cluster.cli.main import Json, show
from cluster.cli.moves import Kind, Moves, NoWait
from cluster.cli.permissions import noted
from persistence import placement
from persistence.database import Pool

Key = Annotated[
    str, typer.Argument(help="A customer's number, or an instrument's symbol.", metavar="KEY")
]


def pin(kind: Kind, entity: Key, no_wait: NoWait = False, as_json: Json = False) -> None:
    """Give one customer, or order book, a partition, and so a Ray actor, of its own."""
    key = moves.key_of(kind, entity)

    async def work(pool: Pool) -> tuple[str, Moves]:
        await moves.must_exist(pool, kind, key)
        async with noted(pool, "platform.pin", f"{kind}:{key}"):
            stream = await placement.pin(pool, kind, key)
        title = f"{key} to {stream}"
        return stream, await moves.wait(pool, kind, title, no_wait=no_wait, as_json=as_json)

    again = f"kontor pin {kind} {key}"
    stream, moved = moves.carry_out(work, again=again)
    _show(kind, key, stream, moved, f"{key} has {stream} alone.", again, as_json)


def unpin(kind: Kind, entity: Key, no_wait: NoWait = False, as_json: Json = False) -> None:
    """Let a pinned customer, or order book, live beside others again."""
    key = moves.key_of(kind, entity)

    async def work(pool: Pool) -> tuple[str, Moves]:
        async with noted(pool, "platform.unpin", f"{kind}:{key}"):
            stream = await placement.unpin(pool, kind, key)
        title = f"{key} to {stream}"
        return stream, await moves.wait(pool, kind, title, no_wait=no_wait, as_json=as_json)

    again = f"kontor placement {kind}"
    stream, moved = moves.carry_out(work, again=again)
    _show(kind, key, stream, moved, f"{key} lives in {stream} beside others.", again, as_json)


def _show(
    kind: str, key: str, stream: str, moved: Moves, done: str, again: str, as_json: bool
) -> None:
    if as_json:
        found = msgspec.to_builtins(moved)
        show({"kind": kind, "key": key, "stream": stream, **found, "done": moved.done})
    else:
        moves.say(moved, done, again=again)

"""What the commands have in common that move slots: kinds, wishes passed on, and watching them.

A wish is in Postgres before anything is shown; the partitions fulfil it. So each of these
commands may be interrupted at any time, and asked again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NamedTuple, NoReturn, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from actors.durable.inquiry import nudge
from cluster.cli.asking import ask
from cluster.cli.main import settings
from cluster.errors import Exit, StartError
from domain.accounts.numbers import parse_customer
from domain.orders import ACCOUNTS, BOOKS
from persistence.accounts import has_accounts
from persistence.database import OUTAGES, Pool
from persistence.placement import Unknown, placement, under_way
from persistence.trading.catalogue import instrument

Result = TypeVar("Result")
Question = Callable[[Pool], Awaitable[Result]]

Kind = Annotated[str, typer.Argument(help="What is hosted: accounts, or books.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until the slots are there.")]

_LOOK_S: Final = 0.2
_STILL_S: Final = 10.0
_OUTAGE_S: Final = 30.0
INTERRUPTED: Final = 130


class Moves(msgspec.Struct, frozen=True):
    """How far a move is: slots (and keys to be split off) still ``left`` of ``moves``.

    ``running`` says whether any partition could be told of it.
    """

    moves: int
    left: int
    running: bool
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether everything is where it is to be."""
        return self.left == 0


class _KindOf(NamedTuple):
    noun: str
    key: Callable[[str], str | None]
    what: str
    exists: Callable[[Pool, str], Awaitable[bool]]


def _customer(text: str) -> str | None:
    number = parse_customer(text)
    return None if number is None else str(number)


async def _customer_exists(pool: Pool, key: str) -> bool:
    return await has_accounts(pool, int(key))


def _symbol(text: str) -> str | None:
    symbol = text.strip().upper()
    return symbol if symbol.isascii() and symbol.isalnum() else None


async def _book_exists(pool: Pool, key: str) -> bool:
    return await instrument(pool, key) is not None


_KINDS: Final = {
    ACCOUNTS: _KindOf("customer", _customer, "a customer number: 10 digits", _customer_exists),
    BOOKS: _KindOf("instrument", _symbol, "a symbol: capitals and digits", _book_exists),
}


def refuse(text: str) -> NoReturn:
    """End with one line, and the exit code of a mistake in the call."""
    typer.echo(f"kontor: {text}", err=True)
    raise typer.Exit(2)


def known(kind: str) -> str:
    """The kind, if there is such a one."""
    if kind not in _KINDS:
        refuse(f"There are no {kind} to place: {', '.join(_KINDS)} are.")
    return kind


def noun(kind: str) -> str:
    """What one entity of the kind is called."""
    return _KINDS[kind].noun


def key_of(kind: str, text: str) -> str:
    """The key of an entity as it is stored."""
    key = _KINDS[known(kind)].key(text)
    if key is None:
        refuse(f"{text} is not {_KINDS[kind].what}.")
    return key


async def must_exist(pool: Pool, kind: str, key: str) -> None:
    """Refuse a key that no entity has."""
    if not await _KINDS[kind].exists(pool, key):
        refuse(f"There is no {_KINDS[kind].noun} {key}.")


def carry_out(
    question: Question[Result], *, again: str, what: str = "The move goes on by itself"
) -> Result:
    """Put a question to the database; Ctrl-C leaves what was wished for going on, and says so."""
    try:
        return ask(settings(), question)
    except Unknown as error:
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo(f"kontor: {what}; `{again}` shows it again.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OUTAGES as error:
        raise StartError(
            f"The database does not answer ({type(error).__name__}); what was wished for stands,"
            f" and `{again}` shows it again",
            Exit.DATABASE,
        ) from None


async def tell(pool: Pool, kind: str) -> bool:
    """Let all partitions look at their wishes at once; whether any has heard."""
    rows = [row for row in await placement(pool, kind) if row.wanted and row.port]
    return any(await asyncio.gather(*(nudge(pool, row.stream) for row in rows)))


async def begin(pool: Pool, kind: str) -> Moves:
    """Tell the partitions of a wish that has just been written; how much there is to do."""
    left = await under_way(pool, kind)
    running = await tell(pool, kind)
    return Moves(left, left, running)


async def follow(pool: Pool, kind: str, begun: Moves, title: str, *, quiet: bool) -> Moves:
    """Show how slots arrive, until all are where they are to be."""
    started = changed = time.monotonic()
    left, moves = begun.left, begun.moves
    console = Console(stderr=True, highlight=False, quiet=quiet or not sys.stderr.isatty())
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("slots"),
        TimeElapsedColumn(), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=moves, note="")
        while left:
            await asyncio.sleep(_LOOK_S)
            before, left = left, await _left(pool, kind)
            now = time.monotonic()
            changed = now if left != before else changed
            moves = max(moves, left)
            still = now - changed > _STILL_S
            note = f"nothing has moved lately: see kontor placement {kind}" if still else ""
            bar.update(task, completed=moves - left, total=moves, note=note)
    return Moves(moves, left, True, round(time.monotonic() - started, 3))


async def _left(pool: Pool, kind: str) -> int:
    """How much is under way; a database that is just being restarted is waited for."""
    deadline = time.monotonic() + _OUTAGE_S
    while True:
        try:
            return await under_way(pool, kind)
        except OUTAGES:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_LOOK_S)


async def wait(pool: Pool, kind: str, title: str, *, no_wait: bool, as_json: bool) -> Moves:
    """After a wish: tell of it, and follow it unless nobody is there to carry it out."""
    begun = await begin(pool, kind)
    if no_wait or begun.done or not begun.running:
        return begun
    return await follow(pool, kind, begun, title, quiet=as_json)


def say(moves: Moves, done: str, *, again: str) -> None:
    """How it has gone, for people."""
    if moves.done:
        how = f" {moves.moves:,} moved in {moves.seconds:.1f} s." if moves.moves else ""
        typer.echo(done + how)
    elif moves.running:
        typer.echo(f"{moves.left:,} slots are on the move; `{again}` shows how far they are.")
    else:
        typer.echo(
            f"No partition answers: {moves.left:,} slots will move when the platform runs again."
        )

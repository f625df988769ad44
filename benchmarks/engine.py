"""How many messages a second the matching engine takes, in flows of different kinds, on one core.

Tapes are made before the clock starts and lie in memory as columns of numbers, as close to decoded
orders as they can be; the loop that feeds them is part of what is measured, and is also measured
alone. What the engine reports is drained after each hundred messages of a book. Time is that of the
processor, so that neighbours who want it too count less.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from array import array
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any, TypeAlias

import msgspec

from benchmarks.engine_peers import PEERS
from benchmarks.flows import AMEND, CANCEL, FLOWS, PLACE, Message, Placed, Tape
from domain.trading import engine
from domain.trading.book import Book

Columns: TypeAlias = "list[array[int]]"

_NO_ORDER = Placed(0, 0, 0, 0, 0, 0)


class Options(msgspec.Struct, frozen=True):
    """``messages`` of each flow, in ``chunks``; peers run ``seconds`` of each flow in the
    environment of the interpreter ``peers``, where they are installed there."""

    messages: int = 500_000
    chunks: int = 20
    seconds: float = 1.0
    peers: str = sys.executable
    plain: bool = True


def columns(messages: list[Message]) -> Columns:
    """A part of a tape as columns: symbol, action, number, new number and the order's fields."""
    result: Columns = [array("q") for _ in range(9)]
    for action, number, quantity, order, symbol in messages:
        new = order or _NO_ORDER._replace(quantity=quantity)
        for column, value in zip(result, (symbol, action, number, *new), strict=True):
            column.append(value)
    return result


def play(books: list[Book], tape: Columns, seen: list[int]) -> None:
    """Give the messages to their books."""
    for symbol, action, number, new, side, kind, force, price, quantity in zip(*tape, strict=True):
        book = books[symbol]
        if action == PLACE:
            book.place(number, side, kind, force, price, quantity)
        elif action == CANCEL:
            book.cancel(number)
        elif action == AMEND:
            book.amend(number, quantity)
        else:
            book.cancel(number)
            book.place(new, side, kind, force, price, quantity)
        seen[symbol] += 1
        if seen[symbol] == 100:
            seen[symbol] = 0
            book.drain()


def _idle(books: list[Book], tape: Columns, seen: list[int]) -> None:
    """The loop of ``play`` without the engine."""
    for symbol, action, number, _, _, _, _, _, _ in zip(*tape, strict=True):
        if books[symbol] is None or action < 0 or number < 0:
            raise AssertionError
        seen[symbol] += 1
        if seen[symbol] == 100:
            seen[symbol] = 0


def measure(make: Callable[[], Book], tape: Tape, options: Options) -> dict[str, Any]:
    """One flow: the rate of all of it, of the middle one of its chunks, and of the best."""
    books = [make() for _ in range(tape.symbols)]
    seen = [0] * tape.symbols
    play(books, columns(tape.opening), seen)
    for book in books:
        book.drain()
    size = options.messages // options.chunks
    parts = [columns(list(islice(tape.messages, size))) for _ in range(options.chunks)]
    gc.collect()
    gc.freeze()
    times = []
    for part in parts:
        start = thread_time()
        play(books, part, seen)
        times.append(thread_time() - start)
    start = thread_time()
    for part in parts:
        _idle(books, part, seen)
    idle = thread_time() - start
    gc.unfreeze()
    done = size * options.chunks
    return {
        "messages_per_second": round(done / sum(times)),
        "median": round(size / median(times)),
        "best": round(size / min(times)),
        "loop_ns": round(idle / done * 1e9),
        "trades": sum(book.trade_id for book in books),
        "resting": sum(book.open_orders for book in books),
    }


def run(options: Options, tell: Callable[[str], None]) -> dict[str, Any]:
    """All flows through our engine, in each form that is there, and through the peers."""
    gc.set_threshold(50_000, 20, 100)  # as an actor has it
    forms: dict[str, type[Book]] = {"compiled": engine.Book} if engine.COMPILED else {}
    if options.plain or not forms:
        forms["plain"] = Book
    result: dict[str, Any] = {"messages": options.messages, "forms": {}, "peers": {}}
    for form, make in forms.items():
        flows: dict[str, Any] = {}
        for flow in FLOWS:
            tape = flow()
            tell(f"{form}: {tape.name}")
            flows[tape.name] = measure(make, tape, options)
        result["forms"][form] = flows
    for name in PEERS:
        tell(name)
        result["peers"][name] = _peer(name, options)
    return result


def _peer(name: str, options: Options) -> dict[str, Any]:
    command = [options.peers, "-m", "benchmarks.engine_peers", name, str(options.seconds)]
    root = Path(__file__).resolve().parent.parent
    limit = 60 + 200 * options.seconds
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"absent": f"no end after {limit:.0f} s"}
    if done.returncode:
        return {"absent": done.stderr.decode(errors="replace").strip()[-200:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found

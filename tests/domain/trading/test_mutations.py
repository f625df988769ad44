"""The engine broken on purpose: some test must fail each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from domain.trading import auction, book, judging, resting
from domain.trading.book import Book
from domain.trading.levels import Ladder, Level, Rows
from domain.trading.resting import Resting
from tests.domain.trading import test_book
from tests.domain.trading.test_book import Scene
from tests.domain.trading.test_twin import TAPES, Books, run
from tests.mutation import Mutation, found_by

MUTATIONS = [
    Mutation(
        "a better price does not go first",
        Ladder,
        "_list",
        "insort(keys, key)",
        "keys.append(key)",
    ),
    Mutation(
        "the latest goes first",
        Book,
        "_take",
        "level.price, level.first",
        "level.price, level.last",
    ),
    Mutation(
        "an amended order loses its place",
        Book,
        "amend",
        "cells[row + QUANTITY] = quantity\n",
        "cells[row + QUANTITY] = quantity\n    self._level(row).unlink(row)\n"
        "    self._level(row).append(row)\n",
    ),
    Mutation(
        "an amended iceberg shows less than it could",
        Book,
        "amend",
        "-hidden if hidden < 0 else 0",
        "cells[row + VISIBLE] - 1 if hidden < 0 else 0",
    ),
    Mutation(
        "an order can be amended upwards",
        Book,
        "amend",
        "filled < quantity < before",
        "filled < quantity != before",
    ),
    Mutation(
        "a refused fill-or-kill has traded",
        Book,
        "_enter",
        "not self._fillable(order, bound)",
        "self._take(order, bound) != 0",
    ),
    Mutation(
        "a stop fires on a refused fill-or-kill",
        Book,
        "_enter",
        "bound):\n",
        "bound):\n        self.last = order.price\n",
    ),
    Mutation(
        "a fill-or-kill counts only what is visible",
        Book,
        "_fillable",
        "level.total, False",
        "level.quantity, False",
    ),
    Mutation(
        "a fill-or-kill counts orders of its owner",
        Book,
        "_fillable",
        "if order.conditions.self_trade:",
        "if False:",
    ),
    Mutation(
        "a fill-or-kill counts what icebergs show after its owner's order",
        judging,
        "offered",
        "return visible, True",
        "return quantity, True",
    ),
    Mutation(
        "self-trade prevention expires the wrong side",
        Book,
        "_take",
        "if mode != EXPIRE_TAKER:",
        "if True:",
    ),
    Mutation(
        "expire maker ends the taker too",
        Book,
        "_take",
        "if mode != EXPIRE_MAKER:",
        "if True:",
    ),
    Mutation(
        "expire both leaves the taker",
        Book,
        "_take",
        "if mode != EXPIRE_MAKER:",
        "if mode == EXPIRE_TAKER:",
    ),
    Mutation(
        "a decrement leaves the taker as large as it was",
        Book,
        "_take",
        "taker.quantity -= quantity",
        "pass",
    ),
    Mutation(
        "a decremented order loses its place",
        Book,
        "_decrement",
        "if not cells[row + VISIBLE]:",
        "if True:",
    ),
    Mutation(
        "self-trade prevention is off in auctions",
        Book,
        "_clear",
        "if mode and",
        "if False and",
    ),
    Mutation(
        "the older order is the taker of an auction",
        Book,
        "_clear",
        "cells[maker + SEQUENCE] > cells[taker + SEQUENCE]",
        "cells[maker + SEQUENCE] < cells[taker + SEQUENCE]",
    ),
    Mutation(
        "an iceberg that shows more keeps its place",
        Level,
        "refill",
        "if self.last != row:",
        "if False:",
    ),
    Mutation(
        "an iceberg shows everything at once",
        Level,
        "refill",
        "display if 0 < display < left else left",
        "left",
    ),
    Mutation(
        "an iceberg is not hidden to begin with",
        Book,
        "_rest",
        "display if 0 < display < left else left",
        "left",
    ),
    Mutation(
        "a cancel loses those before it",
        Level,
        "unlink",
        "cells[after + PREVIOUS] = before",
        "cells[after + PREVIOUS] = 0",
    ),
    Mutation(
        "a cancel leaves its quantity in the level",
        Ladder,
        "remove",
        "level.quantity -= cells[row + VISIBLE]",
        "pass",
    ),
    Mutation(
        "a row is given away while its order is in the book",
        Level,
        "reduce",
        "if not self.touched:",
        "self.rows.end(row)\n    if not self.touched:",
    ),
    Mutation(
        "a row keeps the conditions of its last order",
        Rows,
        "end",
        "del self._conditions[row]",
        "pass",
    ),
    Mutation(
        "rows are never used again",
        Rows,
        "end",
        "self._free = row",
        "pass",
    ),
    Mutation(
        "levels are never used again",
        Rows,
        "forget",
        "self._spare.append(level)",
        "pass",
    ),
    Mutation(
        "a level that comes back at another price keeps its key",
        Rows,
        "level",
        "level.ladder, level.price, level.key = ladder, price, key",
        "level.ladder, level.price = ladder, price",
    ),
    Mutation(
        "a stop cannot be cancelled",
        Book,
        "cancel",
        "if not row:",
        "if not row or rows.conditions(row).trigger:",
    ),
    Mutation(
        "stops wait for the wrong direction",
        judging,
        "rises",
        "loses == (order.side == BUY)",
        "loses != (order.side == BUY)",
    ),
    Mutation(
        "stops fire one tick late",
        Book,
        "_collect",
        "level.key < last",
        "level.key <= last",
    ),
    Mutation(
        "stops do not set off other stops",
        Book,
        "_fire",
        "if index == len(fired):",
        "if index and index >= len(fired) - 1:",
    ),
    Mutation(
        "trades do not move the last price",
        Book,
        "_trade",
        "self.last = price",
        "self.last = self.last or price",
    ),
    Mutation(
        "a snapshot forgets the stops",
        Resting,
        "snapshot",
        "[stored(self._rows, row) for row in queue(self._falling)]",
        "[]",
    ),
    Mutation(
        "a snapshot shows icebergs anew",
        Resting,
        "_put_back",
        "price, kept.visible, kept.sequence",
        "price, kept.quantity - kept.filled, kept.sequence",
    ),
    Mutation(
        "a restored book fires no stops",
        Resting,
        "load",
        "self._stops = len(state.rising) + len(state.falling)",
        "pass",
    ),
    Mutation(
        "a restored book tells all levels again",
        Resting,
        "load",
        "ladder.drain(BUY)",
        "pass",
    ),
    Mutation(
        "a level that came back is told as gone",
        Ladder,
        "drain",
        "if not level.listed:",
        "if not level.first:",
    ),
    Mutation(
        "changes that undo each other are told",
        Ladder,
        "drain",
        "if level.quantity != level.told:",
        "if True:",
    ),
    Mutation(
        "updates are numbered by drain, not by level",
        Resting,
        "drain",
        "self.update_id += len(levels)",
        "self.update_id += 1",
    ),
    Mutation(
        "sweeping loses a level",
        Ladder,
        "_sweep",
        "if level.first:",
        "if level.first and key > self._keys[0]:",
    ),
    Mutation(
        "a budget is overspent by a lot",
        Book,
        "_take",
        "min(quantity, budget // price)",
        "min(quantity, (budget + price - 1) // price)",
    ),
    Mutation(
        "a worst price is ignored",
        Book,
        "_bound",
        "order.price if order.price else ANY",
        "ANY if order.type == 2 else order.price",
    ),
    Mutation(
        "market orders leave the band",
        Book,
        "_bound",
        "price if price < self._bid_bound else self._bid_bound",
        "price",
    ),
    Mutation(
        "the band has only an upper side",
        Resting,
        "_draw_band",
        "reference - down // BAND_UNIT if down else 0",
        "0",
    ),
    Mutation(
        "good-till-date orders end a moment late",
        Book,
        "advance",
        "self._expiries[0][0] <= self.now",
        "self._expiries[0][0] < self.now",
    ),
    Mutation(
        "a number used again ends at its old date",
        Book,
        "advance",
        "if self._lives(entry)",
        "if self._rows.directory.find(self._rows.cells, entry[1])",
    ),
    Mutation(
        "a halted book takes orders",
        Book,
        "_flaw",
        "self.phase != OPEN and self.phase != AUCTION",
        "self.phase == CLOSED",
    ),
    Mutation(
        "a halted auction opens crossed",
        Book,
        "resume",
        "AUCTION if self._crossed() else OPEN",
        "OPEN",
    ),
    Mutation(
        "an auction leaves more over than it must",
        auction,
        "clearing",
        "abs(d - s)",
        "0",
    ),
    Mutation(
        "an auction forgets the reference",
        auction,
        "clearing",
        "if reference else",
        "if False else",
    ),
    Mutation(
        "delisting leaves the stops",
        Book,
        "delist",
        "(self._bids, self._asks, self._rising, self._falling)",
        "(self._bids, self._asks)",
    ),
]


def _example(function: Callable[..., None], fields: tuple[object, ...]) -> None:
    if "scene" in inspect.signature(function).parameters:
        function(Scene())
    else:
        function(*fields)


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """The examples, then tapes and random commands against the twin."""
    for name, function in inspect.getmembers(test_book, inspect.isfunction):
        if name == test_book.test_orders_that_make_no_sense_are_refused.__name__:
            for row in test_book.FLAWS:
                yield f"{name}[{row[0]}]", partial(_example, function, row)
        elif name.startswith("test_"):
            yield name, partial(_example, function, ())
    bounds = settings(
        max_examples=150,
        stateful_step_count=60,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    yield "test_twin", partial(run_state_machine_as_test, Books, settings=bounds)
    for index, (make, count) in enumerate(TAPES):
        yield f"tape {index}", partial(_tape, make, count)


def _tape(make: Callable[[], object], count: int) -> None:
    run(make(), count, 7)  # type: ignore[arg-type]


def found_in_engine(mutation: Mutation, patch: pytest.MonkeyPatch) -> str | None:
    """The first test that fails with the mutation in place, which every user of a name sees."""
    mutation.apply(patch)
    if inspect.ismodule(mutation.owner):
        broken = getattr(mutation.owner, mutation.name)
        for module in (book, resting, judging):
            if hasattr(module, mutation.name):
                patch.setattr(module, mutation.name, broken)
    return found_by(checks())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_a_broken_engine_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_in_engine(mutation, monkeypatch) is not None, "no test fails"


def test_an_unbroken_engine_passes() -> None:
    assert found_by(checks()) is None

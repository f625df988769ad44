"""The projector: from the committed journal to trades, candles, orders and fills.

One for the whole platform, beside the partitions and never in their way: it reads what they have
committed, at its own pace, behind a durable position in each stream. It may be killed anywhere, be
away for a day, or run twice by mistake; each row of the journal counts once. What is traded is
told by the journals of the books, what became of a customer's orders by that customer's own.
"""

from __future__ import annotations

from typing import Final

import msgspec

from actors.following import CHUNK_BYTES, Follower, Turn, decoders, events_of, tag_of
from domain.accounts import events as accounts
from domain.orders import BOOKS, OrderStatus, Place
from domain.trading import events as books
from persistence.database import Pool
from persistence.following import Stored
from persistence.journal import to_datetime
from persistence.trading.projector import CURSOR, History, OrderLine, begin_life, write


class _Worked(msgspec.Struct, array_like=True, gc=False, tag=4):
    """``books.OrdersWorked``, of which only time and trades are wanted here."""

    id: msgspec.Raw
    customer: msgspec.Raw
    maker: msgspec.Raw
    taker: msgspec.Raw
    at: int
    actions: msgspec.Raw
    updates: msgspec.Raw
    trades: tuple[books.Trade, ...]


assert tag_of(_Worked) == tag_of(books.OrdersWorked)
_BOOKS: Final = decoders(_Worked, books.StatusChanged)
_ACCOUNTS: Final = decoders(accounts.OrdersPlaced, accounts.OrdersWorked, accounts.OrdersSettled)


def _gather_placed(chunk: History, event: accounts.OrdersPlaced) -> None:
    at = to_datetime(event.at)
    number = 0
    for action in event.actions:
        if type(action) is not Place:
            continue
        chunk.placed(
            OrderLine(
                event.customer, action.ref, event.symbol, event.clients[number],
                int(action.side), int(action.type), int(action.time_in_force), action.price,
                action.quantity, action.trigger, action.display, action.budget,
                int(action.self_trade),
                to_datetime(action.expires_at) if action.expires_at else None,
                event.previous[number] if event.previous else "",
                int(OrderStatus.PENDING), 0, 0, 0, "", at, at,
                begin_life(OrderStatus.PENDING, at),
            )
        )  # fmt: skip
        number += 1


class Projector(Follower[History]):
    """Follows accounts and books, and writes history."""

    name = "projector"

    def __init__(
        self,
        pool: Pool,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        poll_s: float = 0.25,
        rest: float = 1.0,
    ) -> None:
        super().__init__(pool, CURSOR, chunk_bytes=chunk_bytes, poll_s=poll_s, rest=rest)

    def begin(self) -> History:
        """Nothing yet."""
        return History()

    def gather(self, chunk: History, row: Stored, turn: Turn) -> None:
        """Trades where it is a book's row, else what became of orders."""
        if row.stream.startswith(f"{BOOKS}/"):
            for symbol, event in events_of(turn, _BOOKS):
                if event.trades:
                    chunk.traded(symbol, event.at, event.trades)
            return
        for _, event in events_of(turn, _ACCOUNTS):
            if type(event) is accounts.OrdersPlaced:
                _gather_placed(chunk, event)
            else:
                answer = type(event) is accounts.OrdersWorked
                chunk.updated(event.customer, event.symbol, event.at, event.updates, answer=answer)

    async def write(self, chunk: History) -> None:
        """All of it, or nothing."""
        await write(self._pool, chunk)

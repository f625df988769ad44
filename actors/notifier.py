"""The notifier: from the committed journal of customers' accounts to what people are told.

It follows at its own pace, behind a durable position in each stream, and rests long after each
transaction: those who pay and trade come first, and a person reads no faster for it. The position
moves with the last of what a chunk gives to tell, and each event has a key of its own: so it is
told once whatever happens. What a customer's orders came to is in that customer's own journal, so
those of the books are not read.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from actors.following import Follower, Turn, decoders, events_of
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import customer_of
from domain.identity.rules import short_name
from domain.money import format_amount
from domain.notifications import Kind
from domain.orders import ACCOUNTS, UNIT_EXPONENT, OrderStatus
from persistence import notifications as store
from persistence.database import Connection, Pool
from persistence.following import Chunk, Cursor, Stored
from persistence.identity import user_names
from persistence.journal import Corrupt
from persistence.notifications import Notice
from persistence.trading.catalogue import instrument

CURSOR: Final = Cursor("notified", (ACCOUNTS,))
CHUNK_BYTES: Final = 1024 * 1024
SLICE: Final = 500
"""So many are told in one transaction: it holds up nobody for long."""
POLL_S: Final = 0.4
REST: Final = 9.0
"""A tenth of the time at most goes into it."""

KEPT: Final = timedelta(days=730)
"""How long what was told can be read."""

_CHOICES_EVERY_S: Final = 2.0
_FORGET_EVERY_S: Final = 600.0

_MONEY: Final = decoders(
    ev.TransferReceived, ev.TransferReturned, ev.StatusChanged, ev.AdjustmentPosted
)
_ORDERS: Final = decoders(ev.OrdersWorked, ev.OrdersSettled)


class Told(Chunk):
    """What some rows of the journal give to tell, in their order.

    ``filled`` are orders: customer, symbol, number, lots, and ticks times lots.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[Notice] = []
        self.filled: list[tuple[int, str, int, int, int]] = []


class Notifier(Follower[Told]):
    """Follows accounts, and tells. ``announce`` is told after each commit who has something new."""

    name = "notifier"
    rows_min = 1
    rest_max_s = 1.0

    def __init__(
        self,
        pool: Pool,
        announce: Callable[[Collection[int]], Awaitable[None]],
        *,
        chunk_bytes: int = CHUNK_BYTES,
        poll_s: float = POLL_S,
        rest: float = REST,
    ) -> None:
        super().__init__(pool, CURSOR, chunk_bytes=chunk_bytes, poll_s=poll_s, rest=rest)
        self.told = 0
        self._announce = announce
        self._tell_orders: frozenset[str] = frozenset()
        self._asked_at = float("-inf")
        self._forgot_at = float("-inf")

    async def step(self) -> int:
        """Read one chunk. Few want to hear of their orders: those of others are not looked at."""
        now = time.monotonic()
        if now - self._asked_at >= _CHOICES_EVERY_S:
            wanting = await store.who_chose(self._pool, Kind.ORDER_FILLED)
            self._tell_orders = frozenset(map(str, wanting))
            self._asked_at = now
        if now - self._forgot_at >= _FORGET_EVERY_S:
            await store.forget(self._pool, datetime.now(UTC) - KEPT)
            self._forgot_at = now
        return await super().step()

    def begin(self) -> Told:
        """Nothing yet."""
        return Told()

    def gather(self, chunk: Told, row: Stored, turn: Turn) -> None:
        """What a row gives to tell."""
        for place, (_, event) in enumerate(events_of(turn, _MONEY)):
            notice = _notice(event, f"{row.stream}:{row.seq}:{place}")
            if notice is not None:
                chunk.notices.append(notice)
        if self._tell_orders:
            for _, event in events_of(turn, _ORDERS, self._tell_orders):
                for update in event.updates:
                    if update.status == OrderStatus.FILLED and not update.code:
                        chunk.filled.append(
                            (event.customer, event.symbol, update.ref, update.filled, update.quote)
                        )

    async def write(self, chunk: Told) -> None:
        """All of it in slices, the last with the position after it; a slice that is told again,
        because that never came, is known by its keys."""
        notices = await _named(self._pool, chunk.notices)
        notices += await _filled(self._pool, chunk.filled)
        last = max(0, len(notices) - 1) // SLICE * SLICE
        for start in range(0, last, SLICE):
            started = time.monotonic()
            await self._tell(notices[start : start + SLICE])
            await self._breathe(time.monotonic() - started)
        await self._tell(notices[last:], chunk)

    async def _tell(self, notices: list[Notice], chunk: Told | None = None) -> None:
        """One transaction; then those concerned are woken."""
        async with self._pool.acquire() as proxy, proxy.transaction():
            connection = cast(Connection, proxy)
            if chunk is not None:
                await CURSOR.advance(connection, chunk.ranges)
            told = await store.notify_many(connection, notices) if notices else {}
        self.told += len(notices)
        if told:
            await self._announce(told.keys())

    def describe(self) -> dict[str, Any]:
        """How it is, and how much it has told since it began."""
        return {**super().describe(), "told": self.told}


def _notice(event: Any, place: str) -> Notice | None:
    """What an event gives to tell, if anything; ``place`` is where in the journal it stands."""
    kind = type(event)
    if kind is ev.TransferReceived:
        if customer_of(event.source) == customer_of(event.destination):
            return None
        return _payment(Kind.TRANSFER_RECEIVED, event, event.destination, event.source)
    if kind is ev.TransferReturned:
        return _payment(
            Kind.TRANSFER_RETURNED, event, event.source, event.destination, reason=event.reason
        )
    if kind is ev.AdjustmentPosted:
        values = {
            "amount": format_amount(event.amount, event.currency),
            "currency": event.currency,
            "account": str(event.account),
            "reason": event.reason,
            "adjustment": event.adjustment.hex(),
        }
        key = f"adjustment:{event.adjustment.hex()}"
        return Notice(customer_of(event.account), Kind.ADJUSTMENT_POSTED, values, key)
    status = {
        AccountStatus.FROZEN: Kind.ACCOUNT_FROZEN,
        AccountStatus.OPEN: Kind.ACCOUNT_UNFROZEN,
    }.get(event.status)
    if status is None:
        return None
    values = {"account": str(event.account)}
    return Notice(customer_of(event.account), status, values, f"status:{place}")


def _payment(kind: Kind, event: Any, account: int, counterparty: int, **more: str) -> Notice:
    values = {
        "amount": format_amount(event.amount, event.currency),
        "currency": event.currency,
        "account": str(account),
        "counterparty": str(counterparty),
        "transfer": event.transfer.hex(),
        **more,
    }
    return Notice(customer_of(account), kind, values, f"{kind}:{event.transfer.hex()}")


async def _named(database: Pool, notices: list[Notice]) -> list[Notice]:
    """The same, with the name of whoever is on the other side of a payment."""
    customers = {
        customer_of(int(notice.values["counterparty"]))
        for notice in notices
        if "counterparty" in notice.values
    }
    if not customers:
        return notices
    names = await user_names(database, customers)
    found = []
    for notice in notices:
        other = notice.values.get("counterparty")
        if other is not None:
            values = {**notice.values, "name": short_name(names.get(customer_of(int(other)), ""))}
            notice = Notice(notice.user, notice.kind, values, notice.key)
        found.append(notice)
    return found


async def _filled(database: Pool, filled: list[tuple[int, str, int, int, int]]) -> list[Notice]:
    """Orders that are filled, in the units that people know."""
    if not filled:
        return []
    listed = {symbol: await instrument(database, symbol) for symbol in {row[1] for row in filled}}
    found = []
    for customer, symbol, ref, lots, ticks in filled:
        about = listed[symbol]
        if about is None:
            raise Corrupt(f"An order for {symbol} was filled, which was never listed.")
        values = {
            "symbol": symbol,
            "quantity": _decimal(lots * about.lot),
            "base": about.base,
            "value": _decimal(ticks * about.unit),
            "quote": about.quote,
            "order": str(ref),
        }
        found.append(Notice(customer, Kind.ORDER_FILLED, values, f"order:{ref}"))
    return found


def _decimal(units: int) -> str:
    """Units of 10^-8 as a decimal number, with at least two decimals."""
    whole, fraction = divmod(units, 10**UNIT_EXPONENT)
    return f"{whole}.{f'{fraction:0{UNIT_EXPONENT}d}'.rstrip('0').ljust(2, '0')}"

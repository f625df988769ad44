"""What the projector writes: trades, candles, orders and fills, with how far it has read.

``History`` gathers what some rows of the journal say; ``write`` stores it together with the new
positions in one transaction. May read the journal and write the tables of migration 0009.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec

from domain.orders import ACCOUNTS, BOOKS, Fill, OrderStatus, Side, Update
from domain.trading.events import Trade
from persistence.database import Connection, Pool
from persistence.following import Chunk, Cursor
from persistence.journal import Corrupt, to_datetime, to_microseconds

LEVELS: Final = (60, 900, 3_600, 86_400)
"""Lengths of the candles that are stored, in seconds; each divides the next."""

CURSOR: Final = Cursor("projected", (ACCOUNTS, BOOKS))

MINUTE_US: Final = 60_000_000


class OrderLine(msgspec.Struct):
    """A row of ``orders``. ``life`` is status and time by turns, of what is new."""

    customer: int
    ref: int
    symbol: str
    client: str
    side: int
    type: int
    time_in_force: int
    price: int
    quantity: int
    trigger: int
    display: int
    budget: int
    self_trade: int
    expires_at: datetime | None
    previous: str
    status: int
    filled: int
    quote: int
    fee: int
    code: str
    placed_at: datetime
    updated_at: datetime
    life: list[int]

    def take(self, update: Update, at: int, *, refusable: bool) -> None:
        """Let ``update`` count, unless it tells of a time before what is known already.

        An answer of the book and what happened to the order meanwhile come on different ways: the
        one that tells of more trades, or of the end, is the later. With ``refusable`` a code says
        that an action was refused: only an order that had just been placed is over by that.
        """
        if update.code and refusable and self.status != OrderStatus.PENDING:
            return
        ended = update.status >= OrderStatus.FILLED
        if not ended and update.filled < self.filled:
            return
        if ended or update.filled > self.filled:
            self.quantity = update.quantity or self.quantity
        else:
            self.quantity = min(self.quantity, update.quantity) or self.quantity
        if ended or update.status > self.status:
            self.status = int(update.status)
            self.life += [self.status, at]
        self.filled, self.quote = update.filled, update.quote
        self.code = update.code or self.code
        self.updated_at = max(self.updated_at, to_datetime(at))


class History(Chunk):
    """What some rows of the journal say, in the order in which they are to be believed."""

    def __init__(self) -> None:
        super().__init__()
        self.trades: list[tuple[Any, ...]] = []
        self.orders: dict[tuple[int, int], OrderLine] = {}
        self.updates: list[tuple[int, str, int, Update, bool]] = []

    def traded(self, symbol: str, at: int, trades: Iterable[Trade]) -> None:
        """Trades of a book, in their order."""
        moment = to_datetime(at)
        for trade in trades:
            self.trades.append(
                (
                    symbol, trade.id, moment, trade.price, trade.quantity, int(trade.side),
                    trade.maker, trade.taker, trade.maker_fee, trade.taker_fee,
                )
            )  # fmt: skip

    def placed(self, line: OrderLine) -> None:
        """An order that is new."""
        if (line.customer, line.ref) in self.orders:
            raise Corrupt(f"Order {line.ref} of {line.customer} was placed twice.")
        self.orders[line.customer, line.ref] = line

    def updated(
        self, customer: int, symbol: str, at: int, updates: Iterable[Update], *, answer: bool
    ) -> None:
        """What became of orders; ``answer`` where it answers the customer's own actions."""
        self.updates += [(customer, symbol, at, update, answer) for update in updates]


async def start_over(pool: Pool) -> None:
    """Forget all history and all positions; it is made anew from the journal, by whoever reads."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE projected IN EXCLUSIVE MODE")
        await connection.execute("TRUNCATE trades, candles, orders, fills")
        await connection.execute("UPDATE projected SET seq = 0, at = NULL")


# -- writing ----------------------------------------------------------------------------------

_LAST_TRADES: Final = """
SELECT s.symbol, t.id FROM unnest($1::text[]) AS s (symbol) CROSS JOIN LATERAL (
    SELECT id FROM trades WHERE symbol = s.symbol ORDER BY id DESC LIMIT 1) AS t"""

_CANDLES: Final = """
INSERT INTO candles AS c (symbol, seconds, at, open, high, low, close, volume, quote, bought,
    bought_quote, first, last)
SELECT * FROM unnest($1::text[], $2::integer[], $3::timestamptz[], $4::bigint[], $5::bigint[],
    $6::bigint[], $7::bigint[], $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[],
    $12::bigint[], $13::bigint[])
ON CONFLICT (symbol, seconds, at) DO UPDATE SET
    high = greatest(c.high, excluded.high), low = least(c.low, excluded.low),
    close = excluded.close, volume = c.volume + excluded.volume, quote = c.quote + excluded.quote,
    bought = c.bought + excluded.bought, bought_quote = c.bought_quote + excluded.bought_quote,
    last = excluded.last"""

_ORDER_COLUMNS: Final = OrderLine.__struct_fields__
_KNOWN: Final = f"""
SELECT {", ".join(f"o.{name}" for name in _ORDER_COLUMNS[:-1])}, '{{}}'::bigint[] FROM orders o
JOIN unnest($1::bigint[], $2::bigint[]) AS k (customer, ref) USING (customer, ref)"""

_CHANGED: Final = """
UPDATE orders o SET quantity = n.quantity, status = n.status, filled = n.filled, quote = n.quote,
    fee = n.fee, code = n.code, updated_at = n.updated_at, life = o.life || n.life::bigint[]
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::text[], $9::timestamptz[], $10::text[])
    AS n (customer, ref, quantity, status, filled, quote, fee, code, updated_at, life)
WHERE o.customer = n.customer AND o.ref = n.ref"""

_TRADE_COLUMNS: Final = (
    "symbol", "id", "at", "price", "quantity", "side", "maker", "taker", "maker_fee", "taker_fee",
)  # fmt: skip
_FILL_COLUMNS: Final = (
    "customer", "ref", "trade", "symbol", "side", "price", "quantity", "fee", "maker", "at",
)  # fmt: skip


async def write(pool: Pool, chunk: History) -> None:
    """Store a chunk and the positions after it, or nothing.

    Raises ``Overtaken`` when a position is not where the chunk began, and ``Corrupt`` when what it
    says cannot follow what is there.
    """
    async with pool.acquire() as proxy, proxy.transaction():
        connection = cast(Connection, proxy)
        await CURSOR.advance(connection, chunk.ranges)
        if chunk.trades:
            await _write_trades(connection, chunk.trades)
        if chunk.orders or chunk.updates:
            await _write_orders(connection, chunk)


async def _write_trades(connection: Connection, trades: Sequence[tuple[Any, ...]]) -> None:
    symbols = list({trade[0] for trade in trades})
    last = {row["symbol"]: row["id"] for row in await connection.fetch(_LAST_TRADES, symbols)}
    for symbol, trade, *_ in trades:
        if trade != last.get(symbol, 0) + 1:
            raise Corrupt(f"Trade {trade} of {symbol} follows {last.get(symbol, 0)}.")
        last[symbol] = trade
    await connection.copy_records_to_table("trades", records=trades, columns=_TRADE_COLUMNS)
    columns = zip(*candles_of(trades), strict=True)
    await connection.execute(_CANDLES, *(list(column) for column in columns))


def candles_of(trades: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The candles of all stored lengths that these trades make, as rows."""
    found: dict[tuple[str, int, int], list[Any]] = {}
    for symbol, trade, at, price, quantity, side, *_ in trades:
        value = price * quantity
        second = int(at.timestamp())
        for level in LEVELS:
            key = (symbol, level, second // level * level)
            candle = found.get(key)
            if candle is None:
                candle = found[key] = [price, price, price, price, 0, 0, 0, 0, trade, trade]
            elif price > candle[1]:
                candle[1] = price
            elif price < candle[2]:
                candle[2] = price
            candle[3] = price
            candle[4] += quantity
            candle[5] += value
            if side == Side.BUY:
                candle[6] += quantity
                candle[7] += value
            candle[9] = trade
    return [
        (symbol, level, datetime.fromtimestamp(start, UTC), *candle)
        for (symbol, level, start), candle in found.items()
    ]


async def _write_orders(connection: Connection, chunk: History) -> None:
    known = await _known(connection, chunk)
    changed: dict[tuple[int, int], OrderLine] = {}
    fills: list[tuple[Any, ...]] = []
    for customer, symbol, at, update, answer in chunk.updates:
        key = (customer, update.ref)
        line = chunk.orders.get(key)
        if line is None:
            line = known.get(key)
            if line is None:
                if update.code:
                    continue  # an action that named an order which never was
                raise Corrupt(f"Order {update.ref} of {customer} was never placed.")
            changed[key] = line
        line.take(update, at, refusable=answer)
        for fill in update.fills:
            line.fee += fill.fee
            fills.append(_fill_row(line, fill, symbol, at))
    new = chunk.orders.values()
    if new:
        rows = [msgspec.structs.astuple(line) for line in new]
        await connection.copy_records_to_table("orders", records=rows, columns=_ORDER_COLUMNS)
    if changed:
        await _write_changed(connection, list(changed.values()))
    if fills:
        await connection.copy_records_to_table("fills", records=fills, columns=_FILL_COLUMNS)


def _fill_row(line: OrderLine, fill: Fill, symbol: str, at: int) -> tuple[Any, ...]:
    return (
        line.customer, line.ref, fill.trade, symbol, line.side, fill.price, fill.quantity,
        fill.fee, fill.maker, to_datetime(at),
    )  # fmt: skip


async def _known(connection: Connection, chunk: History) -> dict[tuple[int, int], OrderLine]:
    """The stored orders that something has happened to."""
    keys = {(customer, update.ref) for customer, _, _, update, _ in chunk.updates}
    keys -= chunk.orders.keys()
    if not keys:
        return {}
    rows = await connection.fetch(_KNOWN, [key[0] for key in keys], [key[1] for key in keys])
    return {(row["customer"], row["ref"]): OrderLine(*row) for row in rows}


async def _write_changed(connection: Connection, lines: Sequence[OrderLine]) -> None:
    columns = zip(
        *(
            (
                line.customer, line.ref, line.quantity, line.status, line.filled, line.quote,
                line.fee, line.code, line.updated_at, f"{{{','.join(map(str, line.life))}}}",
            )
            for line in lines
        ),
        strict=True,
    )  # fmt: skip
    done = await connection.execute(_CHANGED, *(list(column) for column in columns))
    if done != f"UPDATE {len(lines)}":
        raise Corrupt(f"Of {len(lines)} orders only some are there: {done}.")


def begin_life(status: OrderStatus, at: datetime) -> list[int]:
    """The life of an order that begins."""
    return [int(status), to_microseconds(at)]

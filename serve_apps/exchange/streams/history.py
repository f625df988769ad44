"""What was traded before this replica listened, from the projector's tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from actors.marketdata import TimedTrade
from persistence.database import Pool
from serve_apps.exchange.streams.bars import Bar

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_BARS: Final = """
SELECT at, open, high, low, close, volume::bigint, quote::bigint, bought::bigint,
    bought_quote::bigint, first, last
FROM candles WHERE symbol = $1 AND seconds = $2 AND at >= $3 AND at < $4 ORDER BY at"""

_TRADES: Final = """
SELECT id, price, quantity, side, taker = lag(taker) OVER (ORDER BY id) AS same, at
FROM trades WHERE symbol = $1 AND id BETWEEN $2 - 1 AND $3 ORDER BY id"""


class StoredHistory:
    """Reads trades and candles as the projector has stored them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def bars(self, symbol: str, seconds: int, since: int, until: int) -> Sequence[Bar]:
        """Bars of 60 or 86,400 seconds that begin in this time, the oldest first."""
        rows = await self._pool.fetch(_BARS, symbol, seconds, _moment(since), _moment(until))
        return [Bar(_microseconds(row[0]), *row[1:]) for row in map(tuple, rows)]

    async def trades(self, symbol: str, first: int, last: int) -> Sequence[TimedTrade]:
        """Trades with these ids, as far as they are there."""
        rows = await self._pool.fetch(_TRADES, symbol, first, last)
        return [
            (row[0], row[1], row[2], row[3], bool(row[4]), _microseconds(row[5]))
            for row in rows
            if row[0] >= first
        ]


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)

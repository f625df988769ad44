"""What was traded before this replica listened, from the projector's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import astuple

from actors.marketdata import TimedTrade
from persistence.database import Pool
from persistence.trading import queries
from serve_apps.exchange.streams.bars import Bar

_NAMES: Final = {60: "1m", 86_400: "1d"}


class StoredHistory:
    """Reads trades and candles as the projector has stored them."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def bars(self, symbol: str, seconds: int, since: int, until: int) -> Sequence[Bar]:
        """Bars of 60 or 86,400 seconds that begin in this time, the oldest first."""
        rows = await queries.bars(self._pool, symbol, _NAMES[seconds], since, until)
        return [Bar(*astuple(row)) for row in rows]

    async def trades(self, symbol: str, first: int, last: int) -> Sequence[TimedTrade]:
        """Trades with these ids, as far as they are there."""
        rows = await queries.trades_range(self._pool, symbol, first, last, last - first + 1)
        return [(row.id, row.price, row.quantity, row.side, row.same, row.at) for row in rows]

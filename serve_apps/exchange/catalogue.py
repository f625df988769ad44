"""The catalogue of instruments as a replica remembers it, so that no order asks Postgres for it.

What books commit is told by Postgres at once (``LISTEN``); a comparison every few seconds finds
what was missed while the connection was away. Whether a book takes an order is judged by the book,
so a copy that is a moment old does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import structlog

from domain.accounts.trading import Terms
from persistence.database import OUTAGES, DatabaseUnavailable, Pool, connection
from persistence.tasks import end_tasks
from persistence.trading import catalogue as store
from persistence.trading.catalogue import Instrument, InstrumentPage

log = structlog.get_logger("kontor.catalogue")

COMPARE_S: Final = 2.0
AGAIN_S: Final = 0.5


class Catalogue:
    """All instruments, by symbol. ``open`` it before the first question."""

    def __init__(self) -> None:
        self._rows: dict[str, Instrument] = {}
        self._version: tuple[int, str] = (-1, "")
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: Pool

    async def open(self, pool: Pool, database_url: str) -> None:
        """Read everything, and follow what changes."""
        self._pool = pool
        await self.refresh()
        self._tasks = [
            asyncio.create_task(self._listen(database_url)),
            asyncio.create_task(self._follow()),
        ]

    async def close(self) -> None:
        """Stop following."""
        await end_tasks(self._tasks)

    def all(self) -> Sequence[Instrument]:
        """Everything that is or was listed, by symbol."""
        return list(self._rows.values())

    @property
    def by_symbol(self) -> Mapping[str, Instrument]:
        """The same as a mapping that follows changes."""
        return MappingProxyType(self._rows)

    def get(self, symbol: str) -> Instrument | None:
        """What is listed as ``symbol``, as far as is known here."""
        return self._rows.get(symbol)

    async def find(self, symbol: str) -> Instrument | None:
        """What is listed as ``symbol``, be it since a moment ago."""
        row = self._rows.get(symbol)
        if row is None:
            row = await store.instrument(self._pool, symbol)
            if row is not None:
                self._rows[symbol] = row
        return row

    async def search(
        self,
        text: str = "",
        *,
        types: Sequence[str] | None = None,
        statuses: Sequence[str] = store.LISTED,
        cursor: str | None = None,
        limit: int = 50,
    ) -> InstrumentPage:
        """See ``persistence.trading.catalogue.search``."""
        return await store.search(
            self._pool, text, types=types, statuses=statuses, cursor=cursor, limit=limit
        )

    def terms(self, instrument: Instrument) -> Terms:
        """What a customer's entity is told of the instrument with an order."""
        return Terms(
            instrument.base,
            instrument.quote,
            instrument.lot,
            instrument.unit,
            instrument.maker,
            instrument.taker,
        )

    async def refresh(self) -> None:
        """Read everything again if anything has changed."""
        version = await store.version(self._pool)
        if version != self._version:
            self._rows = {row.symbol: row for row in await store.all_instruments(self._pool)}
            self._version = version

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(COMPARE_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self.refresh()
            except OUTAGES as error:
                log.info("catalogue_not_read", error=repr(error))
                await asyncio.sleep(AGAIN_S)

    async def _listen(self, database_url: str) -> None:
        while True:
            try:
                async with connection(database_url, name="kontor catalogue") as listening:
                    gone = asyncio.Event()
                    listening.add_termination_listener(lambda _, gone=gone: gone.set())
                    await listening.add_listener(store.CHANNEL, self._heard)
                    self._changed.set()  # whatever happened before somebody listened
                    await gone.wait()
            except (DatabaseUnavailable, *OUTAGES) as error:
                log.info("catalogue_not_heard", error=repr(error))
            await asyncio.sleep(AGAIN_S)

    def _heard(self, *told: Any) -> None:
        self._changed.set()

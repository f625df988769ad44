"""Instruments for tests, put into the catalogue as a book's turn would put them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from domain.orders import UNIT
from domain.trading.events import InstrumentListed
from domain.trading.rules import About, InstrumentType, Rules
from persistence.database import Pool
from persistence.journal import GENESIS, Journal, JournalRow, prepare_streams, to_microseconds
from persistence.trading.catalogue import instrument_statements

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def rules(base: str, quote: str = "USD", **changes: int) -> Rules:
    """Ticks of a cent, lots of a ten-thousandth."""
    return Rules(base, quote, tick=UNIT // 100, lot=UNIT // 10_000, **changes)


def listed(base: str, name: str, kind: str = "stock", **about: Any) -> tuple[str, Any]:
    """The event of a listing against the dollar."""
    terms = rules(base)
    said = About(InstrumentType(kind), name, **about)
    return terms.symbol, InstrumentListed(terms, said, to_microseconds(AT))


class Book:
    """A stream of books that writes turns of nothing but its projection."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.seq = 0

    @classmethod
    async def open(cls, pool: Pool) -> Book:
        """The first stream of the kind, taken over."""
        (stream,) = await prepare_streams(pool, "books", 1)
        journal = Journal(pool, "books", stream)
        await journal.take_over()
        return cls(journal)

    async def turn(self, events: Sequence[tuple[str, Any]], at: datetime = AT) -> None:
        """Commit a turn of these events."""
        self.seq += 1
        row = JournalRow(
            self.journal.stream,
            self.seq,
            self.journal.epoch,
            to_microseconds(at),
            b"",
            GENESIS,
            GENESIS,
        )
        await self.journal.commit(row, instrument_statements(at, events))

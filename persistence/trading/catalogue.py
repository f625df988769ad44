"""The catalogue of instruments: written by the books' turns, searched by everybody.

A book's projection hands the events of a turn to ``instrument_statements``; the rows are there with
the turn, or not at all. Listeners of ``CHANNEL`` hear the symbol when it is committed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from domain.orders import UNIT
from domain.trading.events import InstrumentListed, RulesChanged, StatusChanged
from domain.trading.rules import About, BookStatus, Rules
from persistence.cursors import read_cursor, write_cursor
from persistence.database import Connection, Pool
from persistence.journal import Statement, to_datetime

CHANNEL: Final = "kontor_instruments"
SEARCH_MAX: Final = 80
"""Characters of a search that are looked at."""

Database = Connection | Pool

_RANK: Final = "rank"
_WORD: Final = re.compile(r"\w+")


class Instrument(msgspec.Struct, frozen=True):
    """What is listed. Units are those of ``domain.trading.rules``; ``status`` is a word.

    ``until`` is the end of an auction, ``reason`` why trading is halted or has ended.
    """

    symbol: str
    type: str
    name: str
    description: str
    base: str
    quote: str
    tick: int
    lot: int
    notional_min: int
    quantity_max: int
    price_max: int
    band_up: int
    band_down: int
    orders_max: int
    reference: int
    maker: int
    taker: int
    issued: int
    issuer: int
    status: str
    reason: str
    until: datetime | None
    listed_at: datetime
    changed_at: datetime

    @property
    def unit(self) -> int:
        """Units of the quote asset in one tick times one lot."""
        return self.tick * self.lot // UNIT

    @property
    def open(self) -> bool:
        """Whether orders are taken."""
        return self.status in ("trading", "auction")


class InstrumentPage(msgspec.Struct, frozen=True):
    """Instruments, the best matches first, and where the next page starts."""

    rows: list[Instrument]
    next_cursor: str | None


# -- written with a turn ----------------------------------------------------------------------

_COLUMNS: Final = ", ".join(Instrument.__struct_fields__)

_LISTED: Final = f"""
INSERT INTO instruments ({_COLUMNS})
SELECT {_COLUMNS} FROM fence, jsonb_populate_recordset(NULL::instruments, $1::text::jsonb)"""

_CHANGED: Final = """
UPDATE instruments SET
    type = coalesce(c.type, i.type), name = coalesce(c.name, i.name),
    description = coalesce(c.description, i.description),
    notional_min = coalesce(c.notional_min, i.notional_min),
    quantity_max = coalesce(c.quantity_max, i.quantity_max),
    price_max = coalesce(c.price_max, i.price_max), band_up = coalesce(c.band_up, i.band_up),
    band_down = coalesce(c.band_down, i.band_down),
    orders_max = coalesce(c.orders_max, i.orders_max),
    reference = coalesce(c.reference, i.reference), maker = coalesce(c.maker, i.maker),
    taker = coalesce(c.taker, i.taker), issued = coalesce(c.issued, i.issued),
    issuer = coalesce(c.issuer, i.issuer), status = coalesce(c.status, i.status),
    reason = coalesce(c.reason, i.reason),
    until = CASE WHEN c.status IS NULL THEN i.until ELSE c.until END, changed_at = c.changed_at
FROM fence, jsonb_populate_recordset(NULL::instruments, $1::text::jsonb) AS c, instruments AS i
WHERE i.symbol = c.symbol AND instruments.symbol = c.symbol"""


def instrument_statements(at: datetime, events: Iterable[tuple[str, Any]]) -> list[Statement]:
    """The catalogue's part of a turn at ``at``; several events of a symbol become one row."""
    listed: dict[str, dict[str, Any]] = {}
    changed: dict[str, dict[str, Any]] = {}
    for symbol, event in events:
        if isinstance(event, InstrumentListed):
            listed[symbol] = {
                "symbol": symbol,
                **_terms(event.rules, event.about),
                "status": BookStatus.TRADING.name.lower(),
                "reason": "",
                "listed_at": at,
            }
            continue
        if isinstance(event, RulesChanged):
            columns = _terms(event.rules, event.about)
        elif isinstance(event, StatusChanged):
            columns = {
                "status": event.status.name.lower(),
                "reason": event.reason,
                "until": to_datetime(event.until) if event.until else None,
            }
        else:
            continue
        target = listed if symbol in listed else changed
        target.setdefault(symbol, {"symbol": symbol}).update(columns)
    statements = []
    for sql, rows in ((_LISTED, listed), (_CHANGED, changed)):
        if rows:
            for row in rows.values():
                row["changed_at"] = at
            encoded = msgspec.json.encode(list(rows.values())).decode()
            statements.append(Statement(sql, (encoded,)))
    return statements


def _terms(rules: Rules, about: About) -> dict[str, Any]:
    names = set(Instrument.__struct_fields__)
    fields = {**msgspec.structs.asdict(rules), **msgspec.structs.asdict(about)}
    return {name: value for name, value in fields.items() if name in names}


# -- read -------------------------------------------------------------------------------------

_ALL: Final = f"SELECT {_COLUMNS} FROM instruments ORDER BY symbol"
_ONE: Final = f"SELECT {_COLUMNS} FROM instruments WHERE symbol = $1"
_VERSION: Final = """
SELECT count(*), coalesce(sum(hashtextextended(instruments::text, 0)), 0)::text
FROM instruments"""

# How well a row matches: 0 its ticker, 1 the beginning of it, 2 of its name, 3 its words.
_SEARCH: Final = f"""
SELECT * FROM (
    SELECT {_COLUMNS}, CASE
        WHEN $1 = '' THEN 0 WHEN symbol = $1 OR base = $1 THEN 0
        WHEN starts_with(symbol, $1) THEN 1 WHEN starts_with(lower(name), $2) THEN 2
        WHEN ts_filter(words, '{{a,b}}') @@ $3::text::tsquery THEN 3 ELSE 4 END AS place
    FROM instruments
    WHERE ($3 = '' OR words @@ $3::text::tsquery OR $1 <> '' AND starts_with(symbol, $1))
        AND ($4::text[] IS NULL OR type = ANY($4)) AND status = ANY($5::text[])
) AS found
WHERE (place, symbol) > ($6, $7) ORDER BY place, symbol LIMIT $8"""

LISTED: Final = ("trading", "halted", "auction")
"""What can be seen in a market: all but what is delisted."""


def _instrument(row: asyncpg.Record) -> Instrument:
    return Instrument(*(row[name] for name in Instrument.__struct_fields__))


async def all_instruments(database: Database) -> list[Instrument]:
    """Everything that is or was listed, by symbol."""
    return [_instrument(row) for row in await database.fetch(_ALL)]


async def instrument(database: Database, symbol: str) -> Instrument | None:
    """What is listed as ``symbol``."""
    row = await database.fetchrow(_ONE, symbol)
    return None if row is None else _instrument(row)


async def version(database: Database) -> tuple[int, str]:
    """Something that differs whenever the catalogue does."""
    row = await database.fetchrow(_VERSION)
    assert row is not None
    return row[0], row[1]


async def search(
    database: Database,
    text: str = "",
    *,
    types: Sequence[str] | None = None,
    statuses: Sequence[str] = LISTED,
    cursor: str | None = None,
    limit: int = 50,
) -> InstrumentPage:
    """Instruments in which each word of ``text`` begins a word, the best matches first.

    A ticker counts most, then the beginning of one, then the name, then the description.
    Raises ``CursorInvalid``.
    """
    text = text.strip()[:SEARCH_MAX]
    words = _WORD.findall(text.replace("_", " ").lower())
    ticker = "".join(words).upper()
    if text and not words:
        return InstrumentPage([], None)
    place, after = "-1", ""
    if cursor is not None:
        place, after = read_cursor(cursor, _RANK, False, ("smallint", "text"))
    rows = await database.fetch(
        _SEARCH,
        ticker,
        text.lower(),
        " & ".join(f"'{word}':*" for word in words),
        None if types is None else list(types),
        list(statuses),
        int(place),
        after,
        limit + 1,
    )
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        following = write_cursor(_RANK, False, (str(rows[-1]["place"]), rows[-1]["symbol"]))
    return InstrumentPage([_instrument(row) for row in rows], following)

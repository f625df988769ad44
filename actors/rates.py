"""Exchange rates: where they come from, and what a conversion costs at the moment.

A source gives a sheet of rates against the euro; cross rates go through it. May read a file or
fetch a URL, nothing else.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, Protocol
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
import httpx
import msgspec
import structlog
from defusedxml import DefusedXmlException

from domain.accounts.commands import Rate
from domain.accounts.policy import BASIS_POINTS
from domain.money import CURRENCIES, RATE_SCALE

log = structlog.get_logger("kontor.rates")

BASE: Final = "EUR"
SHEET_SIZE_MAX: Final = 1_000_000
ECB_URL: Final = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"

_ECB: Final = "{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}Cube"
_RATE: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


class RateSheetInvalid(ValueError):
    """A sheet that cannot be read, or that lacks a currency we keep accounts in."""


class RateUnavailable(LookupError):
    """There is no rate for this pair, or the newest sheet is too old."""


@dataclass(frozen=True, slots=True)
class RateSettings:
    """Where rates come from and what they cost.

    An empty ``path`` means the sheet that comes with the platform. ``age_days_max`` is how old a
    sheet may be (0: as old as it likes, for a sheet that is kept by hand).
    """

    source: Literal["file", "ecb"] = "file"
    path: str = ""
    url: str = ECB_URL
    spread_basis_points: int = 50
    valid_s: int = 30
    refresh_s: int = 3_600
    age_days_max: int = 0


class RateSheet(msgspec.Struct, frozen=True):
    """Units of each currency for one euro, as published for the day ``as_of``."""

    as_of: date
    rates: Mapping[str, Fraction]


class RateSource(Protocol):
    """Something that publishes rates."""

    async def fetch(self) -> RateSheet:
        """The newest sheet. Raises ``RateSheetInvalid``, ``OSError`` or ``httpx.HTTPError``."""


def make_sheet(as_of: Any, rates: Mapping[str, Any]) -> RateSheet:
    """A sheet from decimal strings, with all our currencies in it or not at all."""
    if not isinstance(as_of, date):
        raise RateSheetInvalid("The sheet has no date.")
    read: dict[str, Fraction] = {BASE: Fraction(1)}
    for currency, text in rates.items():
        if currency not in CURRENCIES or currency == BASE:
            continue
        if not isinstance(text, str) or _RATE.fullmatch(text) is None or not Fraction(text):
            raise RateSheetInvalid(f"The rate of {currency} is not a positive decimal string.")
        read[currency] = Fraction(text)
    missing = sorted(CURRENCIES.keys() - read.keys())
    if missing:
        raise RateSheetInvalid(f"The sheet has no rate for {', '.join(missing)}.")
    return RateSheet(as_of, read)


def parse_rate_file(content: bytes) -> RateSheet:
    """Read a TOML sheet: ``as_of``, and ``[rates]`` with decimal strings."""
    try:
        document = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RateSheetInvalid(f"The rate file is not TOML: {error}") from error
    rates = document.get("rates")
    if not isinstance(rates, dict):
        raise RateSheetInvalid("The rate file has no section [rates].")
    return make_sheet(document.get("as_of"), rates)


def parse_ecb(content: bytes) -> RateSheet:
    """Read the European Central Bank's daily reference rates (its eurofxref format)."""
    try:
        root = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise RateSheetInvalid(f"The rate sheet is not XML: {error!r}") from error
    days = [cube for cube in root.iter(_ECB) if "time" in cube.attrib]
    if len(days) != 1:
        raise RateSheetInvalid("The rate sheet is not for one day.")
    try:
        as_of = date.fromisoformat(days[0].attrib["time"])
    except ValueError as error:
        raise RateSheetInvalid("The rate sheet has no date.") from error
    entries = [cube.attrib for cube in days[0].iter(_ECB) if "currency" in cube.attrib]
    return make_sheet(as_of, {entry["currency"]: entry.get("rate") for entry in entries})


class FileSource:
    """Rates from a file, read again each time; without a path, those that come along."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def fetch(self) -> RateSheet:
        """Read the file."""
        return parse_rate_file(await asyncio.to_thread(self._read))

    def _read(self) -> bytes:
        if self._path:
            return Path(self._path).read_bytes()
        return resources.files("actors").joinpath("data", "rates.toml").read_bytes()


class EcbSource:
    """Rates from a URL that answers in the European Central Bank's format."""

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport

    async def fetch(self) -> RateSheet:
        """Fetch the sheet; an answer that is no success or too long is refused."""
        async with (
            httpx.AsyncClient(transport=self._transport, timeout=10) as client,
            client.stream("GET", self._url) as response,
        ):
            response.raise_for_status()
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > SHEET_SIZE_MAX:
                    raise RateSheetInvalid("The rate sheet is too long.")
        return parse_ecb(content)


class RateBook:
    """The newest good sheet, and conversion rates from it."""

    def __init__(self, settings: RateSettings, source: RateSource | None = None) -> None:
        self._settings = settings
        self._source = source or make_source(settings)
        self._sheet: RateSheet | None = None
        self._next_at = datetime.min.replace(tzinfo=UTC)

    @property
    def as_of(self) -> date | None:
        """The day of the sheet in use."""
        return self._sheet.as_of if self._sheet else None

    async def refresh(self, now: datetime) -> bool:
        """Fetch a new sheet when it is time to. A bad one changes nothing: ``False``."""
        if now < self._next_at:
            return True
        try:
            sheet = await self._source.fetch()
        except (RateSheetInvalid, OSError, httpx.HTTPError) as error:
            log.error("rates_not_refreshed", error=str(error), in_use=str(self.as_of))
            return False
        if self._sheet is not None and sheet.as_of < self._sheet.as_of:
            log.error("rates_went_back", offered=str(sheet.as_of), in_use=str(self.as_of))
            return False
        self._sheet = sheet
        self._next_at = now + timedelta(seconds=self._settings.refresh_s)
        return True

    def quote(self, source: str, destination: str, now: int) -> Rate:
        """The rate at ``now`` (microseconds) for ``destination`` units per ``source`` unit.

        The spread is taken off the mid rate and the rest rounded down, so a conversion to and fro
        never gains. Raises ``RateUnavailable``.
        """
        kept = Fraction(BASIS_POINTS - self._settings.spread_basis_points, BASIS_POINTS)
        value = int(self._cross(source, destination, now) * kept * RATE_SCALE)
        return Rate(value, now + self._settings.valid_s * 1_000_000)

    def mid(self, source: str, destination: str, now: int) -> int | None:
        """The rate without spread, scaled by ``RATE_SCALE``, for totals; ``None`` without one."""
        if source == destination:
            return RATE_SCALE
        try:
            return int(self._cross(source, destination, now) * RATE_SCALE)
        except RateUnavailable:
            return None

    def _cross(self, source: str, destination: str, now: int) -> Fraction:
        sheet = self._sheet
        if sheet is None or source not in sheet.rates or destination not in sheet.rates:
            raise RateUnavailable(f"There is no rate from {source} to {destination}.")
        if self._too_old(sheet, now):
            raise RateUnavailable(f"The newest rates are of {sheet.as_of}.")
        return sheet.rates[destination] / sheet.rates[source]

    def _too_old(self, sheet: RateSheet, now: int) -> bool:
        days = self._settings.age_days_max
        if not days:
            return False
        end = datetime.combine(sheet.as_of, time(), UTC) + timedelta(days=days + 1)
        return now >= int(end.timestamp()) * 1_000_000


def make_source(settings: RateSettings) -> RateSource:
    """The source that the settings name."""
    return EcbSource(settings.url) if settings.source == "ecb" else FileSource(settings.path)

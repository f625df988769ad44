"""Exchange rates: reading sheets, cross rates, spread, age, and sources that fail."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.rates import (
    EcbSource,
    FileSource,
    RateBook,
    RateSettings,
    RateSheet,
    RateSheetInvalid,
    RateUnavailable,
    make_source,
    parse_ecb,
    parse_rate_file,
)
from domain.money import RATE_SCALE, convert

NOW = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
ECB_SHEET = """<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
    xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
  <gesmes:subject>Reference rates</gesmes:subject>
  <gesmes:Sender><gesmes:name>A sample of ours</gesmes:name></gesmes:Sender>
  <Cube>
    <Cube time="2026-11-20">
      <Cube currency="USD" rate="1.2500"/>
      <Cube currency="JPY" rate="171.32"/>
      <Cube currency="CNY" rate="8.0000"/>
    </Cube>
  </Cube>
</gesmes:Envelope>
"""


class Source:
    """Gives what it is told to, or raises it."""

    def __init__(self, *answers: RateSheet | Exception) -> None:
        self.answers = list(answers)

    async def fetch(self) -> RateSheet:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sheet(usd: str = "1.25", day: int = 20) -> RateSheet:
    rates = {"EUR": Fraction(1), "USD": Fraction(usd), "CNY": Fraction(8)}
    return RateSheet(date(2026, 11, day), rates)


async def book_of(source: Source, **settings: int) -> RateBook:
    book = RateBook(RateSettings(**{"spread_basis_points": 0, **settings}), source)  # type: ignore[arg-type]
    await book.refresh(NOW)
    return book


def test_the_banks_sheet() -> None:
    read = parse_ecb(ECB_SHEET.encode())
    assert read.as_of == date(2026, 11, 20)
    assert read.rates == {"EUR": 1, "USD": Fraction("1.25"), "CNY": 8}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rate="1.2500"', 'rate="-1.25"', "USD is not a positive decimal"),
        ('rate="1.2500"', 'rate="1,25"', "USD is not a positive decimal"),
        ('rate="1.2500"', 'rate="0.00"', "USD is not a positive decimal"),
        ('rate="1.2500"', 'rate="1e3"', "USD is not a positive decimal"),
        ('rate="1.2500"', 'rate="NaN"', "USD is not a positive decimal"),
        ('rate="1.2500"', "", "USD is not a positive decimal"),
        ('<Cube currency="CNY" rate="8.0000"/>', "", "no rate for CNY"),
        ('time="2026-11-20"', 'time="yesterday"', "no date"),
        ('<Cube time="2026-11-20">', "<Cube>", "not for one day"),
        ("</gesmes:Envelope>", "", "not XML"),
        ("eurofxref", "else", "not for one day"),
        (
            "<gesmes:Envelope",
            '<!DOCTYPE x [<!ENTITY a "aaaa">]><gesmes:Envelope',
            "not XML",
        ),
    ],
)
def test_a_bad_sheet_says_what_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(RateSheetInvalid, match=message):
        parse_ecb(ECB_SHEET.replace(old, new, 1).encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("as_of = 2026-11-20\n[rates]\nUSD = '1.1'\nCNY = '8'", None),
        ("as_of = 2026-11-20\n[rates]\nUSD = 1.1\nCNY = '8'", "USD is not a positive decimal"),
        ("as_of = 2026-11-20\n[rates]\nUSD = '1.1'", "no rate for CNY"),
        ("[rates]\nUSD = '1.1'\nCNY = '8'", "no date"),
        ("as_of = 2026-11-20", r"no section \[rates\]"),
        ("as_of = ", "not TOML"),
    ],
)
async def test_a_file(tmp_path: Path, content: str, message: str | None) -> None:
    path = tmp_path / "rates.toml"
    path.write_text(content)
    if message is None:
        assert (await FileSource(str(path)).fetch()).rates["USD"] == Fraction("1.1")
    else:
        with pytest.raises(RateSheetInvalid, match=message):
            parse_rate_file(path.read_bytes())


async def test_the_rates_that_come_along_can_be_read() -> None:
    book = RateBook(RateSettings())
    assert await book.refresh(NOW)
    assert book.quote("USD", "CNY", NOW_US).value > RATE_SCALE


async def test_cross_rates_spread_and_expiry() -> None:
    book = await book_of(Source(sheet()))
    assert book.quote("EUR", "USD", NOW_US).value == 1_250_000_000
    assert book.quote("USD", "EUR", NOW_US).value == 800_000_000
    assert book.quote("USD", "CNY", NOW_US).value == 6_400_000_000
    assert book.quote("USD", "CNY", NOW_US).expires_at == NOW_US + 30_000_000
    dear = await book_of(Source(sheet()), spread_basis_points=50, valid_s=5)
    assert dear.quote("EUR", "USD", NOW_US).value == 1_243_750_000
    assert dear.quote("EUR", "USD", NOW_US).expires_at == NOW_US + 5_000_000
    assert dear.mid("EUR", "USD", NOW_US) == 1_250_000_000
    assert dear.mid("USD", "USD", NOW_US) == RATE_SCALE
    assert dear.mid("USD", "XXX", NOW_US) is None


@given(
    st.integers(1, 10**9),
    st.decimals("0.01", "200", places=4),
    st.integers(0, 500),
    st.sampled_from([("USD", "EUR"), ("EUR", "USD"), ("USD", "CNY"), ("CNY", "USD")]),
)
async def test_to_and_fro_never_gains(
    amount: int, usd: object, spread: int, pair: tuple[str, str]
) -> None:
    book = await book_of(Source(sheet(str(usd))), spread_basis_points=spread)
    there = convert(amount, *pair, book.quote(*pair, NOW_US).value)
    back = convert(there, pair[1], pair[0], book.quote(pair[1], pair[0], NOW_US).value)
    assert back <= amount


async def test_no_rates_no_quote() -> None:
    book = await book_of(Source(OSError("gone")))
    with pytest.raises(RateUnavailable):
        book.quote("USD", "EUR", NOW_US)


@pytest.mark.parametrize(
    "failure",
    [OSError("gone"), RateSheetInvalid("bad"), httpx.ConnectError("no"), sheet("9", day=19)],
)
async def test_a_bad_refresh_leaves_the_last_good_sheet(failure: RateSheet | Exception) -> None:
    book = await book_of(Source(sheet(), failure, sheet("2", day=21)), refresh_s=60)
    assert not await book.refresh(NOW + timedelta(seconds=60))
    assert book.quote("EUR", "USD", NOW_US).value == 1_250_000_000
    assert await book.refresh(NOW + timedelta(seconds=61)), "a failure is tried again at once"
    assert book.quote("EUR", "USD", NOW_US).value == 2_000_000_000


async def test_a_good_sheet_is_not_fetched_again_before_its_time() -> None:
    book = await book_of(Source(sheet()), refresh_s=60)
    assert await book.refresh(NOW + timedelta(seconds=59))


@pytest.mark.parametrize(
    ("days", "offset_h", "fresh"), [(0, 9_999, True), (4, 103, True), (4, 105, False)]
)
async def test_an_old_sheet_is_not_used(days: int, offset_h: int, fresh: bool) -> None:
    book = await book_of(Source(sheet()), age_days_max=days)
    at = NOW_US + (offset_h * 3_600) * 1_000_000
    if fresh:
        book.quote("USD", "EUR", at)
    else:
        with pytest.raises(RateUnavailable, match="2026-11-20"):
            book.quote("USD", "EUR", at)


async def test_fetching() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return {
            "/good": httpx.Response(200, text=ECB_SHEET),
            "/long": httpx.Response(200, content=b"<a>" + b" " * 2_000_000),
        }.get(request.url.path, httpx.Response(404))

    transport = httpx.MockTransport(answer)
    assert (await EcbSource("http://rates.test/good", transport).fetch()).rates["CNY"] == 8
    with pytest.raises(RateSheetInvalid, match="too long"):
        await EcbSource("http://rates.test/long", transport).fetch()
    with pytest.raises(httpx.HTTPStatusError):
        await EcbSource("http://rates.test/none", transport).fetch()


def test_the_settings_choose_the_source() -> None:
    assert isinstance(make_source(RateSettings("ecb")), EcbSource)
    assert isinstance(make_source(RateSettings()), FileSource)

"""The history query against a model in Python: filters, sorting, and paging under ties."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from domain.accounts.commands import TransferStatus
from domain.accounts.numbers import account_number, customer_of
from persistence.accounts import HistoryFilter, TransferRow, history
from persistence.accounts.queries import SORTS
from persistence.cursors import CursorInvalid
from persistence.database import Pool, open_pool
from persistence.journal import to_datetime

ME: Final = 1_000_000_001
OTHERS: Final = (1_000_000_002, 1_000_000_003)
START: Final = to_datetime(1_800_000_000_000_000)
CURRENCIES: Final = ("USD", "CNY", "EUR")
REFERENCES: Final = ("", "Rent", "rent for May", "100%", "under_score", "back\\slash", "Ünïcödé")
ROWS: Final = 160


def some_row(random: Random, number: int) -> dict[str, Any]:
    """A transfer's row, with many values that others have too."""
    people = [ME, ME, *OTHERS]
    random.shuffle(people)
    source, destination = people[:2]
    kind = random.choice([1, 1, 1, 1, 2, 3])
    status = random.choice([1, 2, 2, 2, 3])
    amount = random.choice([100, 100, 250, 7_000])
    currency, credited_currency = random.choice(CURRENCIES), random.choice(CURRENCIES)
    at = START + timedelta(hours=random.randrange(6))
    row = {
        "id": number.to_bytes(16, "big").hex(),
        "kind": kind,
        "status": 2 if kind == 2 else status,
        "source": account_number(source, random.randrange(3)),
        "destination": account_number(destination, random.randrange(3)),
        "source_customer": source,
        "destination_customer": destination,
        "amount": amount,
        "fee": random.choice([0, 0, 10]),
        "currency": currency,
        "credited": amount if currency == credited_currency else amount * 2,
        "credited_currency": credited_currency,
        "rate": None if currency == credited_currency else 2_000_000_000,
        "reference": random.choice(REFERENCES),
        "reason": "destination_closed" if status == 3 and kind != 2 else "",
        "fingerprint": b"f",
        "at": at,
        "completed_at": None if status == 1 else at,
        "stream": "accounts/0",
        "seq": number,
    }
    if kind == 2:
        row.update(source=None, source_customer=None, status=2, reason="", completed_at=at)
    return row


def rows_of(seed: int) -> list[dict[str, Any]]:
    """Random rows; the numbers of their ids are shuffled against their times."""
    random = Random(seed)
    numbers = list(range(1, ROWS + 1))
    random.shuffle(numbers)
    return [some_row(random, number) for number in numbers]


async def store(pool: Pool, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    marks = ", ".join(
        f"${i}::text::uuid" if name == "id" else f"${i}" for i, name in enumerate(names, 1)
    )
    sql = f"INSERT INTO transfers ({', '.join(names)}) VALUES ({marks})"
    await pool.executemany(sql, [tuple(row.values()) for row in rows])


@pytest.fixture(scope="module")
async def filled(shared_database_url: str) -> AsyncIterator[Pool]:
    """A database with the rows of seed 1, for all tests that only read."""
    pool = await open_pool(shared_database_url, name="tests")
    await store(pool, rows_of(1))
    yield pool
    await pool.close()


@pytest.fixture
def stored() -> list[dict[str, Any]]:
    """What is in that database."""
    return rows_of(1)


# -- the model ----------------------------------------------------------------------------


def sent(row: dict[str, Any]) -> bool:
    return bool(row["source_customer"] == ME)


def direction(row: dict[str, Any]) -> str:
    if row["source_customer"] == row["destination_customer"]:
        return "own"
    return "out" if sent(row) else "in"


def visible(row: dict[str, Any]) -> bool:
    return sent(row) or (row["destination_customer"] == ME and row["status"] == 2)


KEYS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "date": lambda row: row["at"],
    "amount": lambda row: row["amount"] if sent(row) else row["credited"],
    "currency": lambda row: row["currency"] if sent(row) else row["credited_currency"],
    "direction": direction,
    "counterparty": lambda row: (row["destination"] if sent(row) else row["source"]) or 0,
    "status": lambda row: row["status"],
    "fee": lambda row: row["fee"],
}


def expected(
    rows: list[dict[str, Any]],
    keep: Callable[[dict[str, Any]], bool] = lambda _: True,
    sort: str = "date",
    descending: bool = True,
) -> list[bytes]:
    kept = [row for row in rows if visible(row) and keep(row)]
    kept.sort(key=lambda row: (KEYS[sort](row), row["at"], row["id"]), reverse=descending)
    return [bytes.fromhex(row["id"]) for row in kept]


async def all_pages(
    pool: Pool, flt: HistoryFilter, sort: str, descending: bool, limit: int
) -> list[TransferRow]:
    found: list[TransferRow] = []
    cursor: str | None = None
    while True:
        page = await history(
            pool, ME, flt, sort=sort, descending=descending, cursor=cursor, limit=limit
        )
        found += page.rows
        assert len(page.rows) == limit or page.next_cursor is None
        cursor = page.next_cursor
        if cursor is None:
            return found


def ids(rows: list[TransferRow]) -> list[bytes]:
    return [row.id for row in rows]


# -- tests --------------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [True, False], ids=["descending", "ascending"])
@pytest.mark.parametrize("sort", SORTS)
async def test_pages_neither_repeat_nor_skip(
    filled: Pool, stored: list[dict[str, Any]], sort: str, descending: bool
) -> None:
    want = expected(stored, sort=sort, descending=descending)
    assert len(want) > 50
    for limit in (1, 7, len(want) - 1, len(want), len(want) + 1):
        found = await all_pages(filled, HistoryFilter(), sort, descending, limit)
        assert ids(found) == want


async def test_rows_that_arrive_while_paging_disturb_nothing(pool: Pool) -> None:
    rows = rows_of(2)
    await store(pool, rows[: ROWS // 2])
    want = expected(rows[: ROWS // 2])
    first = await history(pool, ME, HistoryFilter(), limit=10)
    newer = [{**row, "at": START + timedelta(days=1)} for row in rows[ROWS // 2 :]]
    await store(pool, newer)
    found = list(first.rows)
    cursor = first.next_cursor
    while cursor is not None:
        page = await history(pool, ME, HistoryFilter(), cursor=cursor, limit=10)
        found += page.rows
        cursor = page.next_cursor
    assert ids(found) == want


def hour(number: int) -> datetime:
    return START + timedelta(hours=number)


SOME_ID: Final = (77).to_bytes(16, "big").hex()
FILTERS: Final[list[tuple[HistoryFilter, Callable[[dict[str, Any]], bool]]]] = [
    (HistoryFilter(date_from=hour(2)), lambda r: r["at"] >= hour(2)),
    (HistoryFilter(date_to=hour(2)), lambda r: r["at"] < hour(2)),
    (HistoryFilter(date_from=hour(2), date_to=hour(3)), lambda r: r["at"] == hour(2)),
    (HistoryFilter(amount_min=250), lambda r: KEYS["amount"](r) >= 250),
    (HistoryFilter(amount_max=250), lambda r: KEYS["amount"](r) <= 250),
    (HistoryFilter(amount_min=200, amount_max=200), lambda r: KEYS["amount"](r) == 200),
    (
        HistoryFilter(currency="CNY"),
        lambda r: "CNY" in (r["currency"], r["credited_currency"]),
    ),
    (
        HistoryFilter(account=account_number(ME, 1)),
        lambda r: account_number(ME, 1) in (r["source"], r["destination"]),
    ),
    (HistoryFilter(direction="in"), lambda r: direction(r) == "in"),
    (HistoryFilter(direction="out"), lambda r: direction(r) == "out"),
    (HistoryFilter(direction="own"), lambda r: direction(r) == "own"),
    (
        HistoryFilter(counterparty=account_number(OTHERS[0], 2)),
        lambda r: KEYS["counterparty"](r) == account_number(OTHERS[0], 2),
    ),
    *(
        (HistoryFilter(status=status), lambda r, status=status: r["status"] == status)
        for status in TransferStatus
    ),
    (HistoryFilter(search="RENT"), lambda r: "rent" in r["reference"].lower()),
    (HistoryFilter(search="%"), lambda r: "%" in r["reference"]),
    (HistoryFilter(search="_"), lambda r: "_" in r["reference"]),
    (HistoryFilter(search="\\"), lambda r: "\\" in r["reference"]),
    (HistoryFilter(search="ünï"), lambda r: "Ünï" in r["reference"]),
    (HistoryFilter(search="nothing like it"), lambda r: False),
    (HistoryFilter(search=SOME_ID), lambda r: r["id"] == SOME_ID),
    (
        HistoryFilter(search=f"{SOME_ID[:8]}-{SOME_ID[8:]}".upper()),
        lambda r: r["id"] == SOME_ID,
    ),
    (
        HistoryFilter(direction="out", currency="USD", status=TransferStatus.COMPLETED),
        lambda r: (
            direction(r) == "out"
            and "USD" in (r["currency"], r["credited_currency"])
            and r["status"] == 2
        ),
    ),
]


def filter_name(value: Any) -> str:
    if not isinstance(value, HistoryFilter):
        return "model"
    given = msgspec.structs.asdict(value)
    return ",".join(f"{name}={v}" for name, v in given.items() if v is not None)


@pytest.mark.parametrize(("flt", "keep"), FILTERS, ids=filter_name)
async def test_each_filter_keeps_what_the_model_keeps(
    filled: Pool,
    stored: list[dict[str, Any]],
    flt: HistoryFilter,
    keep: Callable[[dict[str, Any]], bool],
) -> None:
    for sort, descending in (("date", True), ("amount", False)):
        found = await all_pages(filled, flt, sort, descending, 9)
        assert ids(found) == expected(stored, keep, sort, descending)


async def test_rows_are_as_they_were_stored(filled: Pool, stored: list[dict[str, Any]]) -> None:
    by_id = {bytes.fromhex(row["id"]): row for row in stored}
    for found in await all_pages(filled, HistoryFilter(), "date", True, 50):
        row = by_id[found.id]
        assert found.direction(ME) == direction(row)
        assert found.kind == ("", "transfer", "bonus", "hold")[row["kind"]]
        for name in TransferRow.__struct_fields__:
            if name not in ("id", "kind"):
                assert getattr(found, name) == row[name], name


async def test_nobody_sees_what_is_not_theirs(filled: Pool, stored: list[dict[str, Any]]) -> None:
    for customer in (*OTHERS, 9_999_999_999):
        page = await history(filled, customer, HistoryFilter(), limit=1_000)
        for row in page.rows:
            assert customer in (row.source_customer, row.destination_customer)
            assert row.source_customer == customer or row.status == TransferStatus.COMPLETED
        for row in page.rows:
            assert row.destination is not None
            assert customer_of(row.destination) == row.destination_customer


async def test_a_cursor_is_good_for_its_own_sort_only(
    filled: Pool, stored: list[dict[str, Any]]
) -> None:
    page = await history(filled, ME, HistoryFilter(), sort="amount", descending=True, limit=3)
    cursor = page.next_cursor
    assert cursor is not None
    for sort, descending in (("amount", False), ("fee", True)):
        with pytest.raises(CursorInvalid):
            await history(
                filled, ME, HistoryFilter(), sort=sort, descending=descending, cursor=cursor
            )


def forged(*parts: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(list(parts))).decode().rstrip("=")


GOOD_ID: Final = "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "%%%",
        "ünïcödé",
        "x" * 500,
        forged(),
        forged(1, 2, 3),
        forged("date", True, "some day", "2026-01-01", GOOD_ID),
        forged("date", True, "2026-01-01", "2026-01-01", "no id"),
        forged("date", True, "2026-01-01\0", "2026-01-01", GOOD_ID),
        forged("date", True, "294277-01-01", "2026-01-01", GOOD_ID),
        forged("date", True, "'; DROP TABLE transfers; --", "2026-01-01", GOOD_ID),
    ],
)
async def test_a_forged_cursor_is_refused(filled: Pool, cursor: str) -> None:
    with pytest.raises(CursorInvalid):
        await history(filled, ME, HistoryFilter(), cursor=cursor)
    assert await filled.fetchval("SELECT count(*) FROM transfers") == ROWS


async def test_an_unknown_sort_is_a_bug(filled: Pool) -> None:
    with pytest.raises(KeyError):
        await history(filled, ME, HistoryFilter(), sort="id; DROP TABLE transfers")
    with pytest.raises(asyncpg.DataError):
        await history(filled, ME, HistoryFilter(amount_min=2**63))


async def test_a_history_without_rows_is_one_empty_page(pool: Pool) -> None:
    page = await history(pool, ME, HistoryFilter())
    assert (page.rows, page.next_cursor) == ([], None)

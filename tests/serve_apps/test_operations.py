"""The operations page and its API: who sees them, and that they say how things really are."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator

import pytest

from actors.durable.placement import scale
from actors.operations import FRESH_S, PartitionView, SlotRun
from actors.projector import Projector
from domain.identity.permissions import OPERATOR
from persistence import placement, proofs, roles, supervision
from persistence.trading.projector import CURSOR
from serve_apps.application import Application
from serve_apps.operations import SIDE, books_of, draw
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PartitionAccounts


@pytest.fixture
async def visitor(app: Application) -> AsyncIterator[Browser]:
    """Somebody who has not signed up."""
    async with Browser(app) as browser:
        yield browser


@pytest.fixture
async def operator(app: Application, visitor: Browser) -> Browser:
    """Somebody who has signed up and holds the role."""
    await visitor.sign_up("Olga Operator")
    number = int(visitor.home.strip("/").rpartition("/")[2])
    await roles.grant(app.services.pool, number, OPERATOR, "a test")
    await app.services.sessions.read_revocations()
    return visitor


PATHS = ("/operations/", "/operations/fragments/overview")


async def test_visitors_are_asked_to_log_in_and_then_sent_there(visitor: Browser) -> None:
    await visitor.go("/operations/")
    assert visitor.page.url.path == "/login"
    assert visitor.fields("/login")["next"] == "/operations/"


async def test_for_customers_it_is_not_there(visitor: Browser) -> None:
    await visitor.sign_up("Ann Baker")
    assert "/operations/" not in visitor.page.text
    nowhere = await visitor.go("/nowhere")
    for path in PATHS:
        await visitor.go(path)
        assert visitor.page.status_code == 404
        assert re.findall("<h1.*</h1>", visitor.page.text) == re.findall("<h1.*</h1>", nowhere.text)


async def test_who_loses_the_role_loses_the_page(app: Application, operator: Browser) -> None:
    await operator.go("/operations/")
    assert operator.page.status_code == 200
    number = int(operator.home.strip("/").rpartition("/")[2])
    await roles.revoke(app.services.pool, number, OPERATOR, "a test")
    await app.services.sessions.read_revocations()
    assert (await operator.go("/operations/")).status_code == 404


@pytest.mark.alone
async def test_the_page_is_complete_without_scripts(operator: Browser) -> None:
    await operator.go("/operations/")
    page = operator.page.text
    assert 'data-books="right"' in page
    assert "All 2 partitions say so of their own books, at" in operator.text
    assert "USD 100.00 −100.00 0.00" in operator.text
    assert "accounts/0: 4,096 slots" in page
    assert "accounts/0 owns 4,096." in page
    assert "books/0 owns 4,096." in page
    assert "running" in operator.text
    assert 'href="/operations/"' in page
    assert "No full proof from the database has been recorded" in operator.text
    assert not re.search(r"\sstyle=|<script(?! src=)|\son\w+=", page)


async def test_moves_pins_proofs_and_incidents_are_seen(
    app: Application, operator: Browser, bob: User
) -> None:
    pool = app.services.pool
    await scale(pool, "accounts", 2)
    stream = await placement.pin(pool, "accounts", bob.id)
    await proofs.record(pool, ok=True, findings=0, seconds=1.5)
    await supervision.note(pool, "replaced", "accounts/0 was replaced.", stream="accounts/0")
    await asyncio.sleep(FRESH_S + 0.1)
    await operator.go("/operations/fragments/overview")
    page = operator.page.text
    assert 'data-moving="2049"' in page
    assert "2,048 are to go from accounts/0 to accounts/1." in page
    assert 'class="slot-moving"' in page
    assert f"{bob.id} {stream}" in operator.text
    assert "2,048 arriving" in operator.text
    assert 'data-books="unknown"' in page, "accounts/1 has no process here"
    assert re.search("Last full proof from the database .*, right, in 1.5 s", operator.text)
    assert "accounts/0 was replaced." in operator.text


@pytest.mark.alone
async def test_the_api_says_the_same(app: Application, ann: User) -> None:
    pool = app.services.pool
    await roles.grant(pool, int(ann.id), OPERATOR, "a test")
    await app.services.sessions.read_revocations()
    found = (await ann.http.get("/api/operations/")).json()
    assert found["books"]["state"] == "right"
    assert found["books"]["sums"] == [
        {"asset": "USD", "customers": "100.00", "house": "-100.00", "sum": "0.00"}
    ]
    partition, books = found["partitions"]
    assert (partition["partition"], partition["state"]) == ("accounts/0", "running")
    assert partition["slots"] == 4096
    assert partition["entities"] >= 1
    assert (books["partition"], books["kind"]) == ("books/0", "books")
    assert (books["state"], books["slots"], books["entities"]) == ("running", 4096, 0)
    assert partition["position"] > 0
    await scale(pool, "accounts", 2)
    await asyncio.sleep(FRESH_S + 0.1)
    found = (await ann.http.get("/api/operations/slot/")).json()["slots"]
    assert [run for run in found if run["kind"] == "books"] == [
        {"kind": "books", "first": 0, "last": 4095, "partition": "books/0", "target": ""}
    ]
    runs = [run for run in found if run["kind"] == "accounts"]
    assert sum(run["last"] - run["first"] + 1 for run in runs) == 4096
    assert {run["target"] for run in runs} == {"", "accounts/1"}
    assert (await ann.http.get("/api/operations/incident/")).json() == {"incidents": []}


async def test_a_partition_that_does_not_answer_is_shown_as_such(
    app: Application, operator: Browser
) -> None:
    accounts = app.services.accounts
    assert isinstance(accounts, PartitionAccounts)
    await operator.go("/operations/")
    accounts.hang()
    await asyncio.sleep(FRESH_S + 0.1)
    await operator.go("/operations/fragments/overview")
    assert operator.page.status_code == 200
    assert "no answer" in operator.text
    assert 'data-books="unknown"' in operator.page.text


async def test_many_who_look_share_one_reading(app: Application) -> None:
    overview = app.services.operations.overview
    first, *others = await asyncio.gather(*(overview() for _ in range(20)))
    assert all(other is first for other in others)


def view(stream: str, **changes: object) -> PartitionView:
    values = {"state": "running", "slots": 1, "arriving": 0, "leaving": 0, "pinned": [], "epoch": 1}
    return PartitionView(stream=stream, **{**values, **changes})  # type: ignore[arg-type]


def test_books_are_wrong_when_a_partition_says_so() -> None:
    right = view(
        "accounts/0", entity_sums={"USD": 5}, house={"fees": {"USD": -5}}, books={"USD": 0}
    )
    wrong = view(
        "accounts/1", entity_sums={"USD": 5}, house={"fees": {"USD": -4}}, books={"USD": 1}
    )
    silent = view("accounts/2", state="no answer")
    assert books_of([right]).state == "right"
    assert books_of([right, wrong]).state == "wrong"
    assert books_of([right, wrong, silent]).wrong == ["accounts/1"]
    assert books_of([right, silent]).state == "unknown"
    assert books_of([right, view("accounts/3", state="retired")]).state == "right"
    assert [row.total for row in books_of([right, wrong]).sums] == [1]


@pytest.mark.parametrize(
    "cuts", [[0, 4096], [0, 2048, 4096], [0, 1, 63, 64, 65, 200, 4095, 4096], [0, 100, 3000, 4096]]
)
def test_the_map_covers_each_slot_once(cuts: list[int]) -> None:
    runs = [
        SlotRun(first, last - 1, f"accounts/{index % 2}")
        for index, (first, last) in enumerate(itertools.pairwise(cuts))
    ]
    painted: dict[int, str] = {}
    for area in draw(runs).owned:
        for text in re.findall(r"M(\d+) (\d+)h(\d+)v(\d+)h-\d+z", area.path):
            x, y, width, height = map(int, text)
            for row in range(y, y + height):
                for column in range(x, x + width):
                    assert painted.setdefault(row * SIDE + column, area.stream) == area.stream
        assert area.slots == sum(stream == area.stream for stream in painted.values())
    wanted = {slot: run.stream for run in runs for slot in range(run.first, run.last + 1)}
    assert painted == wanted


async def test_the_lag_of_trading_history_is_told(app: Application, operator: Browser) -> None:
    """What the journal has and the projector has not read yet; then nothing."""
    pool = app.services.pool
    await CURSOR.enrol(pool)
    answer = (await operator.http.get("/api/operations/")).json()["history"]
    assert answer["rows"] > 0
    assert answer["seconds"] > 0
    await operator.go("/operations/")
    shown = re.search(r"history behind, rows</dt><dd>([0-9,]+)</dd>", operator.page.text)
    assert shown is not None
    assert int(shown[1]) >= answer["rows"]
    projector = Projector(pool)
    while await projector.step():
        pass
    assert (await operator.http.get("/api/operations/")).json()["history"]["rows"] == 0

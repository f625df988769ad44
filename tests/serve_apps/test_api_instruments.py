"""Instruments over REST: visitors search, administrators list, halt, resume and delist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from domain.identity.permissions import ADMINISTRATOR, OPERATOR
from persistence import roles
from serve_apps.api.instruments import OPERATIONS
from serve_apps.application import Application
from tests.serve_apps.conftest import MakeUser, User

NORD = {
    "base": "NORD",
    "quote": "USD",
    "type": "stock",
    "name": "Nordavia Airlines",
    "description": "Flies between forty cities.",
    "tick": "0.01",
    "lot": "1",
    "reference": "42.10",
    "notional_min": "5",
    "band_up": "20",
    "band_down": "12.5",
    "maker": "0.05",
    "taker": "0.1",
}

Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def admin(app: Application, make_user: MakeUser) -> User:
    """Somebody who may change instruments."""
    user = await make_user("ada")
    await roles.grant(app.services.pool, int(user.id), ADMINISTRATOR, "a test")
    await app.services.sessions.read_revocations()
    return user


@pytest.fixture
def change(admin: User) -> Ask:
    """An administrator's request, with a key of its own each time."""
    count = 0

    async def ask(path: str, body: Any = None, key: str = "") -> httpx.Response:
        nonlocal count
        count += 1
        headers = {"Idempotency-Key": key or f"key-{count}"}
        return await admin.http.post(f"/api/instrument/{path}", json=body, headers=headers)

    return ask


@pytest.mark.alone
async def test_an_instrument_is_listed_and_everybody_finds_it(
    client: httpx.AsyncClient, change: Ask
) -> None:
    listed = await change("", NORD)
    assert listed.status_code == 201
    assert listed.headers["location"] == "/api/instrument/NORDUSD/"
    body = listed.json()
    assert (body["symbol"], body["status"], body["tick"], body["lot"]) == (
        "NORDUSD", "trading", "0.01", "1"
    )  # fmt: skip
    assert (body["maker"], body["taker"], body["notional_min"]) == ("0.05", "0.1", "5.00000000")
    assert (body["price"], body["change"], body["volume"]) == (None, "0.00", "0")
    for query in ("nord", "air", "forty", "NORDUSD", ""):
        found = (await client.get("/api/instrument/", params={"q": query})).json()
        assert [row["symbol"] for row in found["instruments"]] == ["NORDUSD"], query
        assert found["next_cursor"] is None
    for params in ({"q": "nothing"}, {"type": "bond,fund"}, {"status": "halted"}):
        found = (await client.get("/api/instrument/", params=params)).json()
        assert found["instruments"] == [], params
    shown = await client.get("/api/instrument/NORDUSD/")
    assert shown.json().items() >= body.items()
    assert (await client.get("/api/instrument/NOPE/")).status_code == 404


@pytest.mark.alone
async def test_listing_again_with_the_same_key_lists_once(change: Ask) -> None:
    first = await change("", NORD, key="once")
    again = await change("", NORD, key="once")
    assert (again.status_code, again.json()) == (201, first.json())
    other = await change("", {**NORD, "name": "Other"}, key="once")
    assert (other.status_code, other.json()["code"]) == (422, "id_reused")
    second = await change("", NORD)
    assert (second.status_code, second.json()["code"]) == (409, "already_listed")


@pytest.mark.alone
async def test_a_stock_is_issued_in_fixed_quantity_to_its_issuer(
    change: Ask, make_user: MakeUser
) -> None:
    issuer = await make_user("ivy")
    listing = {**NORD, "issued": "12000.5", "issuer": issuer.id}
    for _ in range(2):
        listed = await change("", listing, key="ipo")
        assert listed.json()["issued"] == "12000.5"
    held = (await issuer.http.get(f"{issuer.path}brokerage/")).json()["balances"]
    assert [(row["asset"], row["total"]) for row in held] == [("NORD", "12000.50000000")]
    unknown = await change("", {**NORD, "base": "ACME", "issued": "5", "issuer": "1234567890"})
    assert unknown.json()["code"] == "unknown_customer"
    assert (await issuer.http.get("/api/instrument/ACMEUSD/")).status_code == 404


@pytest.mark.alone
async def test_halt_resume_auction_delist(client: httpx.AsyncClient, change: Ask) -> None:
    await change("", NORD)
    halted = await change("NORDUSD/halt/", {"reason": "News are pending"})
    assert (halted.status_code, halted.json()["status"]) == (200, "halted")
    assert halted.json()["reason"] == "News are pending"
    again = await change("NORDUSD/halt/", {"reason": "More"})
    assert (again.status_code, again.json()["code"]) == (409, "status_invalid")
    assert (await client.get("/api/instrument/NORDUSD/")).json()["status"] == "halted"
    assert (await change("NORDUSD/resume/")).json()["status"] == "trading"
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    auction = (await change("NORDUSD/auction/", {"until": until})).json()
    assert (auction["status"], auction["until"][:16]) == ("auction", until[:16])
    past = await change("NORDUSD/auction/", {"until": "2020-01-01T00:00:00Z"})
    assert past.json()["code"] in ("time_invalid", "status_invalid")
    assert (await change("NORDUSD/resume/")).json()["until"] is None
    gone = await change("NORDUSD/delist/", {"reason": "Bought"})
    assert gone.json()["status"] == "delisted"
    assert (await client.get("/api/instrument/")).json()["instruments"] == []
    listed = await client.get("/api/instrument/", params={"status": "delisted"})
    assert [row["reason"] for row in listed.json()["instruments"]] == ["Bought"]
    assert (await change("", NORD)).json()["code"] == "already_listed"


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("base", "x", "symbol_invalid"),
        ("base", "USD", "symbol_invalid"),
        ("tick", "", "rules_invalid"),
        ("tick", "0", "rules_invalid"),
        ("tick", "1e-3", "rules_invalid"),
        ("tick", "0.000000001", "rules_invalid"),
        ("tick", "0.00000001", "rules_invalid"),
        ("lot", "-1", "rules_invalid"),
        ("type", "house", "rules_invalid"),
        ("reference", "42.105", "rules_invalid"),
        ("band_down", "100", "rules_invalid"),
        ("orders_max", "many", "rules_invalid"),
        ("orders_max", "100000000", "rules_invalid"),
        ("maker", "100", "rules_invalid"),
        ("issued", "5", "rules_invalid"),
        ("name", "", "text_invalid"),
        ("name", "a\u0000b", "text_invalid"),
    ],
)
async def test_listings_that_cannot_be(change: Ask, field: str, text: str, code: str) -> None:
    answer = await change("", {**NORD, field: text})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.alone
async def test_unknown_instruments_and_bodies(change: Ask) -> None:
    for path, body in (
        ("NOPE/halt/", {"reason": "x"}),
        ("NOPE/resume/", None),
        ("NOPE/delist/", {"reason": "x"}),
        ("NOPE/auction/", {"until": "2099-01-01T00:00:00Z"}),
    ):
        answer = await change(path, body)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_instrument"), path
    await change("", NORD)
    assert (await change("NORDUSD/halt/", {"reason": ""})).status_code == 422
    assert (await change("NORDUSD/auction/", {"until": "soon"})).json()["code"] == "time_invalid"
    assert (await change("", {**NORD, "colour": "red"})).json()["code"] == "body_invalid"


@pytest.mark.alone
async def test_only_administrators_change_anything(
    app: Application, client: httpx.AsyncClient, make_user: MakeUser, change: Ask
) -> None:
    """To others these operations do not exist, operators included."""
    await change("", NORD)
    ben = await make_user("ben")
    await roles.grant(app.services.pool, int(ben.id), OPERATOR, "a test")
    await app.services.sessions.read_revocations()
    bodies = {"halt": {"reason": "x"}, "delist": {"reason": "x"}, "auction": {"until": "2099"}}
    paths: list[tuple[str, Any]] = [("", NORD)]
    paths += [(f"NORDUSD/{name}/", bodies.get(name)) for name in (*bodies, "resume")]
    assert len(paths) == sum(operation.method == "POST" for operation in OPERATIONS)
    for path, body in paths:
        headers = {"Idempotency-Key": "k"}
        url = f"/api/instrument/{path}"
        assert (await client.post(url, json=body, headers=headers)).status_code == 401
        assert (await ben.http.post(url, json=body, headers=headers)).status_code == 404
    assert (await client.get("/api/instrument/NORDUSD/")).json()["status"] == "trading"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"type": "house"}, "malformed_query"),
        ({"status": "gone"}, "malformed_query"),
        ({"limit": "0"}, "malformed_query"),
        ({"limit": "x"}, "malformed_query"),
        ({"q": "a\0b"}, "malformed_query"),
        ({"colour": "red"}, "malformed_query"),
        ({"cursor": "%"}, "cursor_invalid"),
    ],
)
async def test_questions_that_cannot_be(
    client: httpx.AsyncClient, params: dict[str, str], code: str
) -> None:
    answer = await client.get("/api/instrument/", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)

"""Orders and fills of the past over REST: pages, one order in full, CSV, and whose they are."""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

import pytest

from actors.projector import Projector
from domain.accounts.trading import (
    CancelOrder,
    IssueAsset,
    PlaceOrder,
    Terms,
    Trade,
    TradeReply,
)
from domain.orders import UNIT, OrderType, Side, TimeInForce
from domain.trading.commands import InstrumentReply, ListInstrument
from domain.trading.rules import About, InstrumentType, Rules
from serve_apps.api.trading import OPERATIONS
from serve_apps.application import Application
from tests.serve_apps.conftest import MakeUser, User

RULES = Rules("NORD", "USD", tick=UNIT // 100, lot=UNIT // 10, price_max=10**6, quantity_max=10**6)
TERMS = Terms("NORD", "USD", RULES.lot, RULES.unit, 1_000, 2_000)
_ids = itertools.count(1)


def new_id() -> bytes:
    return next(_ids).to_bytes(16, "big")


class Floor:
    """Where two users trade; ``ann`` sells, ``bob`` buys."""

    def __init__(self, app: Application, ann: User, bob: User) -> None:
        self.app = app
        self.ann = ann
        self.bob = bob

    async def trade(self, user: User, *actions: Any) -> TradeReply:
        command = Trade(new_id(), b"", int(user.id), "NORDUSD", TERMS, actions)
        reply = await self.app.services.accounts.call(command)
        assert isinstance(reply, TradeReply), reply
        return reply

    async def project(self) -> None:
        """Let history know."""
        projector = Projector(self.app.services.pool)
        while await projector.step():
            pass


def limit(client: str, side: Side, price: int, quantity: int) -> PlaceOrder:
    """A limit order; prices in cents, quantities in tenths."""
    return PlaceOrder(client, side, OrderType.LIMIT, TimeInForce.GTC, price, quantity)


@pytest.fixture
async def floor(app: Application, make_user: MakeUser) -> Floor:
    """Ann had 100 shares and sold 1.5 of them at 20.00 to Bob; other orders are open or gone."""
    services = app.services
    about = About(InstrumentType.STOCK, "Nordavia", maker=1_000, taker=2_000)
    listed = await services.books.call(ListInstrument(new_id(), b"", "NORDUSD", RULES, about))
    assert isinstance(listed, InstrumentReply)
    floor = Floor(app, await make_user("ann"), await make_user("bob"))
    issue = IssueAsset(new_id(), b"", int(floor.ann.id), "NORD", 100 * UNIT)
    await services.accounts.call(issue)
    form = {"account": floor.bob.accounts["USD"], "amount": "90.00"}
    funded = await floor.bob.http.post(
        f"{floor.bob.path}brokerage/fund/", json=form, headers={"Idempotency-Key": "f"}
    )
    assert funded.status_code == 201, funded.text
    await floor.trade(
        floor.ann, limit("=sum(A1)", Side.SELL, 2_000, 10), limit("a2", Side.SELL, 2_500, 7)
    )
    await floor.trade(floor.bob, limit("b1", Side.BUY, 2_000, 15))
    await floor.trade(floor.ann, limit("a3", Side.SELL, 2_000, 5), CancelOrder(client="a2"))
    await floor.trade(floor.bob, limit("b2", Side.BUY, 1_500, 2))
    await floor.project()
    return floor


async def get(user: User, path: str, **params: str) -> Any:
    answer = await user.http.get(f"{user.path}{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.alone
async def test_orders_as_their_owner_reads_them(floor: Floor) -> None:
    page = await get(floor.bob, "order/")
    assert page["next_cursor"] is None
    newest, first = page["orders"]
    assert (newest["client_id"], newest["status"], newest["price"]) == ("b2", "new", "15.00")
    assert (newest["filled"], newest["average"], newest["fee"]) == ("0.0", None, "0.00000000")
    assert first == {
        "id": "1", "client_id": "b1", "symbol": "NORDUSD", "side": "buy", "type": "limit",
        "time_in_force": "gtc", "status": "filled", "price": "20.00", "trigger": None,
        "quantity": "1.5", "filled": "1.5", "average": "20.00000000", "turnover": "30.00000000",
        # A tenth of a share at a time: 0.2 % of 1.0 as taker, 0.1 % of 0.5 as maker.
        "fee": "0.00250000", "fee_asset": "NORD", "self_trade": "none", "reason": "",
        "placed_at": first["placed_at"], "updated_at": first["updated_at"], "expires_at": None,
        "replaces": "",
    }  # fmt: skip
    assert first["updated_at"] > first["placed_at"]


@pytest.mark.alone
async def test_an_order_with_its_life_and_fills(floor: Floor) -> None:
    order = await get(floor.bob, "order/1/")
    assert [stage["status"] for stage in order["life"]] == [
        "pending", "partially_filled", "filled"
    ]  # fmt: skip
    fills = order["fills"]
    assert [(fill["trade"], fill["quantity"], fill["role"]) for fill in fills] == [
        ("1", "1.0", "taker"), ("2", "0.5", "maker")
    ]  # fmt: skip
    for path in ("order/99/", "order/x/", "order/0/", f"order/{'9' * 30}/"):
        assert (await floor.bob.http.get(floor.bob.path + path)).status_code == 404, path


@pytest.mark.alone
async def test_fills(floor: Floor) -> None:
    page = await get(floor.ann, "fill/", sort="date")
    assert [
        (
            fill["order"],
            fill["role"],
            fill["price"],
            fill["turnover"],
            fill["fee"],
            fill["fee_asset"],
        )
        for fill in page["fills"]
    ] == [
        ("1", "maker", "20.00", "20.00000000", "0.02000000", "USD"),
        ("3", "taker", "20.00", "10.00000000", "0.02000000", "USD"),
    ]
    assert len((await get(floor.ann, "fill/", role="maker"))["fills"]) == 1
    assert len((await get(floor.ann, "fill/", order="3"))["fills"]) == 1
    assert (await get(floor.ann, "fill/", side="buy"))["fills"] == []


@pytest.mark.alone
async def test_filters_and_pages(floor: Floor) -> None:
    async def found(**params: str) -> list[str]:
        page = await get(floor.ann, "order/", **params)
        return [order["client_id"] for order in page["orders"]]

    assert await found() == ["a3", "a2", "=sum(A1)"]
    assert await found(sort="price") == ["=sum(A1)", "a3", "a2"]
    assert await found(status="canceled") == ["a2"]
    assert await found(status="open") == []
    assert await found(status="filled", sort="date") == ["=sum(A1)", "a3"]
    assert await found(symbol="nordusd", side="sell", type="limit", q="a") == ["a3", "a2"]
    assert await found(q="2") == ["a2"]
    assert await found(symbol="OTHER") == []
    assert await found(to_date="2020-01-01") == []
    assert await found(from_date="2020-01-01", to_date="2999-01-01T00:00:00Z", limit="1") == ["a3"]
    first = await get(floor.ann, "order/", limit="2")
    second = await get(floor.ann, "order/", limit="2", cursor=first["next_cursor"])
    assert [order["id"] for order in first["orders"] + second["orders"]] == ["3", "2", "1"]
    assert second["next_cursor"] is None


@pytest.mark.alone
async def test_csv(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the filters keep, page by page; nothing in it is a formula."""
    monkeypatch.setattr("serve_apps.api.trading.EXPORT_CHUNK", 1)
    answer = await floor.ann.http.get(f"{floor.ann.path}order/export.csv", params={"sort": "date"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="orders.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["client_id"] for row in rows] == ["'=sum(A1)", "a2", "a3"]
    assert [row["status"] for row in rows] == ["filled", "canceled", "filled"]
    assert rows[1]["average"] == ""
    fills = await floor.bob.http.get(f"{floor.bob.path}fill/export.csv", params={"role": "taker"})
    (fill,) = csv.DictReader(io.StringIO(fills.text))
    assert (fill["price"], fill["quantity"], fill["fee_asset"]) == ("20.00", "1.0", "NORD")
    empty = await floor.bob.http.get(f"{floor.bob.path}fill/export.csv", params={"order": "77"})
    assert empty.text.count("\n") == 1


@pytest.mark.alone
async def test_to_others_it_does_not_exist(floor: Floor) -> None:
    for operation in OPERATIONS:
        path = operation.path.format(user=floor.ann.id, order="1")
        assert (await floor.ann.http.get(path)).status_code == 200, path
        assert (await floor.bob.http.get(path)).status_code == 404, path
        stranger = await floor.bob.http.get(path, headers={"Authorization": "Bearer no"})
        assert stranger.status_code == 401, path


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("order/", {"sort": "colour"}, "malformed_query"),
        ("order/", {"status": "gone"}, "malformed_query"),
        ("order/", {"side": "up"}, "malformed_query"),
        ("order/", {"symbol": "BTC-USD"}, "malformed_query"),
        ("order/", {"from_date": "yesterday"}, "malformed_query"),
        ("order/", {"to_date": "9999-12-31"}, "malformed_query"),
        ("order/", {"limit": "501"}, "malformed_query"),
        ("order/", {"q": "a\0"}, "malformed_query"),
        ("order/", {"colour": "red"}, "malformed_query"),
        ("order/", {"cursor": "zzz"}, "cursor_invalid"),
        ("fill/", {"role": "both"}, "malformed_query"),
        ("fill/", {"order": "1e3"}, "malformed_query"),
        ("fill/export.csv", {"cursor": "zzz"}, "cursor_invalid"),
        ("order/export.csv", {"sort": "-fee"}, "malformed_query"),
    ],
)
async def test_questions_that_cannot_be(
    ann: User, path: str, params: dict[str, str], code: str
) -> None:
    answer = await ann.http.get(ann.path + path, params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)

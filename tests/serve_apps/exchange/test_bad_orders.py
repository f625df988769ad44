"""Bad requests: each gets the dialect's code and text, and changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.serve_apps.exchange.venue import (
    SYMBOL,
    Refusal,
    Trader,
    Venue,
    eventually,
    now_ms,
    open_venue,
    read,
    sign,
)

GOOD = {
    "symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "50000.00",
    "quantity": "0.01",
}  # fmt: skip


async def depth(trader: Trader) -> tuple[Any, Any]:
    """Bids and asks as everybody sees them."""
    book = read(await trader.venue.http.get("/api/v3/depth", params={"symbol": SYMBOL}))
    return book["bids"], book["asks"]


async def state(trader: Trader) -> Any:
    """Everything that a bad order could have changed."""
    return (
        await trader.balances(),
        await trader.send("GET", "openOrders", symbol=SYMBOL),
        await trader.send("GET", "allOrders", symbol=SYMBOL),
        await depth(trader),
    )


@pytest.fixture(scope="module")
async def venue(shared_database_url: str, redis_url: str) -> AsyncIterator[Venue]:
    """A venue with one market: what is tested here changes nothing, so one does for all."""
    async with open_venue(shared_database_url, redis_url) as opened:
        yield opened


@pytest.fixture(scope="module")
async def ann(venue: Venue) -> Trader:
    """Somebody with a million dollars and an order in the book."""
    trader = await venue.trader("ann", USD=1_000_000)
    await trader.place("BUY", "40000.00", "0.5", newClientOrderId="resting")

    async def shown() -> bool:
        # What everybody sees follows the answer, a moment later.
        return bool((await depth(trader))[0])

    await eventually(shown)
    return trader


@pytest.fixture
async def before(ann: Trader) -> AsyncIterator[Any]:
    """How things are; what is tested leaves them so."""
    found = await state(ann)
    yield found
    assert await state(ann) == found


def changed(**changes: Any) -> dict[str, Any]:
    """A good order but for ``changes``; ``None`` leaves a parameter away."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not None}


ILLEGAL_PRICE = (
    "Illegal characters found in parameter 'price'; legal range is"
    " '^([0-9]{1,20})(\\.[0-9]{1,20})?$'."
)
ILLEGAL_CLIENT = (
    "Illegal characters found in parameter 'newClientOrderId'; legal range is"
    " '^[a-zA-Z0-9-_.:/]{1,36}$'."
)
MANDATORY = "Mandatory parameter '{}' was not sent, was empty/null, or malformed."
BALANCE = "Account has insufficient balance for requested action."

BAD = {
    "unknown symbol": (changed(symbol="DOGEUSD"), -1121, "Invalid symbol."),
    "symbol in small letters": (changed(symbol="btcusd"), -1121, "Invalid symbol."),
    "symbol of other signs": (
        changed(symbol="BTC/USD"), -1100,
        "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.",
    ),
    "no symbol": (changed(symbol=None), -1102, MANDATORY.format("symbol")),
    "no side": (changed(side=None), -1102, MANDATORY.format("side")),
    "bad side": (changed(side="HOLD"), -1117, "Invalid side."),
    "bad type": (changed(type="OCO"), -1116, "Invalid orderType."),
    "bad time in force": (changed(timeInForce="GFD"), -1115, "Invalid timeInForce."),
    "no time in force": (changed(timeInForce=None), -1102, MANDATORY.format("timeInForce")),
    "no price": (changed(price=None), -1102, MANDATORY.format("price")),
    "no quantity": (changed(quantity=None), -1102, MANDATORY.format("quantity")),
    "negative price": (changed(price="-1"), -1100, ILLEGAL_PRICE),
    "price in words": (changed(price="1e5"), -1100, ILLEGAL_PRICE),
    "price in other digits": (changed(price="٣"), -1100, ILLEGAL_PRICE),
    "price of nine decimals": (
        changed(price="50000.000000001"), -1111, "Parameter 'price' has too much precision.",
    ),
    "price beyond numbers": (
        changed(price="99999999999999999999"), -1108, "Parameter 'price' overflowed.",
    ),
    "price of nothing": (changed(price="0"), -1013, "Filter failure: PRICE_FILTER"),
    "off tick": (changed(price="50000.005"), -1013, "Filter failure: PRICE_FILTER"),
    "above the highest price": (changed(price="2000000"), -1013, "Filter failure: PRICE_FILTER"),
    "off lot": (changed(quantity="0.010001"), -1013, "Filter failure: LOT_SIZE"),
    "quantity of nothing": (changed(quantity="0.0"), -1013, "Filter failure: LOT_SIZE"),
    "above the largest quantity": (changed(quantity="1001"), -1013, "Filter failure: LOT_SIZE"),
    "under notional": (changed(quantity="0.00001"), -1013, "Filter failure: NOTIONAL"),
    "over balance": (changed(quantity="20"), -2010, BALANCE),
    "sale of what one has not": (changed(side="SELL"), -2010, BALANCE),
    "bad client id": (
        changed(newClientOrderId="no spaces"), -1100,
        ILLEGAL_CLIENT,
    ),
    "bad response type": (
        changed(newOrderRespType="LONG"), -1130,
        "Data sent for parameter 'newOrderRespType' is not valid.",
    ),
    "bad prevention": (
        changed(selfTradePreventionMode="TRANSFER"), -1130,
        "Data sent for parameter 'selfTradePreventionMode' is not valid.",
    ),
    "unknown parameter": (
        changed(trailingDelta="100"), -1103, "An unknown parameter was sent: 'trailingDelta'.",
    ),
    "limit order with a trigger": (
        changed(stopPrice="1"), -1106, "Parameter 'stopPrice' sent when not required.",
    ),
    "limit order by amount": (
        changed(quoteOrderQty="100"), -1106, "Parameter 'quoteOrderQty' sent when not required.",
    ),
    "market order with a price": (
        changed(type="MARKET", timeInForce=None), -1106,
        "Parameter 'price' sent when not required.",
    ),
    "market order of both amounts": (
        changed(type="MARKET", timeInForce=None, price=None, quoteOrderQty="100"), -1128,
        "Combination of optional parameters invalid.",
    ),
    "iceberg that does not stay": (
        changed(timeInForce="IOC", icebergQty="0.001"), -1014, "Unsupported order combination",
    ),
    "iceberg larger than itself": (
        changed(icebergQty="0.02"), -2010, "IcebergQty exceeds QTY.",
    ),
    "duplicate client id": (
        changed(newClientOrderId="resting"), -2010, "Duplicate order sent.",
    ),
    "good till no date": (changed(timeInForce="GTD"), -1102, MANDATORY.format("goodTillDate")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_bad_orders(ann: Trader, before: Any, name: str) -> None:
    params, code, text = BAD[name]
    with pytest.raises(Refusal) as refused:
        await ann.send("POST", "order", **params)
    assert (refused.value.status, refused.value.code, refused.value.text) == (400, code, text)


async def test_requests_that_prove_nothing(ann: Trader, before: Any) -> None:
    async def refused(query: str, **options: Any) -> tuple[int, int, str]:
        answer = await ann.raw("POST", "order", query, **options)
        body = answer.json()
        return answer.status_code, body["code"], body["msg"]

    signature = (400, -1022, "Signature for this request is not valid.")
    key = (401, -2015, "Invalid API-key, IP, or permissions for action.")
    stale = (400, -1021, "Timestamp for this request is outside of the recvWindow.")
    good = ann.query(GOOD)
    assert await refused(ann.query(GOOD, secret="x" * 64)) == signature
    assert await refused(good.replace("0.01", "0.02")) == signature
    assert await refused(good + "&price=1") == (
        400, -1101, "Duplicate values for a parameter detected.",
    )  # fmt: skip
    assert await refused(good.rpartition("&")[0]) == (400, -1102, MANDATORY.format("signature"))
    assert await refused(ann.query(GOOD, timestamp=now_ms() - 6_000)) == stale
    assert await refused(ann.query(GOOD, timestamp=now_ms() - 500, recvWindow=400)) == stale
    assert await refused(ann.query(GOOD, timestamp=now_ms() + 2_000)) == (
        400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.",
    )  # fmt: skip
    assert await refused(ann.query(GOOD, recvWindow=60_001)) == (
        400, -1131, "recvWindow must be less than 60000.",
    )  # fmt: skip
    assert await refused(ann.query(GOOD, timestamp="now")) == (
        400, -1100,
        "Illegal characters found in parameter 'timestamp'; legal range is '^[0-9]{1,20}$'.",
    )  # fmt: skip
    unknown = {"X-MBX-APIKEY": "a" * 64}
    assert await refused(good, headers=unknown) == key
    nothing = {"X-MBX-APIKEY": ""}
    assert await refused(good, headers=nothing) == (401, -2014, "API-key format invalid.")


async def test_keys_that_may_not(venue: Venue, ann: Trader, before: Any) -> None:
    reader = await venue.key(ann.user, "reader", scopes=["read"])
    elsewhere = await venue.key(ann.user, "elsewhere", networks=["192.0.2.0/24"])
    revoked = await venue.key(ann.user, "revoked")
    await revoked.balances()
    assert await venue.app.services.api_keys.revoke(ann.user, revoked.number)
    assert await reader.balances() == before[0]
    for trader in (reader, elsewhere, revoked):
        with pytest.raises(Refusal) as refused:
            await trader.send("POST", "order", **GOOD)
        assert (refused.value.status, refused.value.code) == (401, -2015)
    with pytest.raises(Refusal) as refused:
        await revoked.balances()
    assert refused.value.code == -2015


async def test_bad_cancels_and_amendments(ann: Trader, before: Any) -> None:
    async def refused(method: str, path: str, **params: Any) -> tuple[int, str]:
        with pytest.raises(Refusal) as refusal:
            await ann.send(method, path, symbol=SYMBOL, **params)
        assert refusal.value.status == 400
        return refusal.value.code, refusal.value.text

    unknown = (-2011, "Unknown order sent.")
    amend = "order/amend/keepPriority"
    assert await refused("DELETE", "order", orderId=999) == unknown
    assert await refused("DELETE", "order", origClientOrderId="other") == unknown
    assert await refused("DELETE", "order", orderId=1, origClientOrderId="other") == unknown
    neither = "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
    assert await refused("DELETE", "order") == (-1102, neither)
    assert await refused("GET", "order", orderId=999) == (-2013, "Order does not exist.")
    assert await refused("PUT", amend, orderId=999, newQty="0.1") == (
        -2013, "Order does not exist.",
    )  # fmt: skip
    increase = "Order amend (quantity increase) is not supported."
    assert await refused("PUT", amend, orderId=1, newQty="0.6") == (-2038, increase)
    same = "The requested action would change no state; rejecting"
    assert await refused("PUT", amend, orderId=1, newQty="0.5") == (-2038, same)
    assert await refused("PUT", amend, orderId=1, newQty="0.000001") == (
        -1013, "Filter failure: LOT_SIZE",
    )  # fmt: skip


async def test_rubbish(venue: Venue, ann: Trader, before: Any) -> None:
    async def answer(method: str, path: str, **options: Any) -> tuple[int, int]:
        headers = {"X-MBX-APIKEY": ann.key, **options.pop("headers", {})}
        found = await venue.http.request(method, path, headers=headers, **options)
        return found.status_code, found.json()["code"]

    assert await answer("GET", "/api/v3/nothing") == (404, -1020)
    assert await answer("PATCH", "/api/v3/order") == (405, -1020)
    assert await answer("POST", "/api/v3/order", content=b"\xff\xfe\x00") == (400, -1100)
    assert await answer("POST", "/api/v3/order", content=b"a=" + b"x" * 70_000) == (413, -1101)
    assert await answer("POST", "/api/v3/order?" + "a=1&" * 5_000) == (414, -1101)
    many = "&".join(f"p{number}=1" for number in range(100))
    assert await answer("POST", "/api/v3/order?" + many) == (400, -1101)
    for rubbish in (b"", b"{", b'{"symbol": 5}', b"\x93\x01\xc1", b"[" * 100_000, b"null"):
        query = f"timestamp={now_ms()}"
        payload = query.encode() + rubbish
        signature = sign(ann.secret, payload)
        for kind in ("application/json", "application/msgpack"):
            found = await answer(
                "POST",
                f"/api/v3/batchOrders?{query}&signature={signature}",
                content=rubbish,
                headers={"content-type": kind},
            )
            assert found == (400, -1135), rubbish

"""Orders that come again, and more of them than one may send."""

from __future__ import annotations

import httpx
import pytest

from serve_apps.exchange.limits import VIOLATIONS_MAX, LimitSettings
from tests.serve_apps.exchange.test_bad_orders import GOOD
from tests.serve_apps.exchange.venue import SYMBOL, Refusal, Trader, Venue, open_venue, read


async def test_a_replayed_request_is_carried_out_once(ann: Trader) -> None:
    for params in (GOOD, {**GOOD, "newClientOrderId": "mine"}):
        query = ann.query(params)
        answers = [read(await ann.raw("POST", "order", query)) for _ in range(3)]
        assert answers[1:] == answers[:1] * 2
    assert len(await ann.send("GET", "openOrders", symbol=SYMBOL)) == 2
    assert (await ann.balances())["USD"][1] == "1000.00000000"
    again = await ann.send("POST", "order", **{**GOOD, "newClientOrderId": "mine"})
    assert again["orderId"] == 2
    with pytest.raises(Refusal) as refused:
        await ann.send("POST", "order", **{**GOOD, "newClientOrderId": "mine", "price": "49000"})
    assert (refused.value.code, refused.value.text) == (-2010, "Duplicate order sent.")


async def test_over_rate(database_url: str, redis_url: str) -> None:
    limits = LimitSettings(weight_1m=200, orders_10s=3, requests_1m=40)
    async with open_venue(database_url, redis_url, limits=limits, forwarded_hops=1) as venue:
        ann = await venue.trader("ann", USD=1_000)
        await _over_orders(ann)
        await _over_weight(venue)


async def _over_orders(ann: Trader) -> None:
    headers: list[httpx.Headers] = []
    refusal: Refusal | None = None
    for _ in range(10):  # the ten seconds may end once in between
        try:
            answer = await ann.raw("POST", "order", ann.query({**GOOD, "quantity": "0.0001"}))
            read(answer)
            headers.append(answer.headers)
        except Refusal as error:
            refusal = error
            break
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, -1015)
    assert refusal.text == "Too many new orders; current limit is 3 orders per 10 SECOND."
    assert 1 <= int(refusal.headers["retry-after"]) <= 10
    assert len(await ann.send("GET", "openOrders", symbol=SYMBOL)) == len(headers)
    assert headers[0]["x-mbx-order-count-1d"] == "1"
    assert headers[-1]["x-mbx-order-count-1d"] == str(len(headers))


async def _over_weight(venue: Venue) -> None:
    async def ask(address: str) -> httpx.Response:
        return await venue.http.get("/api/v3/exchangeInfo", headers={"x-forwarded-for": address})

    first = await ask("192.0.2.7")
    assert first.headers["x-mbx-used-weight-1m"] == "20"
    while (answer := await ask("192.0.2.7")).status_code == 200:
        pass
    body = answer.json()
    assert (answer.status_code, body["code"]) == (429, -1003)
    assert body["msg"].startswith(
        "Too much request weight used; current limit is 200 request weight per 1 MINUTE."
    )
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    for _ in range(VIOLATIONS_MAX + 1):
        answer = await ask("192.0.2.7")
    body = answer.json()
    assert (answer.status_code, body["code"]) == (418, -1003)
    assert body["msg"].startswith("Way too much request weight used; IP banned until ")
    assert int(answer.headers["retry-after"]) > 60
    assert (await ask("192.0.2.8")).status_code == 200

"""Orders over REST: the answers of the dialect, and what they do to balances."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve_apps.exchange.venue import SYMBOL, Refusal, Trader, Venue, eventually


async def test_an_order_is_held_matched_and_paid(venue: Venue, ann: Trader, ben: Trader) -> None:
    answer = await ben.place("SELL", "50000.00", "0.50000", newClientOrderId="offer-1")
    assert answer["clientOrderId"] == "offer-1"
    assert (answer["symbol"], answer["orderId"], answer["status"]) == (SYMBOL, 1, "NEW")
    assert (answer["price"], answer["origQty"]) == ("50000.00000000", "0.50000000")
    assert (answer["executedQty"], answer["cummulativeQuoteQty"]) == ("0.00000000", "0.00000000")
    assert answer["fills"] == []
    assert await ben.balances() == {
        "BTC": ("99.50000000", "0.50000000"),
        "USD": ("100000.00000000", "0.00000000"),
    }

    answer = await ann.place("BUY", "50001.00", "0.20000")
    assert (answer["status"], answer["executedQty"]) == ("FILLED", "0.20000000")
    assert answer["cummulativeQuoteQty"] == "10000.00000000"
    assert answer["fills"] == [
        {
            "price": "50000.00000000",
            "qty": "0.20000000",
            "commission": "0.00040000",
            "commissionAsset": "BTC",
            "tradeId": 1,
        }
    ]
    assert await ann.balances() == {
        "BTC": ("0.19960000", "0.00000000"),
        "USD": ("990000.00000000", "0.00000000"),
    }

    async def part_is_sold() -> Any:
        found = await ben.send("GET", "order", symbol=SYMBOL, origClientOrderId="offer-1")
        return found if found["status"] == "PARTIALLY_FILLED" else None

    order = await eventually(part_is_sold)
    assert order["executedQty"] == "0.20000000"
    (still_open,) = await ben.send("GET", "openOrders", symbol=SYMBOL)
    assert still_open == order


async def test_over_balance(ann: Trader) -> None:
    with pytest.raises(Refusal) as refused:
        await ann.place("BUY", "50000.00", "21")
    assert (refused.value.status, refused.value.code) == (400, -2010)
    assert refused.value.text == "Account has insufficient balance for requested action."

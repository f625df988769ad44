"""Orders over REST: the answers of the dialect, and what they do to balances."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve_apps.exchange.venue import (
    SYMBOL,
    Refusal,
    Trader,
    Venue,
    eventually,
    now_ms,
)


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


REPLACE = {
    "symbol": SYMBOL, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "39000",
    "quantity": "0.1",
}  # fmt: skip


async def refused(trader: Trader, **params: Any) -> Refusal:
    """A cancel-replace that does not succeed in all."""
    with pytest.raises(Refusal) as refusal:
        await trader.send("POST", "order/cancelReplace", **{**REPLACE, **params})
    return refusal.value


async def test_cancel_replace(ann: Trader) -> None:
    first = await ann.place("BUY", "40000", "0.1", newClientOrderId="one")
    answer = await ann.send(
        "POST", "order/cancelReplace", **REPLACE, cancelReplaceMode="STOP_ON_FAILURE",
        cancelOrderId=first["orderId"], newClientOrderId="two",
    )  # fmt: skip
    assert (answer["cancelResult"], answer["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert answer["cancelResponse"]["origClientOrderId"] == "one"
    assert answer["newOrderResponse"]["clientOrderId"] == "two"

    error = await refused(ann, cancelReplaceMode="STOP_ON_FAILURE", cancelOrigClientOrderId="one")
    assert (error.status, error.code, error.text) == (400, -2022, "Order cancel-replace failed.")
    assert error.body["data"] == {
        "cancelResult": "FAILURE",
        "newOrderResult": "NOT_ATTEMPTED",
        "cancelResponse": {"code": -2011, "msg": "Unknown order sent."},
        "newOrderResponse": None,
    }
    error = await refused(ann, cancelReplaceMode="ALLOW_FAILURE", cancelOrigClientOrderId="one")
    partly = "Order cancel-replace partially failed."
    assert (error.status, error.code, error.text) == (409, -2021, partly)
    assert error.body["data"]["newOrderResult"] == "SUCCESS"
    error = await refused(
        ann, cancelReplaceMode="STOP_ON_FAILURE", cancelOrigClientOrderId="two", quantity="900"
    )
    assert (error.status, error.code) == (409, -2021)
    assert error.body["data"]["cancelResult"] == "SUCCESS"
    assert error.body["data"]["newOrderResponse"]["code"] == -2010
    (left,) = await ann.send("GET", "openOrders")
    assert left["price"] == "39000.00000000"


async def test_other_types(ann: Trader, ben: Trader) -> None:
    empty = await ann.send("POST", "order", symbol=SYMBOL, side="BUY", type="MARKET", quantity="1")
    assert (empty["status"], empty["executedQty"]) == ("EXPIRED", "0.00000000")
    await ben.place("SELL", "50000", "1", icebergQty="0.1")

    async def asks() -> Any:
        return (await ben.raw("GET", "depth", f"symbol={SYMBOL}")).json()["asks"]

    assert await eventually(asks) == [["50000.00000000", "0.10000000"]]
    spent = await ann.send(
        "POST", "order", symbol=SYMBOL, side="BUY", type="MARKET", quoteOrderQty="1000.005"
    )
    assert (spent["status"], spent["cummulativeQuoteQty"]) == ("FILLED", "1000.00000000")
    assert spent["origQuoteOrderQty"] == "1000.00500000"
    with pytest.raises(Refusal) as refusal:
        await ann.send(
            "POST", "order", symbol=SYMBOL, side="BUY", type="LIMIT_MAKER", price="50000",
            quantity="0.1",
        )  # fmt: skip
    assert (refusal.value.code, refusal.value.text) == (
        -2010, "Order would immediately match and take.",
    )  # fmt: skip
    stop = await ann.send(
        "POST", "order", symbol=SYMBOL, side="BUY", type="STOP_LOSS_LIMIT", timeInForce="GTC",
        price="52000", stopPrice="51000", quantity="0.1", newOrderRespType="RESULT",
    )  # fmt: skip
    assert (stop["status"], stop["stopPrice"], stop["workingTime"]) == ("NEW", "51000.00000000", -1)
    killed = await ann.place("BUY", "50000", "2", timeInForce="FOK")
    assert (killed["status"], killed["executedQty"]) == ("EXPIRED", "0.00000000")
    part = await ann.place("BUY", "50000", "2", timeInForce="IOC")
    assert (part["status"], part["executedQty"]) == ("EXPIRED", "0.98000000")
    day = await ann.place(
        "BUY", "30000", "0.1", timeInForce="GTD", goodTillDate=now_ms() + 3_600_000
    )
    assert (day["status"], day["timeInForce"]) == ("NEW", "GTD")
    cancelled = await ann.send("DELETE", "openOrders", symbol=SYMBOL)
    assert [row["status"] for row in cancelled] == ["CANCELED", "CANCELED"]
    assert (await ann.balances())["USD"][1] == "0.00000000"


async def test_an_amended_order_keeps_its_place(ann: Trader) -> None:
    placed = await ann.place("BUY", "40000", "0.5")
    answer = await ann.send(
        "PUT", "order/amend/keepPriority", symbol=SYMBOL, orderId=placed["orderId"], newQty="0.2"
    )
    assert answer["amendedOrder"]["qty"] == "0.20000000"
    assert answer["amendedOrder"]["clientOrderId"] == placed["clientOrderId"]
    assert (await ann.balances())["USD"][1] == "8000.00000000"

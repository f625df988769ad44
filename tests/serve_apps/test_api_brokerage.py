"""Funding a brokerage, withdrawing from it, and its balances over the API."""

from __future__ import annotations

import pytest

from domain.accounts.trading import BrokerageReply, IssueAsset
from serve_apps.application import Application
from tests.serve_apps.conftest import User
from tests.serve_apps.test_api_accounts import act, available
from tests.serve_apps.test_api_transfers import refused


async def test_there_and_back(ann: User) -> None:
    account = ann.accounts["USD"]
    answer = await act(ann, "brokerage/fund/", {"account": account, "amount": "70.5"})
    assert answer.status_code == 201, answer.text
    moved = answer.json()
    assert (moved["account"], moved["amount"], moved["currency"]) == (account, "70.50", "USD")
    assert moved["balance"] == {
        "asset": "USD",
        "total": "70.50000000",
        "held": "0.00000000",
        "available": "70.50000000",
    }
    assert await available(ann) == ("29.50", "0.00", "29.50")
    again = await act(ann, "brokerage/fund/", {"account": account, "amount": "70.50"})
    assert again.json() == moved
    refused(await act(ann, "brokerage/fund/", {"account": account, "amount": "70.51"}), "id_reused")
    back = await act(ann, "brokerage/withdraw/", {"account": account, "amount": "20"})
    assert back.status_code == 201, back.text
    assert back.json()["balance"]["total"] == "50.50000000"
    assert await available(ann) == ("49.50", "0.00", "49.50")
    page = (await ann.http.get(ann.path + "transaction/?sort=date")).json()["transactions"]
    assert [(row["kind"], row["direction"], row["amount"], row["from"]) for row in page[-2:]] == [
        ("funding", "out", "70.50", account),
        ("withdrawal", "in", "20.00", None),
    ]
    one = await ann.http.get(f"{ann.path}transaction/{moved['id']}/")
    assert one.json()["kind"] == "funding"


async def test_balances_and_what_they_are_worth(app: Application, ann: User) -> None:
    empty = (await ann.http.get(ann.path + "brokerage/")).json()
    assert empty == {"base": "USD", "total": "0.00000000", "open_orders": 0, "balances": []}
    await act(ann, "brokerage/fund/", {"account": ann.accounts["USD"], "amount": "70"})
    issued = IssueAsset(b"i" * 16, b"", int(ann.id), "KTRA", 25 * 10**7)
    assert isinstance(await app.services.accounts.call(issued), BrokerageReply)
    found = (await ann.http.get(ann.path + "brokerage/")).json()
    assert (found["total"], found["open_orders"]) == ("70.00000000", 0)
    assert found["balances"] == [
        {
            "asset": "USD",
            "total": "70.00000000",
            "held": "0.00000000",
            "available": "70.00000000",
            "symbol": None,
            "price": None,
            "value": "70.00000000",
        },
        {
            "asset": "KTRA",
            "total": "2.50000000",
            "held": "0.00000000",
            "available": "2.50000000",
            "symbol": None,
            "price": None,
            "value": None,
        },
    ]
    euro = (await ann.http.get(ann.path + "brokerage/?base=EUR")).json()
    assert euro["base"] == "EUR"
    assert 0 < float(euro["total"]) != 70
    for query in ("base=XXX", "other=1", "base=USD&base=EUR"):
        refused(await ann.http.get(f"{ann.path}brokerage/?{query}"), "malformed_query")


@pytest.mark.parametrize("way", ["fund", "withdraw"])
async def test_refusals(ann: User, bob: User, way: str) -> None:
    account = ann.accounts["USD"]
    unknown = "unknown_source_account" if way == "fund" else "unknown_destination_account"
    cases = [
        ({"account": account, "amount": "1e3"}, "amount_invalid"),
        ({"account": account, "amount": "-1"}, "amount_invalid"),
        ({"account": account, "amount": "1.001"}, "too_many_decimals"),
        ({"account": account, "amount": "0"}, "amount_not_positive"),
        ({"account": account, "amount": "99999999999999"}, "amount_too_large"),
        ({"account": bob.accounts["USD"], "amount": "1"}, unknown),
        ({"account": "x", "amount": "1"}, unknown),
        ({"account": account, "amount": "100.01"}, "insufficient_funds"),
        ({"account": account}, "body_invalid"),
        ({"account": account, "amount": "1", "to": account}, "body_invalid"),
    ]
    for number, (body, code) in enumerate(cases):
        refused(await act(ann, f"brokerage/{way}/", body, key=str(number)), code)
    body = {"account": account, "amount": "1"}
    refused(
        await ann.http.post(f"{ann.path}brokerage/{way}/", json=body), "idempotency_key_required"
    )
    other = await ann.http.post(
        f"{bob.path}brokerage/{way}/", json=body, headers={"Idempotency-Key": "1"}
    )
    refused(other, "not_found")
    assert await available(ann) == ("100.00", "0.00", "100.00")
    assert (await ann.http.get(ann.path + "brokerage/")).json()["balances"] == []

"""Transfers over the API: what happens, and each way to be refused."""

from __future__ import annotations

from serve_apps.application import Application
from tests.serve_apps.conftest import User


async def test_sign_up_opens_accounts_and_credits_the_bonus(ann: User) -> None:
    assert await ann.balances() == {"USD": "100.00", "CNY": "0.00", "EUR": "0.00"}


async def test_a_transfer_to_another_costs_the_fee(ann: User, bob: User) -> None:
    answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "20", reference="Lunch")
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{ann.path}transaction/{body['id']}/"
    assert (body["status"], body["amount"], body["fee"]) == ("completed", "20.00", "0.20")
    assert body["reference"] == "Lunch"
    assert (await ann.balances())["USD"] == "79.80"
    assert (await bob.balances())["USD"] == "120.00"

"""Accounts and holds over the API."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from domain.accounts.commands import Command, Reply
from domain.durable import Unavailable
from serve_apps.application import Application
from tests.serve_apps.conftest import User
from tests.serve_apps.test_api_transfers import refused


async def act(
    user: User, path: str, body: dict[str, Any] | None = None, key: str = "one"
) -> httpx.Response:
    """Post with a key."""
    headers = {"Idempotency-Key": key}
    return await user.http.post(user.path + path, json=body, headers=headers)


async def available(user: User, currency: str = "USD") -> tuple[str, str, str]:
    """Balance, held and available of the first account in a currency."""
    accounts = (await user.http.get(user.path + "account/")).json()["accounts"]
    account = next(item for item in accounts if item["currency"] == currency)
    return account["balance"], account["held"], account["available"]


class TestAccounts:
    async def test_opened_used_and_closed(self, ann: User) -> None:
        answer = await act(ann, "account/", {"currency": "USD", "name": " Holidays "})
        assert answer.status_code == 201, answer.text
        account = answer.json()
        assert (account["name"], account["status"], account["balance"]) == (
            "Holidays",
            "open",
            "0.00",
        )
        assert answer.headers["location"] == f"{ann.path}account/{account['id']}/"
        again = await act(ann, "account/", {"currency": "USD", "name": "Holidays"})
        assert (again.status_code, again.json()) == (201, account)
        other = await act(ann, "account/", {"currency": "USD", "name": "Other"})
        refused(other, "id_reused")

        sent = await ann.send(ann.accounts["USD"], account["id"], "10")
        assert sent.status_code == 201
        path = f"{ann.path}account/{account['id']}/"
        assert (await ann.http.get(path)).json()["balance"] == "10.00"
        refused(await ann.http.delete(path), "account_not_empty")
        await ann.send(account["id"], ann.accounts["USD"], "10")
        assert (await ann.http.delete(path)).json()["status"] == "closed"
        assert (await ann.http.delete(path)).json()["status"] == "closed"
        refused(await ann.send(ann.accounts["USD"], account["id"], "1"), "destination_closed")

    async def test_without_a_name_it_is_called_like_its_currency(self, ann: User) -> None:
        answer = await act(ann, "account/", {"currency": "CNY"})
        assert answer.json()["name"] == "Chinese yuan"

    async def test_refusals(self, ann: User) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"currency": "XXX"}, "unknown_currency"),
            ({"currency": "usd"}, "unknown_currency"),
            ({"currency": "USD", "name": "x" * 41}, "name_invalid"),
            ({"currency": "USD", "name": "a\nb"}, "text_invalid"),
            ({"currency": 1}, "body_invalid"),
        ]
        for number, (body, code) in enumerate(cases):
            refused(await act(ann, "account/", body, key=str(number)), code)
        for text in ("x", "1", ann.accounts["USD"][:-1] + "x"):
            refused(await ann.http.get(f"{ann.path}account/{text}/"), "not_found")
            refused(await ann.http.delete(f"{ann.path}account/{text}/"), "not_found")

    async def test_as_many_as_one_may_open(self, ann: User) -> None:
        for number in range(97):
            answer = await act(ann, "account/", {"currency": "USD"}, key=str(number))
            assert answer.status_code == 201
        answer = await act(ann, "account/", {"currency": "USD"}, key="last")
        refused(answer, "too_many_accounts")


class TestHolds:
    async def reserve(self, user: User, amount: str, key: str = "hold", **more: Any) -> str:
        """Put USD aside; the hold's id."""
        body = {"account": user.accounts["USD"], "amount": amount, **more}
        answer = await act(user, "hold/", body, key)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def test_held_funds_are_not_available(self, ann: User, bob: User) -> None:
        hold = await self.reserve(ann, "60", purpose="Bicycle", expires_in=60)
        assert await available(ann) == ("100.00", "60.00", "40.00")
        answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "40")
        refused(answer, "insufficient_funds")
        (listed,) = (await ann.http.get(ann.path + "hold/")).json()["holds"]
        assert (listed["id"], listed["amount"], listed["purpose"]) == (hold, "60.00", "Bicycle")
        assert await self.reserve(ann, "60.00", purpose="Bicycle", expires_in=60) == hold
        assert await available(ann) == ("100.00", "60.00", "40.00")

    async def test_posted_in_parts(self, ann: User) -> None:
        hold = await self.reserve(ann, "60")
        euro = (await act(ann, "account/", {"currency": "USD"}, key="new")).json()["id"]
        part = {"to": euro, "amount": "20", "release": False}
        answer = await act(ann, f"hold/{hold}/post/", part)
        assert answer.status_code == 201, answer.text
        assert answer.json()["amount"] == "20.00"
        assert (await act(ann, f"hold/{hold}/post/", part)).json() == answer.json()
        refused(await act(ann, f"hold/{hold}/post/", {**part, "amount": "21"}), "id_reused")
        assert await available(ann) == ("80.00", "40.00", "40.00")
        too_much = {"to": euro, "amount": "41"}
        refused(await act(ann, f"hold/{hold}/post/", too_much, "two"), "hold_exceeded")
        rest = {"to": euro, "amount": "30", "reference": "Rest"}
        assert (await act(ann, f"hold/{hold}/post/", rest, "three")).status_code == 201
        assert await available(ann) == ("50.00", "0.00", "50.00")
        refused(await act(ann, f"hold/{hold}/post/", rest, "four"), "hold_unknown")
        refused(await act(ann, f"hold/{hold}/void/", None, "five"), "hold_unknown")

    async def test_posted_to_another_it_costs_the_fee(self, ann: User, bob: User) -> None:
        hold = await self.reserve(ann, "60")
        to = {"to": bob.accounts["USD"], "amount": "60"}
        refused(await act(ann, f"hold/{hold}/post/", to), "hold_exceeded")
        answer = await act(ann, f"hold/{hold}/post/", {**to, "amount": "50"}, "two")
        assert (answer.status_code, answer.json()["fee"]) == (201, "0.50")
        assert await available(ann) == ("49.50", "0.00", "49.50")
        assert (await bob.balances())["USD"] == "150.00"

    async def test_voided_once(self, ann: User) -> None:
        hold = await self.reserve(ann, "60")
        answer = await act(ann, f"hold/{hold}/void/")
        assert (answer.status_code, answer.json()["amount"]) == (200, "0.00")
        assert (await act(ann, f"hold/{hold}/void/")).json() == answer.json()
        refused(await act(ann, f"hold/{hold}/void/", None, "two"), "hold_unknown")
        assert await available(ann) == ("100.00", "0.00", "100.00")
        assert (await ann.http.get(ann.path + "hold/")).json() == {"holds": []}

    async def test_refusals(self, ann: User, bob: User) -> None:
        account = ann.accounts["USD"]
        cases: list[tuple[dict[str, Any], str]] = [
            ({"account": bob.accounts["USD"], "amount": "1"}, "unknown_source_account"),
            ({"account": "x", "amount": "1"}, "unknown_source_account"),
            ({"account": account, "amount": "0"}, "amount_not_positive"),
            ({"account": account, "amount": "1.234"}, "too_many_decimals"),
            ({"account": account, "amount": "-1"}, "amount_invalid"),
            ({"account": account, "amount": "100.01"}, "insufficient_funds"),
            ({"account": account, "amount": "1", "expires_in": 100 * 86_400}, "expiry_invalid"),
            ({"account": account, "amount": "1", "expires_in": 0}, "body_invalid"),
            ({"account": account, "amount": "1", "purpose": "x" * 141}, "body_invalid"),
            ({"account": account, "amount": "1", "purpose": "\u0000"}, "text_invalid"),
        ]
        for number, (body, code) in enumerate(cases):
            refused(await act(ann, "hold/", body, key=str(number)), code)
        hold = await self.reserve(ann, "10")
        posts: list[tuple[dict[str, Any], str]] = [
            ({"to": "x", "amount": "1"}, "unknown_destination_account"),
            ({"to": "12345678901234", "amount": "1"}, "unknown_destination_account"),
            ({"to": ann.accounts["EUR"], "amount": "1"}, "currency_mismatch"),
            ({"to": bob.accounts["USD"], "amount": "0"}, "amount_not_positive"),
            ({"to": bob.accounts["USD"], "amount": "1.234"}, "too_many_decimals"),
            ({"to": bob.accounts["USD"], "amount": "1", "reference": "\n"}, "text_invalid"),
        ]
        for number, (body, code) in enumerate(posts):
            refused(await act(ann, f"hold/{hold}/post/", body, key=f"p{number}"), code)
        for path in ("hold/xyz/post/", "hold/00/post/"):
            refused(await act(ann, path, posts[3][0]), "hold_unknown")
        refused(await act(ann, "hold/xyz/void/"), "hold_unknown")
        assert await available(ann) == ("100.00", "10.00", "90.00")


@pytest.mark.parametrize("path", ["account/", "hold/", ""])
async def test_while_the_accounts_cannot_be_reached(
    app: Application, ann: User, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(command: Command, *, timeout_s: float = 10.0) -> Reply:
        return Unavailable("link lost")

    monkeypatch.setattr(app.services.accounts, "call", call)
    refused(await ann.http.get(ann.path + path), "outcome_unknown")

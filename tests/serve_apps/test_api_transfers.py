"""Transfers over the API: what happens, and each way to be refused."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import msgspec
import pytest

from domain.accounts.commands import (
    AccountStatus,
    Command,
    Reply,
    SetAccountStatus,
    SetDailyLimit,
)
from domain.accounts.numbers import account_number
from domain.durable import Unavailable
from persistence.accounts.queries import SORTS
from serve_apps.application import Application
from serve_apps.problems import STATUS
from tests.serve_apps.conftest import MakeUser, User


def refused(answer: httpx.Response, code: str) -> dict[str, str]:
    """Check a problem document; its fields."""
    document = answer.json()
    assert document["code"] == code, answer.text
    assert answer.status_code == document["status"] == STATUS[code]
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["title"]
    assert document["type"].startswith("/api/docs#")
    fields: dict[str, str] = document.get("fields", {})
    return fields


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


async def test_between_own_accounts_free_at_todays_rate(app: Application, ann: User) -> None:
    answer = await ann.send(ann.accounts["USD"], ann.accounts["EUR"], "10.00")
    body = answer.json()
    assert answer.status_code == 201, answer.text
    assert (body["fee"], body["credited_currency"]) == ("0.00", "EUR")
    assert body["rate"] is not None
    assert await ann.balances() == {"USD": "90.00", "CNY": "0.00", "EUR": body["credited"]}


async def test_a_form_as_well_as_json(ann: User, bob: User) -> None:
    answer = await ann.http.post(
        ann.path + "transaction/",
        data={"from": ann.accounts["USD"], "to": bob.accounts["USD"], "amount": "1.50"},
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["amount"] == "1.50"


async def test_numbers_may_be_spaced_or_integers(ann: User, bob: User) -> None:
    spaced = " ".join([bob.accounts["USD"][:4], bob.accounts["USD"][4:8], bob.accounts["USD"][8:]])
    assert (await ann.send(ann.accounts["USD"], spaced, "1")).status_code == 201
    numbers: dict[str, Any] = {"from": int(ann.accounts["USD"]), "to": int(bob.accounts["USD"])}
    answer = await ann.http.post(ann.path + "transaction/", json={**numbers, "amount": "1"})
    assert answer.status_code == 201


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"amount": "1.005"}, "too_many_decimals"),
    ({"amount": "-1"}, "amount_invalid"),
    ({"amount": "+1"}, "amount_invalid"),
    ({"amount": "1e2"}, "amount_invalid"),
    ({"amount": "1,00"}, "amount_invalid"),
    ({"amount": ""}, "amount_invalid"),
    ({"amount": "\u0661"}, "amount_invalid"),
    ({"amount": "0"}, "amount_not_positive"),
    ({"amount": "0.00"}, "amount_not_positive"),
    ({"amount": "10000000000001"}, "amount_too_large"),
    ({"amount": "9" * 17}, "amount_invalid"),
    ({"amount": 1.5}, "body_invalid"),
    ({"amount": None}, "body_invalid"),
    ({"amount": "99.99"}, "insufficient_funds"),
    ({"reference": "x" * 141}, "reference_too_long"),
    ({"reference": "a\u0000b"}, "text_invalid"),
    ({"to": "usd"}, "same_account"),
    ({"to": "12345678901234"}, "unknown_destination_account"),
    ({"to": "nobody"}, "unknown_destination_account"),
    ({"to": str(account_number(9_999_999_999, 0))}, "unknown_destination_account"),
    ({"to": []}, "body_invalid"),
    ({"from": "12345678901234"}, "unknown_source_account"),
    ({"from": "bob"}, "unknown_source_account"),
    ({"from": "ann99"}, "unknown_source_account"),
    ({"quote": "bm90IG9uZSBvZiBvdXJz"}, "quote_invalid"),
    ({"quote": "%%"}, "quote_invalid"),
    ({"extra": "field"}, "body_invalid"),
]


async def test_refusals(ann: User, bob: User) -> None:
    names = {
        "usd": ann.accounts["USD"],
        "bob": bob.accounts["USD"],
        "ann99": str(account_number(int(ann.id), 99)),
    }
    for change, code in REFUSALS:
        body = {"from": ann.accounts["USD"], "to": bob.accounts["USD"], "amount": "1", **change}
        body = {k: names.get(v, v) if isinstance(v, str) else v for k, v in body.items()}
        refused(await ann.http.post(ann.path + "transaction/", json=body), code)
    assert (await ann.balances())["USD"] == "100.00"
    assert (await bob.balances())["USD"] == "100.00"


async def test_fields_tell_amounts_as_people_write_them(ann: User, bob: User) -> None:
    answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "100")
    fields = refused(answer, "insufficient_funds")
    assert fields == {"available": "100.00", "needed": "101.00", "currency": "USD"}


async def set_status(app: Application, account: str, status: AccountStatus) -> None:
    await app.services.accounts.call(
        SetAccountStatus(uuid.uuid4().bytes, b"", int(account), status)
    )


async def test_frozen_and_closed_accounts(app: Application, ann: User, bob: User) -> None:
    await set_status(app, ann.accounts["USD"], AccountStatus.FROZEN)
    answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "1")
    refused(answer, "account_frozen")
    assert (await bob.send(bob.accounts["USD"], ann.accounts["USD"], "1")).status_code == 201
    await set_status(app, ann.accounts["CNY"], AccountStatus.CLOSED)
    refused(await ann.send(ann.accounts["CNY"], ann.accounts["EUR"], "1"), "account_closed")
    answer = await ann.send(ann.accounts["EUR"], ann.accounts["CNY"], "1")
    refused(answer, "destination_closed")


async def test_a_credit_refused_on_arrival_comes_back(
    app: Application, ann: User, bob: User
) -> None:
    await set_status(app, bob.accounts["EUR"], AccountStatus.CLOSED)
    answer = await ann.send(ann.accounts["USD"], bob.accounts["EUR"], "10")
    assert answer.status_code == 201, answer.text
    assert (answer.json()["status"], answer.json()["reason"]) == ("returned", "destination_closed")
    assert (await ann.balances())["USD"] == "100.00"


async def test_the_limit_of_the_day(app: Application, ann: User, bob: User) -> None:
    await app.services.accounts.call(SetDailyLimit(bytes(16), b"", int(ann.id), "USD", 10_00))
    assert (await ann.send(ann.accounts["USD"], bob.accounts["USD"], "6")).status_code == 201
    answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "5")
    assert refused(answer, "daily_limit_exceeded")["remaining"] == "4.00"
    limits = (await ann.http.get(ann.path)).json()["limits"]
    assert {"currency": "USD", "limit": "10.00", "used": "6.00"} in limits


class TestIdempotency:
    async def test_the_same_again_answers_the_same_and_moves_nothing(
        self, ann: User, bob: User
    ) -> None:
        first = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10", key="one")
        again = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10.00", key="one")
        assert (again.status_code, again.json()) == (201, first.json())
        assert (await bob.balances())["USD"] == "110.00"

    async def test_a_refusal_is_repeated_too(self, ann: User, bob: User) -> None:
        first = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "150", key="one")
        refused(first, "insufficient_funds")
        await bob.send(bob.accounts["USD"], ann.accounts["USD"], "90")
        again = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "150", key="one")
        assert again.json() == first.json()

    @pytest.mark.parametrize(
        "change", [{"amount": "10.01"}, {"reference": "x"}, {"to": "eur"}, {"from": "eur"}]
    )
    async def test_another_body_is_refused(
        self, ann: User, bob: User, change: dict[str, str]
    ) -> None:
        await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10", key="one")
        body = {"from": ann.accounts["USD"], "to": bob.accounts["USD"], "amount": "10"}
        body |= {k: ann.accounts["EUR"] if v == "eur" else v for k, v in change.items()}
        if "to" in change:
            body["to"] = bob.accounts["EUR"]
        answer = await ann.http.post(
            ann.path + "transaction/", json=body, headers={"Idempotency-Key": "one"}
        )
        refused(answer, "id_reused")

    async def test_keys_of_others_are_others(self, ann: User, bob: User) -> None:
        assert (
            await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10", key="one")
        ).status_code == 201
        assert (
            await bob.send(bob.accounts["USD"], ann.accounts["USD"], "10", key="one")
        ).status_code == 201

    async def test_keys_that_are_none(self, ann: User, bob: User) -> None:
        for key in ["", "x" * 256, "a\tb", "caf\u00e9"]:
            answer = await ann.http.post(
                ann.path + "transaction/",
                json={"from": ann.accounts["USD"], "to": bob.accounts["USD"], "amount": "1"},
                headers={b"Idempotency-Key": key.encode("latin-1")},
            )
            refused(answer, "idempotency_key_invalid")

    async def test_without_a_key_each_is_another(self, ann: User, bob: User) -> None:
        for _ in range(2):
            await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10")
        assert (await bob.balances())["USD"] == "120.00"


async def test_an_unknown_outcome_says_to_ask_again(
    app: Application, ann: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(command: Command, *, timeout_s: float = 10.0) -> Reply:
        return Unavailable("link lost")

    monkeypatch.setattr(app.services.accounts, "call", call)
    answer = await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10", key="one")
    refused(answer, "outcome_unknown")
    assert answer.headers["retry-after"] == "1"


class TestQuotes:
    async def test_a_quoted_rate_is_kept(
        self, app: Application, ann: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quote = (await ann.http.get(ann.path + "quote/?from=USD&to=EUR")).json()
        monkeypatch.setattr(app.services.rates, "quote", None)
        answer = await ann.send(
            ann.accounts["USD"], ann.accounts["EUR"], "10", quote=quote["quote"]
        )
        assert answer.status_code == 201, answer.text
        assert answer.json()["rate"] == quote["rate"]

    async def test_for_accounts_it_tells_fee_and_result(self, ann: User, bob: User) -> None:
        form = {"from": ann.accounts["USD"], "to": bob.accounts["EUR"], "amount": "10"}
        quote = (await ann.http.post(ann.path + "quote/", json=form)).json()
        answer = await ann.send(
            ann.accounts["USD"], bob.accounts["EUR"], "10", quote=quote["quote"]
        )
        body = answer.json()
        assert (body["fee"], body["credited"]) == (quote["fee"], quote["credited"])

    async def test_for_another_pair_it_is_no_use(self, ann: User) -> None:
        quote = (await ann.http.get(ann.path + "quote/?from=USD&to=CNY")).json()["quote"]
        answer = await ann.send(ann.accounts["USD"], ann.accounts["EUR"], "10", quote=quote)
        refused(answer, "quote_invalid")
        answer = await ann.send(ann.accounts["EUR"], ann.accounts["USD"], "10", quote=quote)
        refused(answer, "quote_invalid")

    async def test_a_changed_one_is_not_ours(self, ann: User) -> None:
        quote = (await ann.http.get(ann.path + "quote/?from=USD&to=EUR")).json()["quote"]
        for place in range(0, len(quote), 7):
            other = "A" if quote[place] != "A" else "B"
            changed = quote[:place] + other + quote[place + 1 :]
            answer = await ann.send(ann.accounts["USD"], ann.accounts["EUR"], "1", quote=changed)
            refused(answer, "quote_invalid")

    @pytest.mark.alone
    async def test_its_time_ends(self, ann: User, app: Application) -> None:
        quote = (await ann.http.get(ann.path + "quote/?from=USD&to=EUR")).json()["quote"]
        partition = app.services.accounts.partition  # type: ignore[attr-defined]
        clock = partition._clock
        partition._clock = lambda: clock() + 31_000_000
        answer = await ann.send(ann.accounts["USD"], ann.accounts["EUR"], "10", quote=quote)
        refused(answer, "quote_expired")

    async def test_refusals(self, ann: User) -> None:
        cases = [
            ("from=USD", "malformed_query"),
            ("from=USD&to=EUR&x=1", "malformed_query"),
            ("from=USD&from=EUR&to=CNY", "malformed_query"),
            ("from=USD&to=USD", "quote_invalid"),
            ("from=USD&to=XXX", "unknown_source_account"),
        ]
        for query, code in cases:
            refused(await ann.http.get(f"{ann.path}quote/?{query}"), code)


async def test_the_receiver_sees_what_arrives_and_not_what_was_paid(ann: User, bob: User) -> None:
    sent = (await ann.send(ann.accounts["USD"], bob.accounts["EUR"], "10")).json()
    (seen,) = [
        row
        for row in (await bob.http.get(bob.path + "transaction/")).json()["transactions"]
        if row["kind"] == "transfer"
    ]
    assert (seen["id"], seen["direction"]) == (sent["id"], "in")
    assert (seen["amount"], seen["currency"]) == (sent["credited"], "EUR")
    assert (seen["fee"], seen["rate"]) == ("0.00", None)
    one = await bob.http.get(f"{bob.path}transaction/{sent['id']}/")
    assert one.json() == seen
    mine = (await ann.http.get(f"{ann.path}transaction/{sent['id']}/")).json()
    assert (mine["direction"], mine["fee"], mine["amount"]) == ("out", "0.10", "10.00")


async def test_one_transfer_of_others_does_not_exist(
    ann: User, bob: User, make_user: MakeUser
) -> None:
    sent = (await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10")).json()
    eve = await make_user("eve")
    for number in (sent["id"], "0" * 32, "xyz", "00"):
        refused(await eve.http.get(f"{eve.path}transaction/{number}/"), "not_found")


class TestHistory:
    @pytest.fixture
    async def rows(self, ann: User, bob: User) -> list[dict[str, Any]]:
        """Some history, oldest first."""
        await ann.send(ann.accounts["USD"], bob.accounts["USD"], "10", reference="Rent")
        await ann.send(ann.accounts["USD"], ann.accounts["EUR"], "20")
        await bob.send(bob.accounts["USD"], ann.accounts["USD"], "30", reference="100%")
        rows = (await ann.http.get(ann.path + "transaction/?sort=date")).json()["transactions"]
        assert [row["direction"] for row in rows] == ["in", "out", "own", "in"]
        return list(rows)

    async def test_filters(self, ann: User, bob: User, rows: list[dict[str, Any]]) -> None:
        eur, theirs, number = ann.accounts["EUR"], bob.accounts["USD"], rows[1]["id"]
        cases = [
            ("direction=out", [1]),
            ("direction=in", [0, 3]),
            ("direction=own", [2]),
            ("currency=EUR", [2]),
            ("min=20&max=30", [2, 3]),
            ("min=20.01", [0, 3]),
            ("q=rent", [1]),
            ("q=%25", [3]),
            ("status=completed", [0, 1, 2, 3]),
            ("status=returned", []),
            (f"account={eur}", [2]),
            (f"counterparty={theirs}", [1, 3]),
            ("from_date=2020-01-01&to_date=2020-01-02", []),
            ("from_date=2020-01-01T00:00:00Z", [0, 1, 2, 3]),
            (f"q={number}", [1]),
            ("direction=&q=", [0, 1, 2, 3]),
        ]
        for query, kept in cases:
            answer = await ann.http.get(f"{ann.path}transaction/?sort=date&{query}")
            found = answer.json()["transactions"]
            assert found == [rows[index] for index in kept], query

    async def test_pages_in_each_order_neither_repeat_nor_skip(
        self, ann: User, rows: list[dict[str, Any]]
    ) -> None:
        for sort in SORTS:
            orders: list[list[str]] = []
            for sign in ("", "-"):
                seen: list[str] = []
                cursor: str | None = ""
                while cursor is not None:
                    url = f"{ann.path}transaction/?sort={sign}{sort}&limit=1&cursor={cursor}"
                    page = (await ann.http.get(url)).json()
                    seen += [row["id"] for row in page["transactions"]]
                    cursor = page["next_cursor"]
                assert sorted(seen) == sorted(row["id"] for row in rows)
                orders.append(seen)
            assert orders[0] == orders[1][::-1]

    async def test_what_is_not_understood_is_said(self, ann: User) -> None:
        for query in [
            "sort=size", "from_date=yesterday", "from_date=2026-13-01", "to_date=9999-12-31",
            "min=-1", "max=1.234", "currency=XXX", "account=1", "counterparty=x", "direction=up",
            "status=done", "limit=0", "limit=501", "limit=x", "q=%00", "unknown=1",
            "sort=date&sort=fee", "from_date=0001-01-01T00:00:00%2B14:00",
        ]:  # fmt: skip
            refused(await ann.http.get(f"{ann.path}transaction/?{query}"), "malformed_query")

    async def test_a_cursor_of_ones_own_making(self, ann: User) -> None:
        for cursor in ("x", "gA", "%00", "zz" * 40):
            answer = await ann.http.get(f"{ann.path}transaction/?cursor={cursor}")
            refused(answer, "cursor_invalid")


class TestBatch:
    def transfer(self, number: str, source: str, to: str, amount: str, **more: str) -> Any:
        """One transfer of a batch."""
        return {"id": number, "from": source, "to": to, "amount": amount, **more}

    async def test_each_has_its_own_answer(self, ann: User, bob: User) -> None:
        usd, theirs = ann.accounts["USD"], bob.accounts["USD"]
        batch = [
            self.transfer("1", usd, theirs, "10"),
            self.transfer("2", usd, theirs, "1000"),
            self.transfer("3", theirs, usd, "1"),
            self.transfer("4", usd, theirs, "x"),
            self.transfer("5", usd, "nobody", "1"),
            self.transfer("6", usd, ann.accounts["EUR"], "5"),
            self.transfer("1", usd, theirs, "10"),
            self.transfer("1", usd, theirs, "11"),
        ]
        url = ann.path + "transaction/batch/"
        answer = await ann.http.post(url, json={"transfers": batch})
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert [(row["id"], row["status"], row.get("code", "")) for row in results] == [
            ("1", "completed", ""),
            ("2", "rejected", "insufficient_funds"),
            ("3", "rejected", "unknown_source_account"),
            ("4", "rejected", "amount_invalid"),
            ("5", "rejected", "unknown_destination_account"),
            ("6", "completed", ""),
            ("1", "completed", ""),
            ("1", "rejected", "id_reused"),
        ]
        assert (await bob.balances())["USD"] == "110.00"
        again = await ann.http.post(url, json={"transfers": batch})
        assert again.json() == answer.json()
        assert (await bob.balances())["USD"] == "110.00"

    async def test_in_messagepack(self, ann: User, bob: User) -> None:
        batch = [self.transfer("1", ann.accounts["USD"], bob.accounts["USD"], "10")]
        answer = await ann.http.post(
            ann.path + "transaction/batch/",
            content=msgspec.msgpack.encode({"transfers": batch}),
            headers={"content-type": "application/msgpack"},
        )
        assert answer.headers["content-type"] == "application/msgpack"
        (result,) = msgspec.msgpack.decode(answer.content)["results"]
        assert result["status"] == "completed"
        single = await ann.http.post(
            ann.path + "transaction/",
            content=msgspec.msgpack.encode(batch[0]),
            headers={"content-type": "application/msgpack"},
        )
        refused(single, "unsupported_media_type")

    async def test_linked_ones_happen_all_or_none(self, ann: User, bob: User) -> None:
        usd, theirs = ann.accounts["USD"], bob.accounts["USD"]
        batch = [
            self.transfer("1", usd, theirs, "10", group="a"),
            self.transfer("2", usd, theirs, "1000", group="a"),
            self.transfer("3", usd, theirs, "20", group="b"),
            self.transfer("4", usd, ann.accounts["EUR"], "20", group="b"),
            self.transfer("5", usd, theirs, "1", group="c"),
            self.transfer("6", usd, theirs, "1.999", group="c"),
        ]
        answer = await ann.http.post(ann.path + "transaction/batch/", json={"transfers": batch})
        results = answer.json()["results"]
        assert [(row["status"], row.get("code", "")) for row in results] == [
            ("rejected", "linked_failed"),
            ("rejected", "insufficient_funds"),
            ("completed", ""),
            ("completed", ""),
            ("rejected", "linked_failed"),
            ("rejected", "too_many_decimals"),
        ]
        assert (await bob.balances())["USD"] == "120.00"

    async def test_a_body_that_is_no_batch(self, ann: User) -> None:
        cases: list[tuple[Any, str]] = [
            ({"transfers": []}, "body_invalid"),
            ({"transfers": [{"id": "1"}]}, "body_invalid"),
            ({"transfers": "x"}, "body_invalid"),
            ({}, "body_invalid"),
            ([], "body_invalid"),
        ]
        for body, code in cases:
            refused(await ann.http.post(ann.path + "transaction/batch/", json=body), code)

    async def test_as_many_as_are_allowed_and_one_more(self, ann: User, bob: User) -> None:
        batch = [
            self.transfer(str(index), ann.accounts["USD"], bob.accounts["USD"], "0.01")
            for index in range(8_191)
        ]
        url = ann.path + "transaction/batch/"
        refused(await ann.http.post(url, json={"transfers": batch}), "body_invalid")
        answer = await ann.http.post(url, json={"transfers": batch[:-1]}, timeout=60)
        statuses = [row["status"] for row in answer.json()["results"]]
        # 100.00 pays for 909 cents with their minimum fees of ten.
        assert (statuses.count("completed"), statuses.count("rejected")) == (909, 7_281)
        assert (await bob.balances())["USD"] == "109.09"

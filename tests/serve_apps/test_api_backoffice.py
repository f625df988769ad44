"""The back office over REST: looking, freezing, adjusting, roles, the audit log."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from domain.accounts.adjusting import PENDING_MAX
from persistence import audit, roles
from persistence.audit import Filter
from serve_apps.application import Application
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.test_api_transfers import refused

Hire = Callable[..., Awaitable[User]]


@pytest.fixture
async def hire(app: Application, make_user: MakeUser) -> Hire:
    """Signs somebody up who holds roles: ``await hire("sam", "support")``."""

    async def make(name: str, *held: str) -> User:
        user = await make_user(name)
        for role in held:
            await roles.grant(app.services.pool, int(user.id), role, "a test")
        await app.services.sessions.read_revocations()
        return user

    return make


async def entries(app: Application, **flt: Any) -> list[audit.Row]:
    """What the audit log has, newest first."""
    return await audit.search(app.services.pool, Filter(**flt))


async def propose(user: User, account: str, amount: str, key: str = "one", **more: Any) -> Any:
    body = {"account": account, "amount": amount, "reason": "Fee charged twice", **more}
    headers = {"Idempotency-Key": key}
    return await user.http.post("/api/office/adjustment/", json=body, headers=headers)


async def decide(
    user: User, seen: Any, verb: str = "approve", key: str = "one", **more: Any
) -> Any:
    body = {"digest": seen["digest"], "note": "Agrees", **more}
    path = f"/api/office/adjustment/{seen['id']}/{verb}/"
    return await user.http.post(path, json=body, headers={"Idempotency-Key": key})


# -- looking --------------------------------------------------------------------------------


async def test_customers_are_found(app: Application, hire: Hire, ann: User) -> None:
    sam = await hire("sam", "support")

    async def found(q: str) -> list[str]:
        answer = await sam.http.get("/api/office/customer/", params={"q": q})
        return [row["email"] for row in answer.json()["customers"]]

    for text in (ann.id, ann.accounts["EUR"], "ANN@ex", "ann", " an "):
        assert await found(text) == ["ann@example.com"], text
    for text in ("", "%", "nn@", "9999999999", "ann bob", "a'b", "&|!:*", "a & b"):
        assert await found(text) == [], text
    refused(await sam.http.get("/api/office/customer/?q=%00"), "malformed_query")
    refused(await sam.http.get("/api/office/customer/?x=1"), "malformed_query")


async def test_who_looks_at_a_customer_is_written_down(
    app: Application, hire: Hire, ann: User
) -> None:
    sam = await hire("sam", "support")
    answer = await sam.http.get(
        f"/api/office/customer/{ann.id}/", headers={"x-request-id": "look-1"}
    )
    body = answer.json()
    assert (body["email"], body["roles"]) == ("ann@example.com", [])
    assert {account["balance"] for account in body["accounts"]} == {"100.00", "0.00"}
    (entry,) = await entries(app, action="customers.look")
    assert (entry.actor, entry.by, entry.origin) == (int(sam.id), "sam@example.com", "api")
    assert (entry.subject, entry.request) == (f"customer:{ann.id}", "look-1")
    for nobody in ("1", "abc", "9999999999"):
        refused(await sam.http.get(f"/api/office/customer/{nobody}/"), "not_found")


async def test_transfers_are_found(hire: Hire, ann: User, bob: User) -> None:
    sam = await hire("sam", "support")
    sent = (await ann.send(ann.accounts["USD"], bob.accounts["USD"], "5", "k")).json()

    async def found(q: str) -> list[str]:
        answer = await sam.http.get("/api/office/transaction/", params={"q": q})
        return [row["id"] for row in answer.json()["transactions"]]

    assert await found(sent["id"]) == [sent["id"]]
    assert sent["id"] in await found(bob.id)
    assert sent["id"] in await found(ann.accounts["USD"])
    assert await found(ann.accounts["EUR"]) == []
    assert await found("lunch") == []


# -- freezing -------------------------------------------------------------------------------


@pytest.mark.alone
async def test_an_account_is_frozen_and_opened_again(
    app: Application, hire: Hire, ann: User, bob: User
) -> None:
    sam = await hire("sam", "support")
    path = f"/api/office/account/{ann.accounts['USD']}/"
    answer = await sam.http.post(path + "freeze/", json={"reason": "Stolen phone"})
    assert answer.json()["status"] == "frozen"
    refused(await ann.send(ann.accounts["USD"], bob.accounts["USD"], "5"), "account_frozen")
    again = await sam.http.post(path + "freeze/", json={"reason": "Stolen phone"})
    assert again.json()["status"] == "frozen"
    (entry,) = await entries(app, action="accounts.freeze")
    assert json.loads(entry.before) == {"status": "open"}
    assert json.loads(entry.after) == {"reason": "Stolen phone", "status": "frozen"}
    answer = await sam.http.post(path + "unfreeze/", json={"reason": "Found again"})
    assert answer.json()["status"] == "open"
    assert (await ann.send(ann.accounts["USD"], bob.accounts["USD"], "5")).status_code == 201


async def test_what_cannot_be_frozen(app: Application, hire: Hire, ann: User) -> None:
    sam = await hire("sam", "support")
    cases = [
        (ann.accounts["USD"], "", "reason_missing"),
        (ann.accounts["USD"], "a\nb", "text_invalid"),
        ("12345678901234", "Why", "unknown_source_account"),
        ("x", "Why", "unknown_source_account"),
        (sam.accounts["USD"], "Mine", "account_own"),
    ]
    for account, reason, code in cases:
        answer = await sam.http.post(
            f"/api/office/account/{account}/freeze/", json={"reason": reason}
        )
        refused(answer, code)
    await ann.http.delete(f"{ann.path}account/{ann.accounts['EUR']}/")
    path = f"/api/office/account/{ann.accounts['EUR']}/freeze/"
    refused(await sam.http.post(path, json={"reason": "Why"}), "account_closed")
    newest, asked = (await entries(app))[:2]
    assert (asked.action, newest.action) == ("accounts.freeze", "accounts.freeze.refused")
    assert json.loads(newest.after) == {"code": "account_closed"}


async def test_a_limit_of_the_day(app: Application, hire: Hire, ann: User, bob: User) -> None:
    ada = await hire("ada", "administrator")
    path = f"/api/office/customer/{ann.id}/limit/"
    answer = await ada.http.put(path, json={"currency": "USD", "amount": "4.00"})
    assert {row["currency"]: row["limit"] for row in answer.json()["limits"]}["USD"] == "4.00"
    refused(await ann.send(ann.accounts["USD"], bob.accounts["USD"], "5"), "daily_limit_exceeded")
    for body, code in (
        ({"currency": "XXX", "amount": "4"}, "unknown_currency"),
        ({"currency": "USD", "amount": "-4"}, "amount_invalid"),
    ):
        refused(await ada.http.put(path, json=body), code)
    own = f"/api/office/customer/{ada.id}/limit/"
    refused(await ada.http.put(own, json={"currency": "USD", "amount": "9"}), "account_own")
    nobody = "/api/office/customer/9999999999/limit/"
    body = {"currency": "USD", "amount": "9"}
    refused(await ada.http.put(nobody, json=body), "unknown_customer")


# -- adjustments ----------------------------------------------------------------------------


async def test_an_adjustment_needs_two(app: Application, hire: Hire, ann: User) -> None:
    sam, ada = await hire("sam", "support"), await hire("ada", "administrator")
    answer = await propose(sam, ann.accounts["USD"], "-3.50")
    assert answer.status_code == 201, answer.text
    seen = answer.json()
    assert (seen["status"], seen["amount"], seen["maker"]) == ("pending", "-3.50", sam.id)
    assert (await propose(sam, ann.accounts["USD"], "-3.50")).json() == seen, "asked again"
    refused(await propose(sam, ann.accounts["USD"], "-4.00"), "id_reused")
    assert (await ann.balances())["USD"] == "100.00"
    listed = (await ada.http.get("/api/office/adjustment/?status=pending")).json()
    assert listed["adjustments"] == [seen]
    refused(await decide(sam, seen), "not_found")
    done = (await decide(ada, seen)).json()
    assert (done["status"], done["checker"], done["note"]) == ("posted", ada.id, "Agrees")
    assert (await decide(ada, seen)).json()["status"] == "posted", "asked again"
    refused(await decide(ada, seen, key="two"), "adjustment_unknown")
    assert (await ann.balances())["USD"] == "96.50"
    (row,) = (await ann.http.get(ann.path + "transaction/?direction=out")).json()["transactions"]
    assert (row["id"], row["kind"], row["to"], row["reference"]) == (
        seen["id"], "adjustment", None, "Fee charged twice",
    )  # fmt: skip
    names = [entry.action for entry in await entries(app, subject=f"adjustment:{seen['id']}")]
    assert names[-1] == "adjustments.propose"
    assert "adjustments.approve" in names
    assert (await audit.verify(app.services.pool)).ok


async def test_makers_do_not_check(app: Application, hire: Hire, ann: User) -> None:
    ada, eva = await hire("ada", "administrator"), await hire("eva", "administrator")
    seen = (await propose(ada, ann.accounts["USD"], "5")).json()
    for verb in ("approve", "refuse"):
        refused(await decide(ada, seen, verb), "adjustment_maker")
    forged = {**seen, "digest": "00" * 16}
    refused(await decide(eva, forged), "adjustment_changed")
    refused(await decide(eva, {**seen, "digest": "xyz"}, key="z"), "adjustment_changed")
    refused(await decide(eva, seen, "refuse", key="no note", note=""), "reason_missing")
    refused(await decide(eva, {**seen, "id": "0" * 32}), "adjustment_unknown")
    refused(await decide(eva, {**seen, "id": "x"}), "adjustment_unknown")
    assert (await decide(eva, seen, "refuse", note="No")).json()["status"] == "refused"
    assert (await ann.balances())["USD"] == "100.00"
    refused(await propose(ada, ada.accounts["USD"], "5", key="own"), "adjustment_own")
    own = (await propose(ada, eva.accounts["USD"], "5", key="hers")).json()
    refused(await decide(eva, own, key="hers"), "adjustment_own")
    (entry,) = await entries(app, action="adjustments.refuse.refused", subject=None, text="maker")
    assert json.loads(entry.after) == {"code": "adjustment_maker"}


async def test_two_who_decide_at_once(hire: Hire, ann: User) -> None:
    sam = await hire("sam", "support")
    ada, eva = await hire("ada", "administrator"), await hire("eva", "administrator")
    seen = (await propose(sam, ann.accounts["USD"], "5")).json()
    answers = await asyncio.gather(
        decide(ada, seen), decide(eva, seen), decide(ada, seen, "refuse", key="no"),
    )  # fmt: skip
    assert sorted(answer.status_code for answer in answers) == [200, 404, 404]
    posted = any(answer.json().get("status") == "posted" for answer in answers)
    assert (await ann.balances())["USD"] == ("105.00" if posted else "100.00")


async def test_proposals_that_cannot_be(hire: Hire, ann: User) -> None:
    sam = await hire("sam", "support")
    usd = ann.accounts["USD"]
    cases = [
        ({"amount": "0"}, "amount_not_positive"),
        ({"amount": "+-1"}, "amount_invalid"),
        ({"amount": "--1"}, "amount_invalid"),
        ({"amount": "1e5"}, "amount_invalid"),
        ({"amount": "1.005"}, "too_many_decimals"),
        ({"amount": "-100.01"}, "insufficient_funds"),
        ({"reason": "  "}, "reason_missing"),
        ({"reason": "a\x00b"}, "text_invalid"),
        ({"account": "x"}, "unknown_source_account"),
        ({"account": "12345678901234"}, "unknown_source_account"),
    ]
    for number, (change, code) in enumerate(cases):
        body = {"account": usd, "amount": "1", **change}
        refused(await propose(sam, key=str(number), **body), code)
    for number in range(PENDING_MAX):
        assert (await propose(sam, usd, "\u22121", key=f"n{number}")).status_code == 201
    refused(await propose(sam, usd, "1", key="more"), "too_many_adjustments")
    assert len((await sam.http.get("/api/office/adjustment/")).json()["adjustments"]) == PENDING_MAX
    for query in ("status=x", "customer=x", "page=1"):
        refused(await sam.http.get(f"/api/office/adjustment/?{query}"), "malformed_query")
    of_ann = await sam.http.get(f"/api/office/adjustment/?customer={ann.id}")
    number = of_ann.json()["adjustments"][0]["id"]
    one = await sam.http.get(f"/api/office/adjustment/{number}/")
    assert one.json()["amount"] == "-1.00"


# -- roles ----------------------------------------------------------------------------------


async def test_roles_are_given_and_taken(app: Application, hire: Hire, ann: User) -> None:
    ada = await hire("ada", "administrator")
    body = {"user": "ANN@example.com", "role": "support"}
    given = await ada.http.post("/api/office/role/", json=body)
    assert given.status_code == 201, given.text
    assert (given.json()["user"], given.json()["given_by"]) == (ann.id, "ada@example.com")
    await app.services.sessions.read_revocations()
    assert (await ann.http.get("/api/office/customer/")).status_code == 200
    listed = (await ada.http.get("/api/office/role/")).json()
    assert {row["email"]: row["role"] for row in listed["held"]} == {
        "ada@example.com": "administrator", "ann@example.com": "support",
    }  # fmt: skip
    refused(await ada.http.post("/api/office/role/", json=body), "role_held")
    taken = await ada.http.delete(f"/api/office/role/{ann.id}/support/")
    assert taken.json() == {"done": True}
    await app.services.sessions.read_revocations()
    refused(await ann.http.get("/api/office/customer/"), "not_found")
    kinds = [entry.action for entry in await entries(app, subject=f"customer:{ann.id}")]
    assert kinds == ["roles.take", "roles.give"]


async def test_rules_of_roles(hire: Hire, ann: User) -> None:
    ada = await hire("ada", "administrator")
    cases = [
        ({"user": ada.id, "role": "auditor"}, "role_own"),
        ({"user": "ada@example.com", "role": "auditor"}, "role_own"),
        ({"user": ann.id, "role": "console"}, "role_unknown"),
        ({"user": ann.id, "role": "customer"}, "role_unknown"),
        ({"user": "nobody@example.com", "role": "support"}, "user_unknown"),
        ({"user": "a\x00b", "role": "support"}, "user_unknown"),
        ({"user": "9999999999", "role": "support"}, "user_unknown"),
    ]
    for body, code in cases:
        refused(await ada.http.post("/api/office/role/", json=body), code)
    path = "/api/office/role/"
    refused(await ada.http.delete(f"{path}{ada.id}/administrator/"), "last_administrator")
    refused(await ada.http.delete(f"{path}{ann.id}/support/"), "role_not_held")
    refused(await ada.http.delete(f"{path}nobody/support/"), "user_unknown")


# -- the audit log --------------------------------------------------------------------------


@pytest.mark.alone
async def test_the_log_is_searched_paged_and_exported(
    app: Application, hire: Hire, ann: User
) -> None:
    ira = await hire("ira", "auditor")
    sam = await hire("sam", "support")
    for _ in range(60):
        await sam.http.get(f"/api/office/customer/{ann.id}/")
    first = (await ira.http.get("/api/office/audit/?action=customers.look")).json()
    assert len(first["entries"]) == 50
    more = await ira.http.get(
        f"/api/office/audit/?action=customers.look&before={first['next_before']}"
    )
    assert len(more.json()["entries"]) == 10
    assert more.json()["next_before"] is None
    found = (await ira.http.get("/api/office/audit/?q=roles.give&actor=")).json()["entries"]
    assert {entry["origin"] for entry in found} == {"platform"}
    for query in ("actor=x", "from_date=2026-13-01", "to_date=1", "q=%00", "before=-1", "z=1"):
        refused(await ira.http.get(f"/api/office/audit/?{query}"), "malformed_query")
    answer = await ira.http.get(f"/api/office/audit/export.csv?subject=customer:{ann.id}")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 60
    assert rows[0]["by"] == "sam@example.com"
    (taken,) = await entries(app, action="audit.export")
    assert json.loads(taken.after) == {"subject": f"customer:{ann.id}"}
    verdict = (await ira.http.get("/api/office/audit/verify/")).json()
    assert verdict["ok"] is True
    assert verdict["head"] == (await entries(app))[0].hash.hex()

"""Taking one's data away, and leaving."""

from __future__ import annotations

import json

import httpx

from persistence.identity.person import LEFT_OUT, SECTIONS
from persistence.roles import grant
from serve_apps.application import Application
from tests.serve_apps.authenticator import Clock, logged, refused, switch_on, told
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.inprocess import PASSWORD

OWNERS = ("user_id", "customer", "source_customer", "actor")
"""Columns that say whose a row is."""


async def test_everything_that_is_held_is_in_the_export(app: Application) -> None:
    rows = await app.services.pool.fetch(
        "select distinct table_name from information_schema.columns"
        " where table_schema = 'public' and column_name = any($1)",
        list(OWNERS),
    )
    held = {row["table_name"] for row in rows} | {"users"}
    assert held == {section.table for section in SECTIONS} | LEFT_OUT.keys()


async def test_the_export_has_what_was_done_and_no_secret(
    app: Application, ann: User, bob: User
) -> None:
    device, codes = await switch_on(bob, Clock(app))
    usd = ann.accounts["USD"]
    await ann.send(usd, bob.accounts["USD"], "12.50", reference='With "quotes"')
    answer = await bob.http.post(bob.path + "export/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert list(document)[:5] == ["made_at", "customer", "units", "balances", "brokerage"]
    assert list(document)[5:] == [section.name for section in SECTIONS]
    assert document["user"][0]["email"] == bob.email
    transfer = next(row for row in document["transfers"] if row["kind"] == 1)
    assert (transfer["amount"], transfer["reference"]) == (1250, 'With "quotes"')
    assert document["second_factor"][0]["confirmed_at"]
    assert len(document["recovery_codes"]) == len(codes)
    assert ann.email not in answer.text
    stored = await app.services.pool.fetchval(
        "select password_hash from users where id = $1", int(bob.id)
    )
    for secret in (stored, bob.http.headers["authorization"].split()[1], device.again(), "_hash"):
        assert secret not in answer.text.replace(document["made_at"], "")
    assert "data_exported" in await told(app, bob)
    assert "identity.exported" in await logged(app, bob)
    assert json.loads(answer.content) == document


async def empty(user: User, to: User) -> None:
    """Send all dollars away: the fee is one per cent, and ten cents at least."""
    for amount in ("90.00", "9.00"):
        answer = await user.send(user.accounts["USD"], to.accounts["USD"], amount)
        assert answer.status_code == 201, answer.text
    assert (await user.balances())["USD"] == "0.00"


async def leave(user: User, **more: str) -> httpx.Response:
    return await user.http.post(user.path + "close/", json={"password": PASSWORD, **more})


async def test_only_who_has_nothing_left_may_leave(
    app: Application, ann: User, bob: User, client: httpx.AsyncClient, make_user: MakeUser
) -> None:
    refused(await ann.http.post(ann.path + "close/", json={"password": "not it"}),
            "password_wrong", 422)  # fmt: skip
    refused(await leave(ann), "accounts_in_use", 409)
    for way in ("fund", "withdraw"):
        refused(await leave(ann), "accounts_in_use", 409)
        answer = await ann.http.post(
            f"{ann.path}brokerage/{way}/",
            json={"account": ann.accounts["USD"], "amount": "100.00"},
            headers={"Idempotency-Key": way},
        )
        assert answer.status_code in (200, 201), answer.text
    await empty(ann, bob)
    await grant(app.services.pool, int(ann.id), "support", "test")
    refused(await leave(ann), "roles_held", 409)
    await app.services.pool.execute("update user_roles set revoked_at = now()")
    made = await ann.http.post(
        ann.path + "api-key/", json={"label": "bot", "scopes": ["read"], "networks": []}
    )
    assert made.status_code == 201, made.text
    assert (await leave(ann)).status_code == 200
    refused(await ann.http.get(ann.path), "unauthenticated", 401)
    login = {"email": ann.email, "password": PASSWORD}
    refused(await client.post("/api/login/", json=login), "credentials_invalid", 401)
    back = await bob.send(bob.accounts["USD"], ann.accounts["USD"], "1.00")
    assert (back.json()["status"], back.json()["reason"]) == ("returned", "destination_closed")
    key = {"X-MBX-APIKEY": made.json()["key"]}
    assert (await client.get("/api/v3/account", headers=key)).status_code in (400, 401)
    revoked = "select count(*) from api_keys where revoked_at is not null"
    assert await app.services.pool.fetchval(revoked) == 1
    assert "identity.closed" in await logged(app, ann)
    delivery = await app.services.pool.fetchval(
        "select target from deliveries d join notifications n on n.id = d.notification_id"
        " where n.kind = 'account_closed'"
    )
    assert delivery == ann.email
    again = await make_user("ann")  # the address is free again
    assert again.id != ann.id
    assert (await again.http.get(again.path)).status_code == 200


async def test_leaving_needs_the_second_factor(app: Application, ann: User, bob: User) -> None:
    await empty(ann, bob)
    device, _ = await switch_on(ann, Clock(app))
    refused(await leave(ann), "confirmation_required", 403)
    refused(await leave(ann, code=device.wrong()), "code_invalid", 422)
    assert (await leave(ann, code=device.code())).status_code == 200

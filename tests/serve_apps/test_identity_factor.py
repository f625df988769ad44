"""The second factor over the API: set-up, login, replay, recovery codes, locks."""

from __future__ import annotations

import httpx
import pytest

from serve_apps.application import Application
from tests.serve_apps.authenticator import (
    Authenticator,
    Clock,
    logged,
    refused,
    switch_on,
    told,
)
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PASSWORD


@pytest.fixture
def clock(app: Application) -> Clock:
    """The application's clock."""
    return Clock(app)


async def log_in(client: httpx.AsyncClient, user: User, **more: str) -> httpx.Response:
    body = {"email": user.email, "password": PASSWORD, **more}
    return await client.post("/api/login/", json=body)


async def complete(client: httpx.AsyncClient, ticket: str, code: str) -> httpx.Response:
    return await client.post("/api/login/code/", json={"ticket": ticket, "code": code})


async def test_a_second_factor_is_set_up(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    path = ann.path + "second-factor/"
    assert (await ann.http.get(path)).json()["on"] is False
    refused(await ann.http.post(path, json={"password": "not it"}), "password_wrong", 422)
    refused(await ann.http.post(path + "confirm/", json={"code": "123456"}),
            "second_factor_off", 409)  # fmt: skip
    first = (await ann.http.post(path, json={"password": PASSWORD})).json()
    made = (await ann.http.post(path, json={"password": PASSWORD})).json()
    assert made["secret"] != first["secret"]
    assert made["uri"].startswith("otpauth://totp/Kontor:ann%40example.com?")
    assert (await ann.http.get(path)).json()["pending"] is True
    # Until its first code it counts for nothing, and the code must be of the last secret.
    assert (await log_in(client, ann)).status_code == 200
    old, device = Authenticator(first["secret"], clock), Authenticator(made["secret"], clock)
    refused(await ann.http.post(path + "confirm/", json={"code": old.again()}),
            "code_invalid", 422)  # fmt: skip
    answer = await ann.http.post(path + "confirm/", json={"code": device.again()})
    assert len(set(answer.json()["recovery_codes"])) == 10
    state = (await ann.http.get(path)).json()
    assert (state["on"], state["pending"], state["recovery_codes"]) == (True, False, 10)
    refused(await ann.http.post(path, json={"password": PASSWORD}), "second_factor_on", 409)
    refused(await ann.http.post(path + "confirm/", json={"code": device.code()}),
            "second_factor_on", 409)  # fmt: skip
    assert "second_factor_on" in await told(app, ann)
    assert "identity.second_factor_on" in await logged(app, ann)
    stored = await app.services.pool.fetchval("select secret from second_factors")
    assert made["secret"].encode() not in stored


async def test_login_asks_for_a_code(client: httpx.AsyncClient, ann: User, clock: Clock) -> None:
    device, _ = await switch_on(ann, clock)
    ticket = refused(await log_in(client, ann), "second_factor_required", 401)["ticket"]
    refused(await complete(client, "nonsense", device.code()), "ticket_invalid", 401)
    refused(await complete(client, ticket, device.wrong()), "code_invalid", 422)
    code = device.code()
    answer = await complete(client, ticket, code)
    assert answer.json()["user"]["id"] == ann.id
    refused(await complete(client, ticket, device.code()), "ticket_invalid", 401)
    # A code that was seen over the shoulder is worth nothing, nor is an older one.
    ticket = refused(await log_in(client, ann), "second_factor_required", 401)["ticket"]
    answer = await log_in(client, ann, code=device.code())
    assert answer.status_code == 200
    refused(await log_in(client, ann, code=device.again()), "code_used", 422)
    refused(await log_in(client, ann, code=code), "code_invalid", 422)
    wrong = {"email": ann.email, "password": "not it", "code": device.code()}
    refused(await client.post("/api/login/", json=wrong), "credentials_invalid", 401)
    clock.forward(301)
    refused(await complete(client, ticket, device.code()), "ticket_invalid", 401)


async def test_signing_up_again_is_no_way_around(
    client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    await switch_on(ann, clock)
    body = {"email": ann.email, "name": "Ann", "password": PASSWORD}
    refused(await client.post("/api/signup/", json=body), "second_factor_required", 401)


async def test_recovery_codes_count_once(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    device, codes = await switch_on(ann, clock)
    assert (await log_in(client, ann, code=codes[3].upper().replace("-", " "))).status_code == 200
    refused(await log_in(client, ann, code=codes[3]), "code_invalid", 422)
    path = ann.path + "second-factor/"
    assert (await ann.http.get(path)).json()["recovery_codes"] == 9
    assert "recovery_code_used" in await told(app, ann)
    refused(await ann.http.post(path + "recovery/", json={}), "confirmation_required", 403)
    renewed = await ann.http.post(path + "recovery/", json={"code": device.code()})
    refused(await log_in(client, ann, code=codes[4]), "code_invalid", 422)
    fresh = renewed.json()["recovery_codes"]
    assert (await log_in(client, ann, code=fresh[0])).status_code == 200
    assert "recovery_codes_renewed" in await told(app, ann)
    hashes = await app.services.pool.fetch("select code_hash from recovery_codes")
    assert all(len(row["code_hash"]) == 32 for row in hashes)


async def test_wrong_codes_are_slowed_and_told(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    device, _ = await switch_on(ann, clock)
    ticket = refused(await log_in(client, ann), "second_factor_required", 401)["ticket"]
    for _ in range(5):
        refused(await complete(client, ticket, device.wrong()), "code_invalid", 422)
    refused(await complete(client, ticket, device.code()), "ticket_invalid", 401)
    refused(await log_in(client, ann, code=device.wrong()), "code_invalid", 422)
    # Now even the right one waits: nobody learns by it whether it was right.
    waiting = await log_in(client, ann, code=device.again())
    assert 0 < int(refused(waiting, "too_many_attempts", 429)["retry_after"]) <= 30
    assert (await told(app, ann)).count("second_factor_locked") == 1
    clock.forward(31)
    assert (await log_in(client, ann, code=device.code())).status_code == 200


async def test_it_is_switched_off_with_password_and_code(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    device, codes = await switch_on(ann, clock)
    path = ann.path + "second-factor/off/"
    body = {"password": PASSWORD}
    refused(await ann.http.post(path, json={"password": "not it", "code": device.code()}),
            "password_wrong", 422)  # fmt: skip
    fields = refused(await ann.http.post(path, json=body), "confirmation_required", 403)
    proof = {**body, "confirmation": fields["confirmation"]}
    refused(await ann.http.post(path, json=proof), "confirmation_open", 409)
    given = f"{ann.path}confirmation/{fields['confirmation']}/"
    assert (await ann.http.post(given, json={"code": codes[0]})).status_code == 200
    assert (await ann.http.post(path, json=proof)).status_code == 200
    assert (await log_in(client, ann)).status_code == 200
    refused(await ann.http.post(path, json=body), "second_factor_off", 409)
    assert "second_factor_off" in await told(app, ann)
    assert "identity.second_factor_off" in await logged(app, ann)
    assert await app.services.pool.fetchval("select count(*) from recovery_codes") == 0

"""Confirmations: bound to one intent and one session, used once, locked after five wrong codes."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from serve_apps.application import Application
from tests.serve_apps.authenticator import Authenticator, Clock, refused, switch_on
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.inprocess import PASSWORD, http_client


@pytest.fixture
def clock(app: Application) -> Clock:
    """The application's clock."""
    return Clock(app)


@pytest.fixture
async def device(ann: User, clock: Clock) -> Authenticator:
    """Ann's second factor."""
    return (await switch_on(ann, clock))[0]


async def pay(
    user: User, to: User, amount: str, key: str, confirmation: str = ""
) -> httpx.Response:
    more = {"confirmation": confirmation} if confirmation else {}
    return await user.send(user.accounts["USD"], to.accounts["USD"], amount, key, **more)


async def begun(user: User, to: User, amount: str, key: str) -> str:
    """The confirmation that a payment needs."""
    fields = refused(await pay(user, to, amount, key), "confirmation_required", 403)
    id_: str = fields["confirmation"]
    return id_


async def give(user: User, confirmation: str, code: str) -> httpx.Response:
    return await user.http.post(f"{user.path}confirmation/{confirmation}/", json={"code": code})


async def test_the_first_payment_to_somebody_is_confirmed(
    ann: User, bob: User, device: Authenticator
) -> None:
    id_ = await begun(ann, bob, "10.00", "a")
    assert await begun(ann, bob, "10.00", "a") == id_  # asked again, the same one
    refused(await pay(ann, bob, "10.00", "a", id_), "confirmation_open", 409)
    refused(await give(ann, id_, device.wrong()), "code_invalid", 422)
    assert (await give(ann, id_, device.code())).status_code == 200
    # Any change voids it: the amount, the account it goes to, and where it comes from.
    refused(await pay(ann, bob, "10.01", "b", id_), "confirmation_changed", 409)
    other = await ann.send(ann.accounts["USD"], bob.accounts["EUR"], "10.00", "c", confirmation=id_)
    refused(other, "confirmation_changed", 409)
    answer = await pay(ann, bob, "10.00", "a", id_)
    assert answer.status_code == 201
    # When the answer was lost, the same is asked for again; nothing is paid twice.
    again = await pay(ann, bob, "10.00", "a", id_)
    assert (again.status_code, again.json()["id"]) == (201, answer.json()["id"])
    assert (await ann.balances())["USD"] == "89.90"
    # Bob has been paid now.
    assert (await pay(ann, bob, "5.00", "d")).status_code == 201


async def test_a_confirmation_permits_one_thing(ann: User, device: Authenticator) -> None:
    path = ann.path + "second-factor/recovery/"
    id_ = refused(await ann.http.post(path, json={}), "confirmation_required", 403)["confirmation"]
    await give(ann, id_, device.code())
    body = {"confirmation": id_}
    answers = await asyncio.gather(*(ann.http.post(path, json=body) for _ in range(3)))
    codes = sorted(answer.json().get("code", "") for answer in answers)
    assert codes == ["", "confirmation_used", "confirmation_used"]


async def test_a_refused_payment_does_not_use_it_up(
    ann: User, bob: User, device: Authenticator
) -> None:
    id_ = await begun(ann, bob, "500.00", "a")
    await give(ann, id_, device.code())
    refused(await pay(ann, bob, "500.00", "a", id_), "insufficient_funds", 409)
    refused(await pay(ann, bob, "500.00", "b", id_), "insufficient_funds", 409)


async def test_it_belongs_to_one_session_of_one_user(
    app: Application, ann: User, bob: User, device: Authenticator
) -> None:
    id_ = await begun(ann, bob, "10.00", "a")
    async with http_client(app) as http:
        body = {"email": ann.email, "password": PASSWORD, "code": device.code()}
        token = (await http.post("/api/login/", json=body)).json()
        http.headers["authorization"] = f"Bearer {token['token']}"
        elsewhere = User(http, token)
        elsewhere.accounts = ann.accounts
        refused(await give(elsewhere, id_, device.code()), "confirmation_unknown", 404)
        await give(ann, id_, device.code())
        answer = await pay(elsewhere, bob, "10.00", "a", id_)
        refused(answer, "confirmation_unknown", 404)
    refused(await give(bob, id_, device.code()), "confirmation_unknown", 404)
    refused(await give(ann, "nonsense", device.code()), "confirmation_unknown", 404)


async def test_five_wrong_codes_lock_it(
    app: Application, ann: User, bob: User, device: Authenticator, clock: Clock
) -> None:
    id_ = await begun(ann, bob, "10.00", "a")
    wrong = device.wrong()
    answers = await asyncio.gather(*(give(ann, id_, wrong) for _ in range(8)))
    codes = [answer.json()["code"] for answer in answers]
    assert codes.count("code_invalid") == 5
    clock.forward(60)
    refused(await give(ann, id_, device.code()), "confirmation_locked", 409)
    assert await begun(ann, bob, "10.00", "a") != id_


async def test_its_time_is_over_after_ten_minutes(
    ann: User, bob: User, device: Authenticator, clock: Clock
) -> None:
    unused, late = await begun(ann, bob, "10.00", "a"), await begun(ann, bob, "11.00", "b")
    await give(ann, unused, device.code())
    clock.forward(600)
    refused(await pay(ann, bob, "10.00", "a", unused), "confirmation_expired", 409)
    refused(await give(ann, late, device.code()), "confirmation_expired", 409)


async def test_other_ways_to_pay_somebody_new(ann: User, bob: User, device: Authenticator) -> None:
    source, new = ann.accounts["USD"], bob.accounts["USD"]
    transfers = [
        {"id": "1", "from": source, "to": new, "amount": "1.00"},
        {"id": "2", "from": source, "to": ann.accounts["EUR"], "amount": "1.00"},
    ]
    path = ann.path + "transaction/batch/"
    results = (await ann.http.post(path, json={"transfers": transfers})).json()["results"]
    assert [result.get("code", "") for result in results] == ["confirmation_required", ""]
    reserved = await ann.http.post(
        ann.path + "hold/",
        json={"account": source, "amount": "20.00"},
        headers={"Idempotency-Key": "h"},
    )
    post = f"{ann.path}hold/{reserved.json()['id']}/post/"

    async def pay_out(key: str, **more: str) -> httpx.Response:
        body = {"to": new, "amount": "15.00", **more}
        return await ann.http.post(post, json=body, headers={"Idempotency-Key": key})

    id_ = refused(await pay_out("p"), "confirmation_required", 403)["confirmation"]
    await give(ann, id_, device.code())
    assert (await pay_out("p", confirmation=id_)).status_code == 201
    results = (await ann.http.post(path, json={"transfers": transfers})).json()["results"]
    assert "confirmation_required" not in [result.get("code", "") for result in results]


async def test_without_a_second_factor_nothing_is_asked(
    app: Application, ann: User, make_user: MakeUser
) -> None:
    carl = await make_user("carl")
    assert (await pay(ann, carl, "1.00", "a")).status_code == 201
    assert await app.services.pool.fetchval("select count(*) from confirmations") == 0
    assert await app.services.pool.fetchval("select count(*) from payees") == 0
    # Who was paid before a second factor was there is known.
    await switch_on(ann, Clock(app))
    assert (await pay(ann, carl, "1.00", "b")).status_code == 201

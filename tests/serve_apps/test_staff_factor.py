"""What staff do with money and roles is confirmed with a code, for exactly that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from persistence import audit, roles
from persistence.audit import Filter
from serve_apps.application import Application
from tests.serve_apps.authenticator import Authenticator, Clock, refused, switch_on
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import MakeUser, User


@pytest.fixture
def clock(app: Application) -> Clock:
    """The application's clock."""
    return Clock(app)


class Colleagues:
    """Sam, who makes adjustments, and Ada, who checks them; each with a second factor."""

    def __init__(self, sam: User, ada: User, devices: tuple[Authenticator, Authenticator]) -> None:
        self.sam, self.ada = sam, ada
        self.sams, self.adas = devices

    async def propose(self, account: str, amount: str, key: str = "p", **proof: str) -> Any:
        body = {"account": account, "amount": amount, "reason": "Fee charged twice", **proof}
        headers = {"Idempotency-Key": key}
        return await self.sam.http.post("/api/office/adjustment/", json=body, headers=headers)

    async def decide(self, seen: Any, verb: str = "approve", key: str = "d", **proof: str) -> Any:
        body = {"digest": seen["digest"], "note": "Agrees", **proof}
        path = f"/api/office/adjustment/{seen['id']}/{verb}/"
        return await self.ada.http.post(path, json=body, headers={"Idempotency-Key": key})


async def hire(app: Application, make_user: MakeUser, name: str, role: str) -> User:
    user = await make_user(name)
    await roles.grant(app.services.pool, int(user.id), role, "a test")
    await app.services.sessions.read_revocations()
    return user


@pytest.fixture
async def office(app: Application, make_user: MakeUser, clock: Clock) -> Colleagues:
    """Both of them."""
    sam = await hire(app, make_user, "sam", "support")
    ada = await hire(app, make_user, "ada", "administrator")
    return Colleagues(
        sam, ada, ((await switch_on(sam, clock))[0], (await switch_on(ada, clock))[0])
    )


async def give(user: User, confirmation: str, code: str) -> None:
    path = f"{user.path}confirmation/{confirmation}/"
    assert (await user.http.post(path, json={"code": code})).status_code == 200


async def written(app: Application, user: User, action: str) -> int:
    return len(await audit.search(app.services.pool, Filter(actor=int(user.id), action=action)))


async def test_maker_and_checker_give_a_code_for_exactly_this(
    app: Application, office: Colleagues, ann: User, bob: User
) -> None:
    usd = ann.accounts["USD"]
    asked = refused(await office.propose(usd, "5"), "confirmation_required", 403)["confirmation"]
    refused(await office.propose(usd, "5", code=office.sams.wrong()), "code_invalid", 422)
    await give(office.sam, asked, office.sams.code())
    for account, amount in ((usd, "50"), (bob.accounts["USD"], "5")):
        answer = await office.propose(account, amount, confirmation=asked)
        refused(answer, "confirmation_changed", 409)
    assert await written(app, office.sam, "adjustments.propose") == 0, (
        "nothing was asked before it was proved"
    )
    made = await office.propose(usd, "5", confirmation=asked)
    assert made.status_code == 201, made.text
    assert (await office.propose(usd, "5", confirmation=asked)).json() == made.json()
    refused(await office.propose(usd, "5", "again", confirmation=asked), "confirmation_used", 409)
    other = (await office.propose(usd, "7", "other", code=office.sams.code())).json()

    seen = made.json()
    asked = refused(await office.decide(seen), "confirmation_required", 403)["confirmation"]
    await give(office.ada, asked, office.adas.code())
    refused(await office.decide(other, confirmation=asked), "confirmation_changed", 409)
    assert (await ann.balances())["USD"] == "100.00"
    done = await office.decide(seen, confirmation=asked)
    assert done.json()["status"] == "posted", done.text
    assert (await office.decide(seen, confirmation=asked)).json()["status"] == "posted"
    assert (await ann.balances())["USD"] == "105.00"
    # Nothing moves by a refusal, so it needs none.
    assert (await office.decide(other, "refuse", "no")).json()["status"] == "refused"


async def test_what_the_rules_refuse_does_not_use_a_confirmation_up(
    office: Colleagues, ann: User, bob: User
) -> None:
    usd = ann.accounts["USD"]
    answer = await office.propose(usd, "-150")
    asked = refused(answer, "confirmation_required", 403)["confirmation"]
    await give(office.sam, asked, office.sams.code())
    refused(await office.propose(usd, "-150", confirmation=asked), "insufficient_funds", 409)
    assert (await bob.send(bob.accounts["USD"], usd, "60", "k")).status_code == 201
    assert (await office.propose(usd, "-150", "p2", confirmation=asked)).status_code == 201


async def test_a_role_is_given_with_a_code(office: Colleagues, ann: User, bob: User) -> None:
    path, body = "/api/office/role/", {"user": ann.id, "role": "auditor"}
    asked = refused(await office.ada.http.post(path, json=body), "confirmation_required", 403)
    await give(office.ada, asked["confirmation"], office.adas.code())
    proof = {"confirmation": asked["confirmation"]}
    for change in ({"user": bob.id}, {"role": "administrator"}):
        answer = await office.ada.http.post(path, json={**body, **change, **proof})
        refused(answer, "confirmation_changed", 409)
    given = await office.ada.http.post(path, json={**body, **proof})
    assert given.status_code == 201, given.text
    taken = await office.ada.http.delete(f"{path}{ann.id}/auditor/")
    assert taken.json() == {"done": True}


async def test_the_pages_ask_for_the_code(
    app: Application, office: Colleagues, ann: User, clock: Clock
) -> None:
    async with Browser(app) as ada:
        await ada.go("/login")
        await ada.submit("/login", email=office.ada.email, password="correct horse battery")
        await ada.submit("/login/code", code=office.adas.code())
        ada.home = office.ada.path.removeprefix("/api")
        made = await office.propose(ann.accounts["USD"], "5", code=office.sams.code())
        await ada.go("/office/adjustments/")
        assert "without a second factor" not in ada.text
        assert "each code counts once: there is another every 30 seconds." in ada.text
        form = f"/office/adjustments/{made.json()['id']}/decide"
        await ada.submit(form, verdict="approve", note="Agrees with the statement")
        assert (ada.page.status_code, "This code is wrong" in ada.text) == (422, True)
        assert 'value="Agrees with the statement"' in ada.page.text, "it need not be typed again"
        await ada.submit(form, verdict="approve", code=office.adas.code())
        assert "The adjustment is posted." in ada.text
        await ada.go(f"/office/customer/{ann.id}/")
        adjust = f"/office/customer/{ann.id}/adjust"
        wanted = {"account": ann.accounts["USD"], "amount": "3", "reason": "Why"}
        await ada.submit(adjust, **wanted, code="")
        assert (ada.page.status_code, "This code is wrong" in ada.text) == (422, True)
        assert "Each counts once: there is another every 30 seconds." in ada.text
        await ada.submit(adjust, **wanted, code=office.adas.again())
        assert (ada.page.status_code, "This code was used already" in ada.text) == (422, True)
        await ada.submit(adjust, **wanted, code=office.adas.code())
        assert "The adjustment is proposed." in ada.text
        await ada.go("/office/roles/")
        await ada.submit("/office/roles/", user=ann.id, role="auditor", code=office.adas.code())
        assert "The role is given." in ada.text


async def test_in_production_nobody_moves_money_or_gives_roles_without(
    app: Application, make_user: MakeUser, ann: User, clock: Clock
) -> None:
    services = app.services  # of which the next test has what it had
    services.config = replace(services.config, staff_factor=True)
    ada = await hire(app, make_user, "ada", "administrator")
    headers = {"Idempotency-Key": "k"}
    body = {"account": ann.accounts["USD"], "amount": "5", "reason": "Why"}
    role = {"user": ann.id, "role": "auditor"}
    for path, json in (("adjustment/", body), ("role/", role)):
        answer = await ada.http.post(f"/api/office/{path}", json=json, headers=headers)
        refused(answer, "second_factor_missing", 403)
    assert await written(app, ada, "adjustments.propose") == 0
    async with Browser(app) as page:
        await page.go("/login")
        await page.submit("/login", email=ada.email, password="correct horse battery")
        await page.go("/office/")
        assert "You work here without a second factor." in page.text
        assert "Adjustments and giving roles need one." in page.text
        await page.go(f"/office/customer/{ann.id}/")
        await page.submit(f"/office/customer/{ann.id}/adjust", **body)
        assert (page.page.status_code, "This needs a second factor." in page.text) == (
            403,
            True,
        )
    device, _ = await switch_on(ada, clock)
    proved = {**body, "code": device.code()}
    answer = await ada.http.post("/api/office/adjustment/", json=proved, headers=headers)
    assert answer.status_code == 201, answer.text


async def test_in_development_staff_work_without_and_are_told(
    app: Application, make_user: MakeUser, ann: User
) -> None:
    ada = await hire(app, make_user, "ada", "administrator")
    body = {"account": ann.accounts["USD"], "amount": "5", "reason": "Why"}
    answer = await ada.http.post(
        "/api/office/adjustment/", json=body, headers={"Idempotency-Key": "k"}
    )
    assert answer.status_code == 201
    async with Browser(app) as page:
        await page.go("/login")
        await page.submit("/login", email=ada.email, password="correct horse battery")
        await page.go("/office/adjustments/")
        assert "You work here without a second factor." in page.text
        assert "need one" not in page.text

"""The back office's pages, without JavaScript: what staff see and do there."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from persistence import audit, roles
from persistence.audit import Filter
from serve_apps.application import Application
from tests.serve_apps.browser import Browser
from tests.serve_apps.inprocess import PASSWORD

Enter = Callable[..., Awaitable[Browser]]


@pytest.fixture
async def enter(app: Application) -> AsyncIterator[Enter]:
    """Opens a browser for somebody who holds roles: ``await enter("Sam", "support")``."""
    async with AsyncExitStack() as stack:

        async def opened(name: str, *held: str) -> Browser:
            browser = await stack.enter_async_context(Browser(app))
            await browser.sign_up(f"{name} Example")
            for role in held:
                user = int(browser.home.split("/")[2])
                await roles.grant(app.services.pool, user, role, "a test")
            await app.services.sessions.read_revocations()
            return browser

        yield opened


def number(browser: Browser) -> str:
    """Whose browser it is."""
    return browser.home.split("/")[2]


async def test_a_customer_is_found_frozen_and_opened_again(app: Application, enter: Enter) -> None:
    ann, sam = await enter("Ann"), await enter("Sam", "support")
    await sam.go("/office/?q=ann")
    assert "ann@example.com" in sam.text
    assert "sam@example.com" not in sam.text
    place = f"/office/customer/{number(ann)}/"
    await sam.go(place)
    assert "Ann Example" in sam.text
    assert "100.00 USD" in sam.text
    freeze = f"/office/customer/{number(ann)}/freeze"
    usd = ann.accounts["USD"]
    await sam.submit(freeze, account=usd, what="freeze", reason=" ")
    assert sam.page.status_code == 422
    assert "Say why." in sam.text
    await sam.submit(freeze, account=usd, what="freeze", reason="Stolen phone")
    assert "The account is frozen. Its owner is told." in sam.text
    assert "Frozen" in sam.text
    await sam.submit(freeze, account=usd, what="unfreeze", reason="Found again")
    assert "The freeze is taken off." in sam.text
    for account, what in ((sam.accounts["USD"], "freeze"), (usd, "close"), ("x", "freeze")):
        fields = {**sam.fields(freeze), "account": account, "what": what, "reason": "Why"}
        assert (await sam.post(freeze, fields)).status_code == 400
        await sam.go(place)
    actions = [row.action for row in await audit.search(app.services.pool, Filter())]
    assert actions.count("accounts.freeze") == actions.count("accounts.unfreeze") == 1
    assert (await sam.go("/office/customer/9999999999/")).status_code == 404
    assert (await sam.go("/office/customer/x/")).status_code == 404
    assert "Limit of the day" not in (await sam.go(place)).text, "support sets no limits"


async def test_an_adjustment_from_proposal_to_history(enter: Enter) -> None:
    ann, sam = await enter("Ann"), await enter("Sam", "support")
    ada = await enter("Ada", "administrator")
    place = f"/office/customer/{number(ann)}/"
    await sam.go(place)
    adjust = f"/office/customer/{number(ann)}/adjust"
    usd = ann.accounts["USD"]
    await sam.submit(adjust, account=usd, amount="-200", reason="Fee charged twice")
    assert sam.page.status_code == 409
    assert 'value="-200"' in sam.page.text, "what was entered is still there"
    await sam.submit(adjust, account=usd, amount="-3.50", reason="Fee credited <twice>")
    assert "The adjustment is proposed." in sam.text
    assert "Fee credited &lt;twice&gt;" in sam.page.text
    assert "Approve" not in sam.text
    await ada.go("/office/")
    assert "1 adjustment waits" in ada.text
    await ada.go("/office/adjustments/")
    (decide,) = [form for form in _actions(ada) if form.endswith("/decide")]
    await ada.submit(decide, verdict="approve", digest="00" * 16)
    assert ada.page.status_code == 409
    assert "not the one that you have seen" in ada.text
    await ada.submit(decide, verdict="refuse")
    assert ada.page.status_code == 422
    await ada.submit(decide, verdict="approve", note="Agrees")
    assert "The adjustment is posted." in ada.text
    assert "decided by ada@example.com" in ada.text
    await ann.go("")
    assert "96.50" in ann.text
    await ann.go("transaction/")
    assert "Corrected" in ann.text
    assert "Fee credited &lt;twice&gt;" in ann.page.text
    links = re.findall(r'href="(/user/[0-9]+/transaction/[0-9a-f]{32}/)"', ann.page.text)
    await ann.go(links[0])
    assert "Corrected by Kontor" in ann.text
    assert "Corrections" in ann.text
    assert "sam@example.com" not in ann.text, "who it was is the office's business"
    await ada.go(place)
    assert "Posted" in ada.text
    gone = {"csrf": ada.fields("/logout")["csrf"], "verdict": "maybe"}
    assert (await ada.post(decide, gone)).status_code == 400
    assert (await ada.post(decide, {**gone, "verdict": "approve"})).status_code == 404


def _actions(browser: Browser) -> list[str]:
    return [part.split('"')[0] for part in browser.page.text.split('action="')[1:]]


async def test_makers_and_owners_are_not_offered_a_decision(enter: Enter) -> None:
    ann, ada = await enter("Ann"), await enter("Ada", "administrator")
    eva = await enter("Eva", "administrator")
    adjust = f"/office/customer/{number(ann)}/adjust"
    await ada.go(f"/office/customer/{number(ann)}/")
    await ada.submit(adjust, account=ann.accounts["USD"], amount="1", reason="Why")
    assert "You have made this one." in ada.text
    assert "Approve" not in ada.text
    await eva.go(f"/office/customer/{number(ada)}/")
    await eva.submit(
        f"/office/customer/{number(ada)}/adjust",
        account=ada.accounts["USD"], amount="1", reason="Hers",
    )  # fmt: skip
    await ada.go("/office/adjustments/")
    assert "This is your own account." in ada.text
    await ada.go(f"/office/customer/{number(ada)}/")
    assert "Propose an adjustment" not in ada.text


async def test_limits_and_roles(app: Application, enter: Enter) -> None:
    ann, ada = await enter("Ann"), await enter("Ada", "administrator")
    await ada.go(f"/office/customer/{number(ann)}/")
    limit = f"/office/customer/{number(ann)}/limit"
    await ada.submit(limit, currency="USD", amount="4.00")
    assert "The limit is set." in ada.text
    assert "0.00 of 4.00" in ada.text
    await ada.submit(limit, currency="USD", amount="x")
    assert ada.page.status_code == 422
    await ada.go("/office/roles/")
    await ada.submit("/office/roles/", user="ann@example.com", role="auditor")
    assert "The role is given." in ada.text
    assert "Auditor since" in ada.text
    await ada.submit("/office/roles/", user="ada@example.com", role="auditor")
    assert ada.page.status_code == 409
    assert "Nobody gives a role to themselves." in ada.text
    await app.services.sessions.read_revocations()
    await ann.go("/office/roles/")
    assert "ada@example.com" in ann.text
    assert "Give the role" not in ann.text, "an auditor only reads"
    assert "/office/audit/" in ann.page.text
    fields = {"csrf": ada.fields("/logout")["csrf"], "user": number(ann), "role": "auditor"}
    await ada.post("/office/roles/take", fields)
    assert "The role is taken." in ada.text
    await ada.post("/office/roles/take", {**fields, "user": number(ada), "role": "administrator"})
    assert "There would be no administrator left." in ada.text


async def test_who_logs_in_for_a_page_of_the_office_comes_to_it(enter: Enter) -> None:
    ira = await enter("Ira", "auditor")
    await ira.submit("/logout")
    await ira.go("/office/audit/")
    assert ira.page.url.path == "/login"
    await ira.submit("/login", email="ira@example.com", password=PASSWORD)
    assert ira.page.url.path == "/office/audit/"


@pytest.mark.alone
async def test_the_audit_log(app: Application, enter: Enter) -> None:
    ira, sam = await enter("Ira", "auditor"), await enter("Sam", "support")
    pool = app.services.pool
    who = audit.Actor(int(number(sam)), "sam@example.com", "page", "192.0.2.7")
    for index in range(55):
        await audit.record(pool, who.did("customers.look", f"customer:{index}"))
    formula = who.did("x.y", "customer:1", after={"note": "<b>"})
    await audit.record(pool, formula)
    await ira.go("/office/audit/")
    assert "&lt;b&gt;" in ira.page.text
    assert "Older" in ira.text
    await ira.go("/office/audit/?action=customers.look&q=192.0.2")
    assert ira.page.text.count("data-entry=") == 50
    older = next(part for part in ira.page.text.split('"') if "before=" in part)
    await ira.go(older.replace("&amp;", "&"))
    assert ira.page.text.count("data-entry=") == 5
    await ira.go("/office/audit/?from_date=2026-13-13")
    assert ira.page.status_code == 422
    await ira.go("/office/audit/?verify=1")
    assert 'data-verdict="right"' in ira.page.text
    answer = await ira.go("/office/audit/export.csv?action=customers.look")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    assert len(list(csv.DictReader(io.StringIO(answer.text)))) == 55
    assert (await ira.go("/office/audit/export.csv?actor=x")).status_code == 422
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        await connection.execute("update audit_log set by = 'nobody' where seq = 7")
    await ira.go("/office/audit/?verify=1")
    assert "The chain breaks at entry 7: it was changed after it was written." in ira.text
    assert (await sam.go("/office/audit/")).status_code == 404

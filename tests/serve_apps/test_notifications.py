"""Notifications over the API and on pages: listed, read, paged, and chosen."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from domain.notifications import KINDS, Kind
from persistence.database import Connection
from persistence.notifications import Notice, notify_many
from serve_apps.application import Application
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import User


async def tell(app: Application, user: str, *kinds: Kind) -> None:
    """Tell a user something of each kind."""
    async with app.services.pool.acquire() as proxy, proxy.transaction():
        connection = cast(Connection, proxy)
        count = await connection.fetchval("SELECT count(*) FROM notifications")
        notices = [
            Notice(int(user), kind, KINDS[kind].example, f"test {count + place}")
            for place, kind in enumerate(kinds)
        ]
        await notify_many(connection, notices)


async def cleared(app: Application, user: str) -> None:
    """Forget what signing up has told."""
    await app.services.pool.execute("DELETE FROM notifications WHERE user_id = $1", int(user))
    await app.services.pool.execute("DELETE FROM notification_heads WHERE user_id = $1", int(user))


@pytest.fixture
async def browser(app: Application) -> AsyncIterator[Browser]:
    """Ann's browser, who was told nothing yet."""
    async with Browser(app) as opened:
        await opened.sign_up("Ann Baker")
        await cleared(app, opened.home.strip("/").rpartition("/")[2])
        yield opened


def number_of(browser: Browser) -> str:
    return browser.home.strip("/").rpartition("/")[2]


# -- the API ----------------------------------------------------------------------------------


async def test_a_list_by_pages(app: Application, ann: User, bob: User) -> None:
    await cleared(app, ann.id)
    path = f"{ann.path}notification/"
    empty: dict[str, Any] = {"items": [], "next": None, "last": 0, "unread": 0}
    assert (await ann.http.get(path)).json() == empty
    await tell(app, ann.id, *[Kind.TRANSFER_RECEIVED] * 5)
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        answer = (await ann.http.get(path, params=query)).json()
        assert (answer["last"], answer["unread"]) == (5, 5)
        seen += [item["seq"] for item in answer["items"]]
        cursor = answer["next"]
    assert seen == [5, 4, 3, 2, 1]
    (item,) = (await ann.http.get(path, params={"limit": "1"})).json()["items"]
    assert item["title"] == "You received 12.50 USD"
    assert item["text"].startswith("From Ben Example")
    assert item["values"] == KINDS[Kind.TRANSFER_RECEIVED].example
    assert item["at"].endswith("Z")
    assert not item["read"]
    assert (await bob.http.get(path)).status_code == 404


async def test_reading(app: Application, ann: User) -> None:
    await cleared(app, ann.id)
    path = f"{ann.path}notification/"
    await tell(app, ann.id, *[Kind.WELCOME] * 4)
    assert (await ann.http.post(f"{path}3/read")).json() == {"done": True}
    for wrong in ("9", "x", "9" * 19):
        assert (await ann.http.post(f"{path}{wrong}/read")).status_code == 404
    unread = (await ann.http.get(path, params={"unread": "true"})).json()
    assert [item["seq"] for item in unread["items"]] == [4, 2, 1]
    assert (await ann.http.post(f"{path}read", json={"until": 2})).json() == {"read": 2}
    assert (await ann.http.post(f"{path}read", json={"until": 2**63 - 1})).json() == {"read": 1}
    assert (await ann.http.get(path)).json()["unread"] == 0
    for until in (0, -1, 2**63, "x"):
        assert (await ann.http.post(f"{path}read", json={"until": until})).status_code == 422


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "x"}, "cursor_invalid"),
        ({"cursor": "9" * 19}, "cursor_invalid"),
        ({"limit": "0"}, "malformed_query"),
        ({"limit": "101"}, "malformed_query"),
        ({"limit": "ten"}, "malformed_query"),
        ({"unread": "yes"}, "malformed_query"),
        ({"more": "1"}, "malformed_query"),
    ],
)
async def test_queries_that_cannot_be_read(ann: User, query: dict[str, str], code: str) -> None:
    answer = await ann.http.get(f"{ann.path}notification/", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_choices(app: Application, ann: User) -> None:
    path = f"{ann.path}notification/preferences/"

    async def channels(kind: str) -> dict[str, bool]:
        rows = (await ann.http.get(path)).json()["kinds"]
        (row,) = [row for row in rows if row["kind"] == kind]
        return cast(dict[str, bool], row["channels"])

    assert await channels("transfer_received") == {"app": True, "email": False, "webhook": True}
    change = {"kinds": {"transfer_received": {"app": False, "email": True}}}
    answer = await ann.http.post(path, json=change)
    assert answer.status_code == 200
    assert await channels("transfer_received") == {"app": False, "email": True, "webhook": True}
    kinds = {row["kind"] for row in answer.json()["kinds"]}
    assert "password_reset" not in kinds
    assert {"login_new_device", "order_filled"} <= kinds


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"password_changed": {"email": False}}, "notification_fixed"),
        ({"password_changed": {"app": False}}, "notification_fixed"),
        ({"password_reset": {"app": True}}, "notification_channel_unknown"),
        ({"transfer_received": {"pigeon": True}}, "notification_channel_unknown"),
        ({"weather": {"app": True}}, "notification_kind_unknown"),
    ],
)
async def test_choices_that_cannot_be_made(
    ann: User, change: dict[str, dict[str, bool]], code: str
) -> None:
    path = f"{ann.path}notification/preferences/"
    before = (await ann.http.get(path)).json()
    body = {"kinds": {"order_filled": {"app": True}, **change}}
    answer = await ann.http.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert (await ann.http.get(path)).json() == before
    same = {"kinds": {"password_changed": {"email": True}}}
    assert (await ann.http.post(path, json=same)).status_code == 200


# -- the pages --------------------------------------------------------------------------------


async def test_the_bell_tells_how_much_is_unread(app: Application, browser: Browser) -> None:
    def bell() -> str:
        found = re.search(r"data-unread( hidden)?>.*?data-unread-count>(.*?)<", browser.page.text)
        assert found
        return "" if found[1] else found[2]

    await browser.go("")
    assert bell() == ""
    assert 'data-told="0"' in browser.page.text
    await tell(app, number_of(browser), *[Kind.WELCOME] * 3)
    await browser.go("profile")
    assert bell() == "3"
    assert 'data-told="3"' in browser.page.text
    await tell(app, number_of(browser), *[Kind.WELCOME] * 97)
    await browser.go("")
    assert bell() == "99+"


async def test_the_list_marks_and_pages(app: Application, browser: Browser) -> None:
    await browser.go("notifications/")
    assert "Nothing yet" in browser.text
    user = number_of(browser)
    await tell(app, user, *[Kind.WELCOME] * 30, Kind.TRANSFER_RECEIVED)
    await browser.go("notifications/")
    assert "You received 12.50 USD" in browser.text
    assert f'href="{browser.home}transaction/' in browser.page.text
    read = browser.home + "notifications/read"
    fields = browser.fields(read)
    await browser.post(read, {"csrf": fields["csrf"], "seq": "31"})
    assert "(30)" in browser.text
    older = re.search(r'href="([^"]*before=2[^"]*)"', browser.page.text)
    assert older is not None
    await browser.go(older[1].replace("&amp;", "&"))
    assert len(re.findall("data-notification=", browser.page.text)) == 1
    await browser.go("notifications/?show=unread")
    assert "You received" not in browser.text
    # What arrives while the page is looked at stays unread.
    fields = browser.fields(read)
    await tell(app, user, Kind.TRANSFER_RECEIVED)
    await browser.post(read, {"csrf": fields["csrf"], "until": "31"})
    await browser.go("notifications/?show=unread")
    assert "(1)" in browser.text
    for wrong in ({"seq": "99"}, {"seq": "x"}, {}):
        answer = await browser.post(read, {"csrf": fields["csrf"], **wrong})
        assert answer.status_code in (400, 404)


async def test_choosing_on_the_page(app: Application, browser: Browser) -> None:
    await browser.go("notifications/preferences")
    assert "Security" in browser.text
    action = browser.home + "notifications/preferences"
    fields = browser.fields(action)
    ticked = {"csrf": fields["csrf"], "transfer_received.email": "1", "order_filled.app": "1"}
    await browser.post(action, ticked)
    assert "What you hear of is changed" in browser.text

    def box(name: str) -> str:
        found = re.search(rf'<input [^>]*name="{re.escape(name)}"[^>]*>', browser.page.text)
        assert found, name
        return found[0]

    assert " checked" in box("transfer_received.email")
    assert " checked" in box("order_filled.app")
    assert " checked" not in box("transfer_received.app")
    assert " disabled" in box("password_changed.email")
    assert " checked" in box("password_changed.email")
    await tell(app, number_of(browser), Kind.TRANSFER_RECEIVED, Kind.ORDER_FILLED)
    await browser.go("notifications/")
    assert "Your order was filled" in browser.text
    assert "You received" not in browser.text


async def test_notifications_are_text_and_never_markup(app: Application, browser: Browser) -> None:
    values = {**KINDS[Kind.TRANSFER_RECEIVED].example, "name": "<b>Ben</b>"}
    notice = Notice(int(number_of(browser)), Kind.TRANSFER_RECEIVED, values, "a")
    async with app.services.pool.acquire() as proxy, proxy.transaction():
        await notify_many(cast(Connection, proxy), [notice])
    await browser.go("notifications/")
    assert "From &lt;b&gt;Ben&lt;/b&gt;" in browser.page.text
    assert "<b>Ben" not in browser.page.text

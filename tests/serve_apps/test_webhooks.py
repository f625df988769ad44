"""Webhook endpoints over API and pages, with a courier and a real receiver behind them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from serve_apps.application import AppConfig, Application
from tests.actors.post import at_work, make_courier
from tests.actors.receiver import Receiver, verified
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import make_config


@pytest.fixture(scope="module")
def config(shared_database_url: str, redis_url: str) -> AppConfig:
    """Requests may go to this machine."""
    return make_config(shared_database_url, redis_url, private_webhooks=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A customer's server."""
    receiver = Receiver()
    async with receiver.open():
        yield receiver


@pytest.mark.alone
async def test_an_endpoint_is_made_tested_rotated_and_deleted(
    app: Application, ann: User, receiver: Receiver
) -> None:
    path = f"{ann.path}webhook/"
    answer = await ann.http.post(path, json={"label": "shop", "url": receiver.url})
    assert answer.status_code == 201, answer.text
    first = answer.json()["secret"]
    assert first.startswith("whsec_")
    here = f"{path}{answer.json()['webhook']['id']}/"
    assert first not in (await ann.http.get(here)).text
    async with at_work(make_courier(app.services.pool)):
        assert (await ann.http.post(here + "ping/")).status_code == 202
        await asyncio.wait_for(receiver.arrived.wait(), 10)
        rotated = await ann.http.post(here + "secret/")
        second = rotated.json()["secret"]
        assert rotated.json()["webhook"]["previous_secret_until"]
        receiver.arrived.clear()
        await ann.http.post(here + "ping/")
        await asyncio.wait_for(receiver.arrived.wait(), 10)
        async with asyncio.timeout(10):
            while "pending" in (await ann.http.get(here)).text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    one, two = receiver.requests
    at = float(one.headers["webhook-timestamp"])
    assert b'"type":"ping"' in one.body
    assert verified(first, one, at)
    assert not verified(second, one, at)
    assert verified(first, two, at)
    assert verified(second, two, at)
    detail = (await ann.http.get(here)).json()
    assert [message["kind"] for message in detail["messages"]] == ["ping", "ping"]
    assert [message["status"] for message in detail["messages"]] == [204, 204]
    assert detail["webhook"]["state"] == "on"
    assert detail["webhook"]["last_ok_at"]
    assert (await ann.http.delete(here)).json() == {"done": True}
    for verb in (ann.http.get, ann.http.delete):
        assert (await verb(here)).status_code == 404
    secrets = await app.services.pool.fetchrow("SELECT * FROM webhook_endpoints")
    assert secrets is not None
    assert (secrets["secret"], secrets["previous_secret"]) == (b"", None)
    actions = await app.services.pool.fetch("SELECT action FROM audit_log ORDER BY seq")
    taken = [row["action"] for row in actions if row["action"].startswith("webhook.")]
    assert taken == ["webhook.add", "webhook.rotate", "webhook.delete"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"label": " "}, "label_invalid"),
        ({"url": "ftp://shop.example"}, "url_invalid"),
        ({"url": "https://ann:x@shop.example"}, "url_invalid"),
        ({"kinds": ["password_reset"]}, "kinds_invalid"),
        ({"kinds": ["nonsense"]}, "kinds_invalid"),
    ],
)
async def test_what_cannot_be_an_endpoint(ann: User, change: dict[str, object], code: str) -> None:
    form = {"label": "shop", "url": "https://shop.example/hooks", "kinds": [], **change}
    answer = await ann.http.post(f"{ann.path}webhook/", json=form)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_there_are_ten_at_most_and_each_is_its_owners(ann: User, bob: User) -> None:
    path = f"{ann.path}webhook/"
    for number in range(10):
        made = await ann.http.post(
            path, json={"label": f"{number}", "url": "https://shop.example/"}
        )
        assert made.status_code == 201
    more = await ann.http.post(path, json={"label": "more", "url": "https://shop.example/"})
    assert (more.status_code, more.json()["code"]) == (409, "too_many_webhooks")
    number = made.json()["webhook"]["id"]
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "ping/"), ("POST", "secret/")):
        url = f"{bob.path}webhook/{number}/{rest}"
        assert (await bob.http.request(method, url)).status_code == 404
        assert (await ann.http.request(method, f"{path}x/{rest}")).status_code == 404


async def test_one_that_is_switched_off_takes_no_test_until_it_is_switched_on(
    app: Application, ann: User
) -> None:
    made = await ann.http.post(
        f"{ann.path}webhook/", json={"label": "shop", "url": "https://shop.example/"}
    )
    here = f"{ann.path}webhook/{made.json()['webhook']['id']}/"
    await app.services.pool.execute(
        "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'Gone.'"
    )
    assert (await ann.http.get(here)).json()["webhook"]["state"] == "off"
    refused = await ann.http.post(here + "ping/")
    assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")
    assert (await ann.http.post(here + "enable/")).status_code == 200
    assert (await ann.http.get(here)).json()["webhook"]["state"] == "on"


async def test_pages(app: Application, receiver: Receiver) -> None:
    async with Browser(app) as browser:
        await browser.sign_up("Ann Miller")
        await browser.go("webhooks/")
        form = browser.home + "webhooks/"
        await browser.submit(form, label="shop", url="nowhere")
        assert browser.page.status_code == 422
        assert "It does not begin with https://" in browser.text
        await browser.submit(form, label="shop", url=receiver.url)
        assert browser.page.status_code == 200, browser.text
        found = re.search(r"data-secret>(whsec_[^<]+)<", browser.page.text)
        assert found is not None
        await browser.go("webhooks/")
        link = re.search(r'href="([^"]+)" data-webhook', browser.page.text)
        assert link is not None
        await browser.go(link[1])
        assert found[1] not in browser.page.text
        async with at_work(make_courier(app.services.pool)):
            await browser.submit(link[1], do="ping")
            assert "A test is on its way" in browser.text
            await asyncio.wait_for(receiver.arrived.wait(), 10)
        assert verified(
            found[1], receiver.requests[0],
            float(receiver.requests[0].headers["webhook-timestamp"]),
        )  # fmt: skip
        await browser.submit(link[1], do="rotate")
        assert found[1] not in browser.page.text
        assert "whsec_" in browser.page.text
        await browser.submit(link[1], do="delete")
        assert "The endpoint is deleted" in browser.text
        assert (await browser.go(link[1])).status_code == 404

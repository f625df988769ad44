"""Pages of other sites may use the API if they are named, and then without cookies."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from serve_apps.application import AppConfig, Application, build
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PASSWORD, http_client, lifespan, weaken_passwords

SHOP = "https://shop.example"
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


@pytest.fixture
async def open_to_shop(own_config: AppConfig) -> AsyncIterator[Application]:
    """An application that pages of the shop may use."""
    app = build(dataclasses.replace(own_config, cors_origins=(SHOP,)))
    weaken_passwords(app)
    async with lifespan(app):
        yield app


def allows(answer: httpx.Response) -> bool:
    """Whether an answer permits anything to another site."""
    return any(name.startswith("access-control-") for name in answer.headers)


async def test_nothing_is_allowed_by_default(client: httpx.AsyncClient, ann: User) -> None:
    answer = await client.options(ann.path, headers={"origin": SHOP, **ASKED})
    assert answer.status_code == 405
    assert not allows(answer)
    assert not allows(await ann.http.get(ann.path, headers={"origin": SHOP}))


@pytest.mark.parametrize("path", ["/api/user/1/", "/api/v3/order"])
async def test_a_named_site_may_ask(open_to_shop: Application, path: str) -> None:
    async with http_client(open_to_shop) as client:
        answer = await client.options(path, headers={"origin": SHOP, **ASKED})
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert answer.headers["vary"] == "origin"


async def test_others_and_pages_are_not(open_to_shop: Application) -> None:
    async with http_client(open_to_shop) as client:
        for origin in ("https://evil.example", "https://shop.example.evil", "null", ""):
            answer = await client.options("/api/user/1/", headers={"origin": origin, **ASKED})
            assert not allows(answer), origin
            answer = await client.get("/api/instrument/", headers={"origin": origin})
            assert answer.status_code == 200
            assert not allows(answer), origin
        assert not allows(await client.get("/login", headers={"origin": SHOP}))


async def test_a_named_site_sends_tokens_and_never_cookies(open_to_shop: Application) -> None:
    async with http_client(open_to_shop) as client:
        form = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}
        made = (await client.post("/api/signup/", json=form, headers={"origin": SHOP})).json()
        path = f"/api/user/{made['user']['id']}/"
        token = {"authorization": f"Bearer {made['token']}", "origin": SHOP}
        answer = await client.get(path, headers=token)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "RateLimit" in answer.headers["access-control-expose-headers"]

        page = await client.get("/login")
        csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        await client.post("/login", data={**form, "csrf": csrf})
        assert (await client.get(path)).status_code == 200  # the browser's session
        assert (await client.get(path, headers={"origin": SHOP})).status_code == 401

"""Live connections over a real socket: who may connect, who hears what, and outages of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
import socketio
import uvicorn

from actors.live import CHANNEL, LivePublisher
from domain.accounts import events as ev
from serve_apps import live
from serve_apps.application import AppConfig, build
from tests.serve_apps.browser import Browser
from tests.serve_apps.inprocess import lifespan, make_config, weaken_passwords
from tests.serve_apps.listening import PromptServer

WAIT_S = 30.0


class Ingress:
    """An application that listens on a port, and somebody who has signed up."""

    def __init__(self, url: str, config: AppConfig, ann: Browser, bob: Browser) -> None:
        self.url = url
        self.config = config
        self.ann = ann
        self.bob = bob


@pytest.fixture
async def ingress(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Ingress]:
    monkeypatch.setattr(live, "RECHECK_S", 0.2)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = make_config(database_url, redis_url)
    app = build(config)
    weaken_passwords(app)
    server = PromptServer(uvicorn.Config(app, lifespan="off", log_level="warning"))
    async with lifespan(app), Browser(app) as ann, Browser(app) as bob:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await ann.sign_up("Ann Baker")
        await bob.sign_up("Bob Carter")
        yield Ingress(url, config, ann, bob)
        server.should_exit = True
        await serving


class Page:
    """An open page: what it was told."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.client.on("transfer", self.heard.put)

    async def open(self, url: str, browser: Browser | None, **headers: str) -> None:
        """Connect as the page of this browser would."""
        if browser is not None:
            cookies = browser.http.cookies
            headers["Cookie"] = "; ".join(f"{name}={cookies[name]}" for name in cookies)
        await self.client.connect(url, headers=headers, transports=["websocket"])

    async def next(self) -> dict[str, Any]:
        """The next thing it is told."""
        async with asyncio.timeout(WAIT_S):
            return await self.heard.get()


@contextlib.asynccontextmanager
async def page(url: str, browser: Browser | None, **headers: str) -> AsyncIterator[Page]:
    """An open page."""
    opened = Page()
    await opened.open(url, browser, **headers)
    try:
        yield opened
    finally:
        await opened.client.disconnect()


def _arrival(source: str, destination: str, amount: int) -> list[tuple[str, Any]]:
    received = ev.TransferReceived(bytes(16), int(source), int(destination), amount, "USD")
    return [(destination[:10], received)]


async def test_the_receiver_hears_of_a_transfer_and_nobody_else(ingress: Ingress) -> None:
    ann, bob = ingress.ann.accounts["USD"], ingress.bob.accounts["USD"]
    publisher = LivePublisher(ingress.config.redis_url)
    async with page(ingress.url, ingress.ann) as hers, page(ingress.url, ingress.bob) as his:
        publisher.publish(0, _arrival(ann, bob, 1250))
        heard = await his.next()
        assert heard["amount"] == "12.50"
        assert (heard["direction"], heard["account"], heard["counterparty"]) == ("in", bob, ann)
        publisher.publish(0, _arrival(bob, ann, 1))
        assert (await hers.next())["amount"] == "0.01"
        assert his.heard.empty()
    await publisher.close()


async def test_only_a_session_may_connect(ingress: Ingress) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await Page().open(ingress.url, None)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await Page().open(ingress.url, None, Cookie="kontor_session=nonsense")


async def test_pages_of_other_sites_may_not_connect(ingress: Ingress) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await Page().open(ingress.url, ingress.ann, Origin="https://evil.example")
    async with page(ingress.url, ingress.ann, Origin=ingress.url) as own:
        assert own.client.connected


async def test_polling_is_not_offered(ingress: Ingress) -> None:
    answer = await ingress.ann.http.get("/socket.io/", params={"EIO": "4", "transport": "polling"})
    assert answer.status_code == 400


async def test_a_connection_ends_with_its_session(ingress: Ingress) -> None:
    async with page(ingress.url, ingress.ann) as open_page:
        await ingress.ann.go("")
        await ingress.ann.submit("/logout")
        async with asyncio.timeout(WAIT_S):
            await open_page.client.wait()
        assert not open_page.client.connected


async def test_one_customer_has_a_bounded_number_of_pages(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CONNECTIONS_MAX", 2)
    async with page(ingress.url, ingress.ann):
        async with page(ingress.url, ingress.ann):
            with pytest.raises(socketio.exceptions.ConnectionError):
                await Page().open(ingress.url, ingress.ann)
            async with page(ingress.url, ingress.bob):
                pass
        await asyncio.sleep(0.1)
        async with page(ingress.url, ingress.ann) as again:
            assert again.client.connected


async def test_redis_may_go_away(ingress: Ingress) -> None:
    ann, bob = ingress.ann.accounts["USD"], ingress.bob.accounts["USD"]
    publisher = LivePublisher(ingress.config.redis_url)
    client = redis.asyncio.Redis.from_url(ingress.config.redis_url)
    async with page(ingress.url, ingress.bob) as his:
        publisher.publish(0, _arrival(ann, bob, 1))
        assert (await his.next())["amount"] == "0.01"
        await client.client_kill_filter(_type="pubsub")
        await client.publish(CHANNEL, b"\xc1 not a message")
        async with asyncio.timeout(WAIT_S):
            while his.heard.empty():
                publisher.publish(0, _arrival(ann, bob, 2))
                await asyncio.sleep(0.2)
        assert (await his.next())["amount"] == "0.02"
        await client.publish(CHANNEL, b"\xc1 not a message")
        async with asyncio.timeout(WAIT_S):
            while his.heard.empty() or (await his.next())["amount"] != "0.03":
                publisher.publish(0, _arrival(ann, bob, 3))
                await asyncio.sleep(0.2)
    await client.aclose()
    await publisher.close()


async def test_a_replica_listens_as_long_as_pages_are_open(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LINGER_S", 0.1)
    ann, bob = ingress.ann.accounts["USD"], ingress.bob.accounts["USD"]
    publisher = LivePublisher(ingress.config.redis_url)
    client = redis.asyncio.Redis.from_url(ingress.config.redis_url)

    async def listeners() -> int:
        return sum(count for _, count in await client.pubsub_numsub(CHANNEL))

    before = await listeners()
    for cents in (1, 2):
        async with page(ingress.url, ingress.bob) as his:
            assert await listeners() == before + 1
            publisher.publish(0, _arrival(ann, bob, cents))
            assert (await his.next())["amount"] == f"0.0{cents}"
        for _ in range(100):
            if await listeners() == before:
                break
            await asyncio.sleep(0.05)
        assert await listeners() == before
    await client.aclose()
    await publisher.close()

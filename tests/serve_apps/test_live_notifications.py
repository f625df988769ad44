"""Notifications over a real socket: nothing lost and nothing twice, whatever breaks between."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import redis.asyncio
import socketio
import uvicorn

from actors.notifications.announcing import CHANNEL, Announcer
from domain.notifications import KINDS, Kind
from persistence import notifications as store
from persistence.database import Connection, Pool
from persistence.notifications import Notice
from serve_apps import notification_feed as feed_module
from serve_apps.application import AppConfig, Application, build
from serve_apps.notification_feed import Feed
from tests.serve_apps.inprocess import (
    PASSWORD,
    http_client,
    lifespan,
    make_config,
    weaken_passwords,
)
from tests.serve_apps.listening import PromptServer

WAIT_S = 30.0


class Replica:
    """An application that listens on a port; it can be told to stop."""

    def __init__(self, config: AppConfig) -> None:
        self.app: Application = build(config)
        weaken_passwords(self.app)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._listener = listener
        self._server = PromptServer(
            uvicorn.Config(
                self.app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1
            )
        )

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Replica]:
        async with lifespan(self.app):
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            yield self
            self._server.should_exit = True
        await serving


class Somebody:
    """Who has signed up, and is told things."""

    def __init__(self, replica: Replica, answer: dict[str, Any]) -> None:
        self.id = int(answer["user"]["id"])
        self.token: str = answer["token"]
        self._pool = replica.app.services.pool
        self._told = 0

    async def tell(self, count: int = 1) -> None:
        """So many things more; nobody is woken."""
        notices = []
        for _ in range(count):
            self._told += 1
            values = {"name": f"number {self._told}"}
            notices.append(Notice(self.id, Kind.WELCOME, values, f"test {self._told}"))
        async with self._pool.acquire() as proxy, proxy.transaction():
            await store.notify_many(cast(Connection, proxy), notices)


class Page:
    """An open page: the numbers of what it was told."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.numbers: list[int] = []
        self.resumed: int | None = None
        self.changed = asyncio.Event()
        self.client.on("notifications", self._told)
        self.client.on("resumed", self._resumed)

    async def open(self, url: str, **auth: Any) -> None:
        await self.client.connect(url, auth=auth, transports=["websocket"])

    def _resumed(self, told: dict[str, Any]) -> None:
        self.resumed = told["last"]
        self.changed.set()

    def _told(self, told: dict[str, Any]) -> None:
        self.numbers += [item["seq"] for item in told["items"]]
        self.changed.set()

    async def until(self, last: int) -> list[int]:
        """Wait until it was told of this number; all numbers that it was told."""
        async with asyncio.timeout(WAIT_S):
            while not self.numbers or self.numbers[-1] < last:
                self.changed.clear()
                await self.changed.wait()
        return self.numbers


@contextlib.asynccontextmanager
async def page(url: str, **auth: Any) -> AsyncIterator[Page]:
    """An open page."""
    opened = Page()
    await opened.open(url, **auth)
    try:
        yield opened
    finally:
        await opened.client.disconnect()


@pytest.fixture
async def replica(database_url: str, redis_url: str) -> AsyncIterator[Replica]:
    async with Replica(make_config(database_url, redis_url)).run() as running:
        yield running


@pytest.fixture
async def ann(replica: Replica) -> Somebody:
    """Ann, who was told nothing yet."""
    async with http_client(replica.app) as http:
        given = {"email": "ann@example.com", "name": "Ann Baker", "password": PASSWORD}
        somebody = Somebody(replica, (await http.post("/api/signup/", json=given)).json())
    pool = replica.app.services.pool
    await pool.execute("DELETE FROM notifications WHERE user_id = $1", somebody.id)
    await pool.execute("DELETE FROM notification_heads WHERE user_id = $1", somebody.id)
    return somebody


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For replicas that start after this: only what wakes the feed counts."""
    monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 3_600)


async def test_a_page_is_sent_what_it_has_not_seen_and_then_what_comes(
    never_looks: None, replica: Replica, ann: Somebody
) -> None:
    await ann.tell(120)
    announcer = Announcer(replica.app.services.config.redis_url)
    async with page(replica.url, token=ann.token, since=3) as late:
        assert await late.until(120) == list(range(4, 121))
        assert late.resumed == 3
        await ann.tell(2)
        await announcer.announce([ann.id])
        assert await late.until(122) == list(range(4, 123))
    async with page(replica.url, token=ann.token) as new:
        await ann.tell()
        await announcer.announce([ann.id, 1_999_999_999])
        assert await new.until(123) == [123]
        assert new.resumed == 122
    await announcer.close()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """For replicas that start after this."""
    monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.05)


async def test_without_a_message_the_next_look_finds_it(
    looks_often: None, replica: Replica, ann: Somebody
) -> None:
    async with page(replica.url, token=ann.token, since=0) as opened:
        await ann.tell()
        assert await opened.until(1) == [1]
        await ann.tell(3)
        assert await opened.until(4) == [1, 2, 3, 4]


async def test_messages_that_cannot_be_read_stop_nothing(replica: Replica, ann: Somebody) -> None:
    client = redis.asyncio.Redis.from_url(replica.app.services.config.redis_url)
    announcer = Announcer(replica.app.services.config.redis_url)
    async with page(replica.url, token=ann.token, since=0) as opened:
        await ann.tell()
        await client.publish(CHANNEL, b"\xc1 not a message")
        await announcer.announce([ann.id])
        assert await opened.until(1) == [1]
    await client.aclose()
    await announcer.close()


async def test_a_page_goes_on_at_another_replica(
    replica: Replica, ann: Somebody, database_url: str, redis_url: str
) -> None:
    """The first replica ends in the middle; the page is not told to stay away."""
    other = Replica(make_config(database_url, redis_url))
    opened = Page()
    ended: list[str] = []
    opened.client.on("disconnect", ended.append)
    async with other.run():
        await opened.open(other.url, token=ann.token, since=0)
        await ann.tell(2)
        other.app._live._feed._mark([ann.id])
        await opened.until(2)
    await ann.tell(2)
    async with asyncio.timeout(WAIT_S):
        await opened.client.wait()
    # Not "server disconnect", after which a page does not come back.
    assert ended == ["transport error"]
    async with page(replica.url, token=ann.token, since=opened.numbers[-1]) as again:
        assert await again.until(4) == [3, 4]


@pytest.mark.parametrize("auth", [{"since": "3"}, {"since": 1.5}, {"since": True}, {"token": 7}])
async def test_what_cannot_be_read_is_refused(
    replica: Replica, ann: Somebody, auth: dict[str, Any]
) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await Page().open(replica.url, **{"token": ann.token, **auth})


@pytest.mark.parametrize("since", [-5, 10, 2**70])
async def test_numbers_that_were_never_given(replica: Replica, ann: Somebody, since: int) -> None:
    await ann.tell(2)
    async with page(replica.url, token=ann.token, since=since) as opened:
        await ann.tell()
        replica.app._live._feed._mark([ann.id])
        last = 0 if since < 0 else 2
        assert await opened.until(3) == list(range(last + 1, 4))
        assert opened.resumed == last


async def test_an_api_token_that_is_not_one(replica: Replica) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await Page().open(replica.url, token="kontor_nonsense", since=0)


# -- between replay and live ------------------------------------------------------------------


class Sent:
    """Pages of a feed without sockets, and what each was sent."""

    def __init__(self, pool: Pool) -> None:
        self.numbers: dict[str, list[int]] = {}
        services = type("Services", (), {"pool": pool})()
        self.feed = Feed(cast(Any, services), self._send)

    async def _send(self, name: str, rows: Any) -> None:
        await asyncio.sleep(0)
        self.numbers[name] += [row.seq for row in rows]

    async def join(self, name: str, user: int, since: int) -> None:
        self.numbers[name] = []
        self.feed.join(name, user, await self.feed.position(user, since))


async def test_pages_that_come_and_go_while_much_is_told(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages join at any moment with any number, and break off; wakings are lost half the time.

    Each must be sent exactly what follows its number, in order.
    """
    monkeypatch.setattr(feed_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(feed_module, "ROUND_ROWS_MAX", 7)
    users = [1_000_000_001, 1_000_000_002]
    for user in users:
        await pool.execute(
            "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, 'x', 'x')",
            user,
            f"{user}@example.com",
        )
    chance = random.Random(4)
    sent = Sent(pool)
    begins: dict[str, int] = {}
    owner: dict[str, int] = {}
    await sent.feed.start()

    async def write(user: int) -> None:
        for number in range(150):
            rule = KINDS[Kind.WELCOME]
            notices = [
                Notice(user, Kind.WELCOME, rule.example, f"{number}.{more}")
                for more in range(chance.choice([1, 1, 3]))
            ]
            async with pool.acquire() as proxy, proxy.transaction():
                await store.notify_many(cast(Connection, proxy), notices)
            if chance.random() < 0.5:
                sent.feed._mark([user])
            await asyncio.sleep(0)

    async def browse(tab: int) -> None:
        since = 0
        for visit in range(12):
            name, user = f"{tab}.{visit}", users[tab % 2]
            owner[name] = user
            position = await sent.feed.position(user, since)
            begins[name] = position
            sent.numbers[name] = []
            sent.feed.join(name, user, position)
            await asyncio.sleep(chance.random() * 0.08)
            if visit < 11:
                sent.feed.leave(name, user)
            numbers = list(sent.numbers[name])
            since = chance.choice([numbers[-1] if numbers else position, 0, position])

    await asyncio.gather(*(write(user) for user in users), *(browse(tab) for tab in range(6)))
    heads = await store.heads(pool, users)
    open_pages = [f"{tab}.11" for tab in range(6)]
    async with asyncio.timeout(WAIT_S):
        while any(  # noqa: ASYNC110
            begins[name] + len(sent.numbers[name]) < heads[owner[name]] for name in open_pages
        ):
            await asyncio.sleep(0.02)
    await sent.feed.stop()
    for name, numbers in sent.numbers.items():
        first = begins[name] + 1
        assert numbers == list(range(first, first + len(numbers))), name
    for name in open_pages:
        assert begins[name] + len(sent.numbers[name]) == heads[owner[name]]

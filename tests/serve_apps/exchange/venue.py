"""A trading venue for tests: an ingress that listens on a port, an instrument, and traders.

The traders' client is written from the dialect's public description and shares no code with what
it talks to.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from actors.marketdata import MarketPublisher
from actors.projector import Projector
from actors.userdata import CustomerPublisher
from domain.accounts.trading import BrokerageReply, FundBrokerage, IssueAsset
from domain.trading.commands import Command as BookCommand
from domain.trading.commands import InstrumentReply, ListInstrument
from domain.trading.rules import About, InstrumentType, Rules
from persistence.tasks import end_tasks
from serve_apps.application import AppConfig, Application, build
from serve_apps.exchange.keys import MadeKey, make_key
from tests.serve_apps.inprocess import (
    PASSWORD,
    PartitionAccounts,
    PartitionBooks,
    http_client,
    lifespan,
    make_config,
    weaken_passwords,
)
from tests.serve_apps.listening import PromptServer

UNIT = 10**8
SYMBOL = "BTCUSD"
RULES = Rules(
    base="BTC",
    quote="USD",
    tick=UNIT // 100,
    lot=UNIT // 100_000,
    notional_min=10**7,  # 1.00 USD, as a tick x lot is 10^-7 USD
    quantity_max=10**8,
    price_max=10**8,
    orders_max=500,
)
"""Ticks of a cent, lots of 0.00001 BTC; no order below 1.00 USD."""

ABOUT = About(InstrumentType.CRYPTO, "Bitcoin", "The first one.", maker=1_000, taker=2_000)


def sign(secret: str, payload: str | bytes) -> str:
    """HMAC-SHA256 in hex."""
    content = payload if isinstance(payload, bytes) else payload.encode()
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
        super().__init__(status, body)
        self.status = status
        self.code: int = body["code"]
        self.text: str = body["msg"]
        self.body = body
        self.headers = headers


class Trader:
    """Somebody with an API key."""

    def __init__(self, venue: Venue, user: int, key: MadeKey) -> None:
        self.venue = venue
        self.user = user
        self.key = key.key
        self.secret = key.secret
        self.number = key.id

    def query(self, params: Mapping[str, Any], **changes: Any) -> str:
        """Signed parameters; ``changes`` replace timestamp, secret or signature."""
        given = {**params, "timestamp": changes.get("timestamp", now_ms())}
        if "recvWindow" in changes:
            given["recvWindow"] = changes["recvWindow"]
        text = urlencode(given)
        signature = changes.get("signature") or sign(changes.get("secret", self.secret), text)
        return f"{text}&signature={signature}"

    async def raw(self, method: str, path: str, query: str = "", **options: Any) -> httpx.Response:
        """Send something as it is, with the key."""
        headers = {"X-MBX-APIKEY": self.key, **options.pop("headers", {})}
        url = f"/api/v3/{path}" + (f"?{query}" if query else "")
        return await self.venue.http.request(method, url, headers=headers, **options)

    async def send(self, method: str, path: str, /, **params: Any) -> Any:
        """A signed request; its answer. Raises ``Refusal``."""
        return read(await self.raw(method, path, self.query(params)))

    async def place(self, side: str, price: str, quantity: str, **more: Any) -> Any:
        """A limit order."""
        params = {
            "symbol": SYMBOL, "side": side, "type": "LIMIT", "timeInForce": "GTC",
            "price": price, "quantity": quantity, **more,
        }  # fmt: skip
        return await self.send("POST", "order", **params)

    async def balances(self) -> dict[str, tuple[str, str]]:
        """Free and locked, by asset."""
        rows = (await self.send("GET", "account"))["balances"]
        return {row["asset"]: (row["free"], row["locked"]) for row in rows}

    def signed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a websocket request, signed as the dialect has it."""
        given = {**params, "apiKey": self.key, "timestamp": now_ms()}
        text = "&".join(
            f"{name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in sorted(given.items())
        )
        return {**given, "signature": sign(self.secret, text)}


async def eventually(look: Callable[[], Awaitable[Any]], timeout_s: float = 10.0) -> Any:
    """What ``look`` finds, as soon as that is something."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = await look()
            if found:
                return found
            await asyncio.sleep(0.02)


def read(answer: httpx.Response) -> Any:
    """The body of an answer. Raises ``Refusal``."""
    body = answer.json()
    if answer.status_code != 200:
        raise Refusal(answer.status_code, body, answer.headers)
    return body


class Line:
    """A connection to the websocket API."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Any] = []
        self._numbers = itertools.count(1)

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Send a request and wait for its answer."""
        number = next(self._numbers)
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params or {}}))
        return await self.answer(number)

    async def answer(self, number: Any) -> Any:
        """The answer to a request; events that come before it are kept."""
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
            if "event" in message:
                self.events.append(message)
            elif message["id"] == number:
                return message
            else:
                raise AssertionError(message)

    async def event(self, kind: str) -> Any:
        """The next event of a kind."""
        while True:
            for index, message in enumerate(self.events):
                if message["event"]["e"] == kind:
                    return self.events.pop(index)["event"]
            message = json.loads(await asyncio.wait_for(self.socket.recv(), 10))
            assert "event" in message, message
            self.events.append(message)

    async def log_on(self, trader: Trader) -> None:
        """From now on nothing need be signed."""
        answer = await self.ask("session.logon", trader.signed({}))
        assert answer["status"] == 200, answer


class Venue:
    """An ingress, and what tests need of it."""

    def __init__(self, app: Application, url: str, http: httpx.AsyncClient) -> None:
        self.app = app
        self.url = url
        self.http = http

    @property
    def books(self) -> PartitionBooks:
        books = self.app.services.books
        assert isinstance(books, PartitionBooks)
        return books

    async def list(self, rules: Rules = RULES, about: About = ABOUT) -> None:
        """Open a market, and wait until this replica knows it."""
        number = secrets.token_bytes(16)
        command: BookCommand = ListInstrument(number, number, rules.symbol, rules, about)
        reply = await self.books.call(command)
        assert isinstance(reply, InstrumentReply), reply
        await self.app.services.catalogue.refresh()

    async def trader(self, name: str, **assets: int) -> Trader:
        """Somebody new with whole units of assets (no more than 5,000,000 dollars) and a key."""
        answer = await self.http.post(
            "/api/signup/",
            json={"email": f"{name}@example.com", "name": name.title(), "password": PASSWORD},
        )
        assert answer.status_code == 201, answer.text
        user = int(answer.json()["user"]["id"])
        dollars = assets.pop("USD", 0)
        if dollars:
            headers = {"authorization": f"Bearer {answer.json()['token']}"}
            profile = (await self.http.get(f"/api/user/{user}/", headers=headers)).json()
            (account,) = (row["id"] for row in profile["accounts"] if row["currency"] == "USD")
            await self._carry_out(FundBrokerage, int(account), dollars * 100)
        for asset, quantity in assets.items():
            await self._carry_out(IssueAsset, user, asset, quantity * UNIT)
        return await self.key(user, name)

    async def _carry_out(self, command: Any, *arguments: Any) -> None:
        number = secrets.token_bytes(16)
        reply = await self.app.services.accounts.call(command(number, number, *arguments))
        assert isinstance(reply, BrokerageReply), reply

    async def key(self, user: int, label: str, **options: Any) -> Trader:
        """A key of a user."""
        services = self.app.services
        made = await make_key(
            services.pool, services.config.secret_key, user, label, now=services.now(), **options
        )
        assert isinstance(made, MadeKey), made
        return Trader(self, user, made)

    @asynccontextmanager
    async def line(self, query: str = "returnRateLimits=false") -> AsyncIterator[Line]:
        """A connection to the websocket API."""
        url = f"{self.url.replace('http', 'ws')}/ws-api/v3?{query}"
        async with connect(url, max_size=None) as socket:
            yield Line(socket)


class _Accounts(PartitionAccounts):
    """Accounts that publish."""

    @classmethod
    async def connect(cls, config: AppConfig) -> PartitionAccounts:
        accounts = await super().connect(config)
        accounts.publisher = CustomerPublisher(config.redis_url)  # type: ignore[attr-defined]
        accounts.partition._published = accounts.publisher.publish  # type: ignore[attr-defined]
        return accounts

    async def close(self) -> None:
        await self.publisher.close()  # type: ignore[attr-defined]
        await super().close()


class _Books(PartitionBooks):
    """Books that publish."""

    @classmethod
    async def connect(cls, config: AppConfig) -> PartitionBooks:
        books = await super().connect(config)
        books.publisher = MarketPublisher(config.redis_url)  # type: ignore[attr-defined]
        books.partition._published = books.publisher.publish  # type: ignore[attr-defined]
        return books

    async def close(self) -> None:
        await self.publisher.close()  # type: ignore[attr-defined]
        await super().close()


@asynccontextmanager
async def open_venue(
    database_url: str, redis_url: str, *, project: bool = False, **changes: Any
) -> AsyncIterator[Venue]:
    """A venue that listens on a port of its own, with one market."""
    config = make_config(
        database_url,
        redis_url,
        connect_accounts=_Accounts.connect,
        connect_books=_Books.connect,
        bonus_amount=5_000_000_00,
        **changes,
    )
    app = build(config)
    weaken_passwords(app)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = PromptServer(
        uvicorn.Config(
            app,
            lifespan="off",
            log_level="warning",
            ws="websockets-sansio",
            timeout_graceful_shutdown=10,  # not for ever, whoever is still connected
        )
    )
    async with lifespan(app), http_client(app) as http:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        venue = Venue(app, url, http)
        await venue.list()
        work = [asyncio.create_task(_fire(app))]
        if project:
            work.append(asyncio.create_task(_project(app)))
        try:
            yield venue
        finally:
            await end_tasks(work)
            server.should_exit = True
            await serving


async def _fire(app: Application) -> None:
    """Wake entities whose time has come, as their actor would."""
    accounts = app.services.accounts
    assert isinstance(accounts, PartitionAccounts)
    while True:
        await asyncio.sleep(0.1)
        await accounts.partition.fire()


async def _project(app: Application) -> None:
    await Projector(app.services.pool).run()

"""A stream server on a real port, over a market without a platform."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
import websockets.asyncio.client as ws
from starlette.types import Receive, Scope, Send

from serve_apps.exchange.streams.connection import Connection
from serve_apps.exchange.streams.market import Market
from tests.serve_apps.exchange.streams.site import Book, Books, History, batch, make_market
from tests.serve_apps.listening import PromptServer

WAIT_S = 5.0
KEY = "k" * 40


class Users:
    """In place of the customers' hub."""

    def __init__(self) -> None:
        self.deliveries: dict[int, list[Callable[[bytes], None]]] = {}

    def subscribe(self, customer: int, deliver: Callable[[bytes], None]) -> Callable[[], None]:
        """Note who wants what."""
        self.deliveries.setdefault(customer, []).append(deliver)
        return lambda: self.deliveries[customer].remove(deliver)

    async def ready(self, customer: int) -> None:
        """At once."""


class Server:
    """One replica's streams; ``shared`` lets it send straight to the transport."""

    def __init__(self, book: Book, *, shared: bool) -> None:
        self.book = book
        self.users: Any = Users()
        self.connections: set[Connection] = set()
        self.url = ""
        self.sequence = 0
        self.market: Market
        self.books: Books
        self.history: History
        self.shared = shared

    @property
    def customer_of(self) -> Any:
        """Whose listen key it is."""
        return self._customer_of

    async def _customer_of(self, key: str) -> int | None:
        return 7 if key == KEY else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket."""

        async def plainly(message: Any) -> None:
            await send(message)

        connection = Connection(self, scope, receive, send if self.shared else plainly)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def change(self, *arguments: Any, **more: Any) -> None:
        """Let something happen in the book, and publish it."""
        self.sequence += 1
        news = self.book.change(*arguments, **more)
        self.market.receive(batch(self.sequence, news, at=self.book.at))


@contextlib.asynccontextmanager
async def serving(book: Book, *, shared: bool = True) -> AsyncIterator[Server]:
    """A server that listens."""
    server = Server(book, shared=shared)
    server.market, server.books, server.history = make_market(book, clock=lambda: book.at)
    await server.market.start()
    await server.market.depth(book.symbol, 5)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server.url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
    web = PromptServer(uvicorn.Config(server, lifespan="off", log_level="warning"))
    task = asyncio.create_task(web.serve(sockets=[listener]))
    try:
        yield server
    finally:
        web.should_exit = True
        for connection in list(server.connections):
            connection.cut()
        await task
        await server.market.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


class Talk:
    """A client."""

    def __init__(self, socket: ws.ClientConnection) -> None:
        self.socket = socket

    async def ask(self, method: str, *params: Any, number: Any = 1) -> Any:
        """A request and the next message."""
        await self.socket.send(json.dumps({"method": method, "params": params, "id": number}))
        return await self.next()

    async def next(self) -> Any:
        """The next message."""
        async with asyncio.timeout(WAIT_S):
            return json.loads(await self.socket.recv())

    async def quiet(self, wait_s: float = 0.15) -> bool:
        """Whether nothing comes."""
        try:
            async with asyncio.timeout(wait_s):
                await self.socket.recv()
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def talking(server: Server, path: str, **options: Any) -> AsyncIterator[Talk]:
    """A connected client; once this is entered, what its address names is followed."""
    async with ws.connect(server.url + path, **options) as socket:
        talk = Talk(socket)
        await asyncio.sleep(0.02)
        yield talk

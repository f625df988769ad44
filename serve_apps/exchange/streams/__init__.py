"""The stream server of one replica: markets, customers' own events, and who follows them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from persistence.tasks import end_tasks
from persistence.trading.catalogue import Instrument
from serve_apps.exchange.streams.connection import Connection
from serve_apps.exchange.streams.history import StoredHistory
from serve_apps.exchange.streams.listener import listen
from serve_apps.exchange.streams.market import Market
from serve_apps.exchange.streams.users import Users
from serve_apps.services import Services

log = structlog.get_logger("kontor.streams")

CONNECTIONS_MAX: Final = 4_000
CustomerOf = Callable[[str], Awaitable[int | None]]


class _Listed:
    """The catalogue as markets see it."""

    def __init__(self, services: Services) -> None:
        self._catalogue = services.catalogue

    def get(self, symbol: str) -> Instrument | None:
        return self._catalogue.get(symbol)

    def symbols(self) -> Iterable[str]:
        return [row.symbol for row in self._catalogue.all() if row.status != "delisted"]


class Streams:
    """Serves ``/ws`` and ``/stream``; ``market`` and ``users`` are for the rest of the replica."""

    market: Market
    users: Users

    def __init__(self, services: Services, customer_of: CustomerOf) -> None:
        self._services = services
        self.customer_of: Final = customer_of
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Follow the markets. The replica's services are open."""
        services = self._services
        listed = _Listed(services)
        self.market = Market(
            books=services.books,
            catalogue=listed,
            history=StoredHistory(services.pool),
            clock=_now,
            secret=services.config.secret_key,
        )
        self.users = Users(
            connection=services.redis,
            accounts=services.accounts,
            catalogue=listed,
            clock=_now,
        )
        services.market, services.user_streams = self.market, self.users
        await self.market.start()
        await self.users.start()
        self._listening = asyncio.create_task(listen(services.redis, self.market))

    async def stop(self) -> None:
        """Let all connections go; they come back to another replica."""
        for connection in list(self._connections):
            connection.cut()
        await asyncio.sleep(0)
        await end_tasks([self._listening])
        await self.users.stop()
        await self.market.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one websocket."""
        if len(self._connections) >= CONNECTIONS_MAX:
            await receive()
            await send({"type": "websocket.close", "code": 1013})
            return
        connection = Connection(self, scope, receive, send)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


def _now() -> int:
    return time.time_ns() // 1_000

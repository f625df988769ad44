"""The trading API as the application of a replica mounts it: REST, websocket API, streams."""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from serve_apps.exchange.desk import Desk
from serve_apps.exchange.rest import Rest
from serve_apps.exchange.streams import Streams
from serve_apps.exchange.table import OPERATIONS
from serve_apps.exchange.websocket import WebsocketApi
from serve_apps.services import Services

PREFIXES: Final = ("/api/v3/", "/sapi/", "/fapi/", "/dapi/", "/eapi/")
"""Paths that REST of the dialect answers."""

API: Final = "/ws-api/v3/"
STREAMS: Final = ("/ws/", "/stream/")
"""What begins so, with a slash at its end, is a stream's address."""


class Exchange:
    """Everything of the trading API in one replica."""

    def __init__(self, services: Services) -> None:
        self.desk = Desk(services)
        self.rest = Rest(self.desk, OPERATIONS)
        self._websocket = WebsocketApi(self.desk, OPERATIONS)
        self._streams = Streams(services, self._customer_of)

    async def start(self) -> None:
        """Begin. The replica's services are open."""
        self.desk.open()
        await self._streams.start()

    async def stop(self) -> None:
        """End, before the services close."""
        await self._websocket.close()
        await self._streams.stop()

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a websocket, if it is one of ours."""
        path = scope["path"].rstrip("/") + "/"
        if path == API:
            await self._websocket(scope, receive, send)
        elif path.startswith(STREAMS):
            await self._streams(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _customer_of(self, key: str) -> int | None:
        return await self.desk.listen_keys.customer(key)

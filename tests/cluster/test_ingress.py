"""What stands before each request in a replica."""

from __future__ import annotations

from typing import Any

import pytest
from ray.serve._private.http_util import parse_disconnect_disabled_header
from ray.serve._private.utils import call_function_from_import_path
from starlette.types import Receive, Scope, Send

from cluster.runtime import FLAGS
from serve_apps.exchange.streams import wire


class Protocol:
    """In place of the server's: what it sends with knows it."""

    async def send(self, message: Any) -> None:
        """Send nothing."""


async def _passed_on(scope: Scope, send: Any = None) -> Scope:
    """What reaches the application behind what Serve is told to put before it."""
    passed: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    app: Any = application
    for middleware in call_function_from_import_path(
        FLAGS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    ):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    await app(scope, None, send)
    return passed[0]


async def test_serve_does_not_watch_whether_a_client_goes_away() -> None:
    headers = [(b"host", b"localhost")]
    passed = await _passed_on({"type": "http", "headers": headers})
    assert (b"host", b"localhost") in passed["headers"]
    assert parse_disconnect_disabled_header(dict(passed["headers"]))


@pytest.mark.parametrize("path", ["/socket.io/", "/streams"])
async def test_any_other_websocket_is_left_as_it_is(path: str) -> None:
    passed = await _passed_on({"type": "websocket", "path": path, "headers": []})
    assert passed["headers"] == []


@pytest.mark.parametrize("path", ["/ws", "/ws/btcusd@trade", "/stream", "/ws-api/v3"])
async def test_a_websocket_of_the_trading_api_reaches_the_servers_protocol(path: str) -> None:
    protocol = Protocol()
    scope: Scope = {"type": "websocket", "path": path, "headers": [], "extensions": {}}
    passed = await _passed_on(scope, protocol.send)
    assert parse_disconnect_disabled_header(dict(passed["headers"]))
    assert passed["extensions"][wire.EXTENSION] is protocol

"""What stands before each request in a replica."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from ray.serve._private.http_util import (
    convert_object_to_asgi_messages,
    parse_disconnect_disabled_header,
)
from ray.serve._private.utils import call_function_from_import_path
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.ingress import BESIDE_VARIABLE
from cluster.runtime import FLAGS
from cluster.split import PREFIX
from serve_apps.exchange.streams import wire


class Protocol:
    """In place of the server's: what it sends with knows it."""

    async def send(self, message: Any) -> None:
        """Send nothing."""


def _behind(application: ASGIApp) -> ASGIApp:
    """An application behind what Serve is told to put before it."""
    app = application
    for middleware in call_function_from_import_path(
        FLAGS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    ):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app


async def _passed_on(scope: Scope, send: Any = None) -> Scope:
    """What reaches the application behind what Serve is told to put before it."""
    passed: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    receive: Any = None
    await _behind(application)(scope, receive, send)
    return passed[0]


@pytest.mark.parametrize("word", ["DRAINING", "UNHEALTHY"])
async def test_a_replica_that_serve_lets_go_is_not_ready(word: str) -> None:
    """Serve answers its own health check like this before it takes no new connections."""
    well = True
    asked: list[str] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        status, text = (200, "success") if well else (503, word)
        for message in convert_object_to_asgi_messages(text, status_code=status):
            await send(message)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(_behind(serve)), base_url="http://replica"
    ) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert asked == ["/-/healthz", "/readyz"]
        well = False
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": word.lower()})
        asked.clear()
        await client.get("/livez")
        assert asked == ["/livez"]


async def test_a_canarys_replica_is_asked_where_serve_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BESIDE_VARIABLE, "1")
    asked: list[str] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        for message in convert_object_to_asgi_messages("success", status_code=200):
            await send(message)

    transport = httpx.ASGITransport(_behind(serve))
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        assert (await client.get("/readyz")).status_code == 200
    assert asked == ["/-/healthz", PREFIX + "/readyz"]


async def test_serve_does_not_watch_whether_a_client_goes_away() -> None:
    headers = [(b"host", b"localhost")]
    passed = await _passed_on({"type": "http", "path": "/", "headers": headers})
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

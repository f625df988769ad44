"""What stands before each request in a replica."""

from __future__ import annotations

from typing import Any

from ray.serve._private.http_util import parse_disconnect_disabled_header
from ray.serve._private.utils import call_function_from_import_path
from starlette.types import Receive, Scope, Send

from cluster.runtime import FLAGS


async def _passed_on(scope: Scope) -> Scope:
    """What reaches the application behind what Serve is told to put before it."""
    passed: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope)

    app: Any = application
    for middleware in call_function_from_import_path(
        FLAGS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    ):
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    await app(scope, None, None)
    return passed[0]


async def test_serve_does_not_watch_whether_a_client_goes_away() -> None:
    headers = [(b"host", b"localhost")]
    passed = await _passed_on({"type": "http", "headers": headers})
    assert (b"host", b"localhost") in passed["headers"]
    assert parse_disconnect_disabled_header(dict(passed["headers"]))


async def test_a_websocket_is_left_as_it_is() -> None:
    passed = await _passed_on({"type": "websocket", "headers": []})
    assert passed["headers"] == []

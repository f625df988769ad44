"""What the front of the application does for every request."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_apps.application import AppConfig, Application, build
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import http_client, lifespan, weaken_passwords
from tests.serve_apps.test_api_transfers import refused


async def test_health(app: Application, client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}


async def test_not_ready_without_redis(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping(*_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(app.services.redis, "ping", ping)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "missing", "missing": {"redis": "ConnectionError"}}
    assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("x" * 65, False), ("a b", False), ("<x>", False), ("", False)],
)
async def test_requests_have_an_id(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    """A decent one is kept, and answered by whoever gave it; else there is one of ours."""
    answer = await client.get("/livez", headers={"x-request-id": given})
    assert ("x-request-id" not in answer.headers) is kept
    assert kept or len(answer.headers["x-request-id"]) == 16


async def test_headers_that_keep_browsers_safe(own_config: AppConfig, app: Application) -> None:
    async with http_client(app) as client:
        page = (await client.get("/login")).headers
        api = (await client.get("/api/user/1/")).headers
    for headers in (page, api):
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
    assert "script-src 'self';" in page["content-security-policy"]
    assert "connect-src 'self' ws://kontor.test;" in page["content-security-policy"]
    assert api["content-security-policy"].startswith("default-src 'none'")
    secure = build(
        dataclasses.replace(own_config, secure_cookies=True, public_url="https://kontor.test")
    )
    async with lifespan(secure), http_client(secure) as client:
        answer = await client.get("/login")
        assert "strict-transport-security" in answer.headers
        assert "connect-src 'self' wss://" in answer.headers["content-security-policy"]
        assert all("Secure" in item for item in answer.headers.get_list("set-cookie"))


async def test_nothing_there(client: httpx.AsyncClient) -> None:
    refused(await client.get("/api/nothing/"), "not_found")
    refused(await client.get("/api/"), "not_found")
    page = await client.get("/nothing")
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")


@pytest.fixture
def broken(app: Application) -> Any:
    """Adds a route that raises what it is told to."""

    def add(path: str, error: Exception) -> None:
        async def endpoint(request: Request) -> Response:
            raise error

        app._router.routes.insert(0, Route(path, endpoint))

    return add


@pytest.mark.alone
async def test_what_was_not_foreseen(client: httpx.AsyncClient, broken: Any) -> None:
    broken("/api/bug/", RuntimeError("a secret detail"))
    broken("/bug", RuntimeError("a secret detail"))
    answer = await client.get("/api/bug/")
    refused(answer, "internal_error")
    page = await client.get("/bug")
    assert page.status_code == 500
    assert "secret" not in answer.text + page.text


@pytest.mark.alone
async def test_an_outage_is_no_bug(client: httpx.AsyncClient, broken: Any) -> None:
    broken("/api/out/", ConnectionRefusedError("postgres"))
    answer = await client.get("/api/out/")
    refused(answer, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_page_has_the_same_bound_on_bodies(client: httpx.AsyncClient) -> None:
    answer = await client.post("/login", content=b"x" * 5_000_000)
    assert answer.status_code == 413

    async def pieces() -> Any:
        for _ in range(6):
            yield b"a=" + b"x" * 1_000_000 + b"&"

    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post("/login", content=pieces(), headers=headers)
    assert answer.status_code == 413


@pytest.mark.alone
async def test_whatever_reads_a_body_is_bound(app: Application, client: httpx.AsyncClient) -> None:
    async def endpoint(request: Request) -> Response:
        return Response(str(len(await request.body())))

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1_000_000

    app._router.routes.insert(0, Route("/api/any/", endpoint, methods=["POST"]))
    assert (await client.post("/api/any/", content=pieces(4))).text == "4000000"
    refused(await client.post("/api/any/", content=pieces(5)), "body_too_large")


async def test_a_form_that_cannot_be_read(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post("/login", content=b"a=" + b"x" * 2_000_000, headers=headers)
    assert answer.status_code == 400
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await client.post("/login", content=b"--y\r\n", headers=headers)
    assert answer.status_code in (400, 403)


async def test_head_is_get_without_a_body(ann: User) -> None:
    got = await ann.http.get(ann.path)
    head = await ann.http.head(ann.path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


async def test_each_request_leaves_a_line(own_config: AppConfig, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    app = build(dataclasses.replace(own_config, access_log=str(path)))
    async with lifespan(app), http_client(app) as client:
        await client.get("/livez", headers={"x-request-id": "number-one"})
        await client.get("/api/user/1/?token=hidden")
        for _ in range(100):
            if path.stat().st_size:
                break
            await asyncio.sleep(0.02)
        await client.get("/livez")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/livez", 200),
        ("/api/user/1/", 401),
        ("/livez", 200),
    ]
    assert lines[0]["request"] == "number-one"
    assert [line["route"] for line in lines] == ["/livez", "/api/user/{user}/", "/livez"]
    assert [line["user"] for line in lines] == [0, 0, 0]
    assert lines[0]["bytes"] == len(b'{"status":"ok"}')
    assert lines[0]["ms"] >= 0
    assert "hidden" not in path.read_text()


async def test_a_start_that_fails_is_told(config: AppConfig) -> None:
    app = build(dataclasses.replace(config, database_url="postgresql:///none?host=/nowhere"))
    weaken_passwords(app)
    with pytest.raises(RuntimeError, match="lifespan"):
        async with lifespan(app):
            pass

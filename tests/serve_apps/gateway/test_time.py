"""Requests that take too long are given up, and said to be; what answers is left alone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serve_apps.application import AppConfig, Application, build
from tests.serve_apps.inprocess import http_client, lifespan, weaken_passwords
from tests.serve_apps.test_api_transfers import refused

LIMIT_S = 0.15


@pytest.fixture
async def hasty(own_config: AppConfig) -> AsyncIterator[Application]:
    """An application with little patience, and routes that try it."""
    app = build(dataclasses.replace(own_config, body_s=LIMIT_S, answer_s=LIMIT_S))
    weaken_passwords(app)
    app._watch._look_s = 0.02

    async def never(request: Request) -> Response:
        await request.body()
        await asyncio.Event().wait()
        return Response()

    async def half(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(LIMIT_S * 0.6)
        return Response("done")

    async def slowly(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x"
                await asyncio.sleep(LIMIT_S / 2)

        return StreamingResponse(pieces())

    methods = ["GET", "POST"]
    app._router.routes[:0] = [
        Route("/api/never/", never, methods=methods),
        Route("/never", never, methods=methods),
        Route("/api/half/", half, methods=methods),
        Route("/api/slowly/", slowly),
    ]
    async with lifespan(app):
        yield app


async def test_a_handler_that_does_not_answer(hasty: Application) -> None:
    async with http_client(hasty) as client:
        moved = await client.post("/api/never/", content=b"x")
        refused(moved, "outcome_unknown")
        assert moved.headers["retry-after"] == "1"
        refused(await client.get("/api/never/"), "unavailable")
        page = await client.get("/never")
        assert page.status_code == 503
        assert "Your money is safe" in page.text
        assert (await client.get("/livez")).status_code == 200
    assert not hasty._watch._requests


async def test_an_order_that_is_not_answered(
    hasty: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rest(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(hasty._exchange, "rest", rest)
    async with http_client(hasty) as client:
        answer = await client.post("/api/v3/order")
        assert (answer.status_code, answer.json()["code"]) == (504, -1007)
        answer = await client.get("/api/v3/time")
        assert (answer.status_code, answer.json()["code"]) == (503, -1001)


async def test_a_body_that_does_not_arrive(hasty: Application) -> None:
    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(LIMIT_S / 5)

    async with http_client(hasty) as client:
        headers = {"content-type": "application/json", "content-length": "9999"}
        answer = await client.post("/api/login/", content=drops(), headers=headers)
        refused(answer, "request_timeout")
        assert answer.headers["connection"] == "close"
        headers["content-type"] = "application/x-www-form-urlencoded"
        assert (await client.post("/login", content=drops(), headers=headers)).status_code == 408


async def test_what_has_begun_to_answer_may_take_its_time(hasty: Application) -> None:
    async with http_client(hasty) as client:
        assert (await client.get("/api/slowly/")).text == "xxxx"


async def test_somebody_elses_cancelling_is_no_lateness(hasty: Application) -> None:
    async with http_client(hasty) as client:
        asking = asyncio.create_task(client.get("/api/never/"))
        await asyncio.sleep(0.03)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert not hasty._watch._requests


async def test_the_time_for_an_answer_begins_with_the_end_of_the_body(hasty: Application) -> None:
    async def later() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(LIMIT_S * 0.6)
        yield b"x"

    async with http_client(hasty) as client:
        assert (await client.post("/api/half/", content=later())).text == "done"

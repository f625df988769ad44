"""A replica that ends: what is open is answered, websockets are told, nobody new is let in.

With the server of Serve's replicas (uvicorn), ended in the way in which Serve ends it.
"""

from __future__ import annotations

import asyncio
import socket

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from persistence.database import connection
from serve_apps.application import AppConfig, build
from tests.serve_apps.inprocess import http_client, weaken_passwords

RESTART = 1012
"""``Service Restart``: come back (RFC 6455, registry of close codes)."""

CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity, pg_sleep(0.01)
WHERE datname = current_database() AND application_name = $1"""


async def test_draining(own_config: AppConfig) -> None:
    app = build(own_config)
    weaken_passwords(app)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Response:
        asked.set()
        await go_on.wait()
        return Response("done")

    app._router.routes.insert(0, Route("/api/slow/", slow))
    listener = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{listener.getsockname()[1]}"
    settings = uvicorn.Config(app, lifespan="on", log_level="warning", ws="websockets-sansio")
    server = uvicorn.Server(settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    async with httpx.AsyncClient(base_url=f"http://{place}") as client:  # the listener waits
        assert (await client.get("/readyz")).status_code == 200
        asking = asyncio.create_task(client.get("/api/slow/"))
        await asked.wait()
        async with connect(f"ws://{place}/ws-api/v3") as api, connect(f"ws://{place}/ws") as stream:
            server.should_exit = True
            for websocket in (api, stream):
                try:
                    while True:
                        await asyncio.wait_for(websocket.recv(), 30)
                except ConnectionClosed:
                    assert websocket.close_code == RESTART
        async with httpx.AsyncClient(base_url=f"http://{place}") as newcomer:
            try:
                await newcomer.get("/livez")
            except httpx.ConnectError:
                pass
            else:
                raise AssertionError("somebody new was let in")
        assert not asking.done()
        go_on.set()
        assert (await asking).text == "done"
    await serving
    async with http_client(app) as late:
        answer = await late.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
    async with connection(own_config.database_url, name="the test") as other:
        async with asyncio.timeout(10):
            while await other.fetchval(CONNECTIONS, f"kontor {own_config.name}"):
                pass

"""Fixtures of the ingress: a running application, clients, users."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from serve_apps.application import AppConfig, Application, build
from serve_apps.gateway import limits
from tests.serve_apps.inprocess import (
    PASSWORD,
    http_client,
    lifespan,
    make_config,
    weaken_passwords,
)


@pytest.fixture(scope="session", autouse=True)
def _slow_is_not_away() -> Iterator[None]:
    """On a busy machine Redis may take a moment, and who signs up is not to be sent away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "REDIS_TIMEOUT_S", 10.0)
        yield


@pytest.fixture(scope="module")
def config(shared_database_url: str, redis_url: str) -> AppConfig:
    """The settings of the module's application; a module may have others."""
    return make_config(shared_database_url, redis_url)


@pytest.fixture
def own_config(config: AppConfig, database_url: str) -> AppConfig:
    """The settings of an application of the test's own, on a database of its own."""
    return dataclasses.replace(config, database_url=database_url)


@asynccontextmanager
async def running(config: AppConfig) -> AsyncIterator[Application]:
    """An application as long as the block lasts."""
    application = build(config)
    weaken_passwords(application)
    async with lifespan(application):
        yield application


@pytest.fixture(scope="module")
async def shared_app(config: AppConfig) -> AsyncIterator[Application]:
    """The application that the tests of a module take one after the other."""
    async with running(config) as application:
        yield application


@pytest.fixture
async def lent_app(shared_app: Application) -> AsyncIterator[Application]:
    """The module's application; afterwards nobody is signed up, and its parts are as before."""
    parts = dict(vars(shared_app.services))
    yield shared_app
    vars(shared_app.services).update(parts)
    # Everything else that is known of a person goes with the row.
    await shared_app.services.pool.execute(
        "DELETE FROM users; DELETE FROM login_failures; DELETE FROM reset_requests;"
        " DELETE FROM adjustments; DELETE FROM releases"
    )


@pytest.fixture
async def own_app(own_config: AppConfig) -> AsyncIterator[Application]:
    """An application of the test's own."""
    async with running(own_config) as application:
        yield application


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Application:
    """A running application with nobody in it, for tests marked ``alone`` one of their own.

    Starting one costs more than most tests, so those of a module share one.
    """
    alone = request.node.get_closest_marker("alone")
    found: Application = request.getfixturevalue("own_app" if alone else "lent_app")
    return found


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client that nobody is logged in with."""
    async with http_client(app) as opened:
        yield opened


class User:
    """Somebody who has signed up over the API."""

    def __init__(self, http: httpx.AsyncClient, token: dict[str, Any]) -> None:
        self.http = http
        self.id: str = token["user"]["id"]
        self.email: str = token["user"]["email"]
        self.path = f"/api/user/{self.id}/"
        self.accounts: dict[str, str] = {}

    async def balances(self) -> dict[str, str]:
        """Balance by currency."""
        accounts = (await self.http.get(self.path)).json()["accounts"]
        return {account["currency"]: account["balance"] for account in accounts}

    async def send(
        self, source: str, destination: str, amount: str, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """Ask for a transfer."""
        headers = {"Idempotency-Key": key} if key else {}
        body = {"from": source, "to": destination, "amount": amount, **more}
        return await self.http.post(self.path + "transaction/", json=body, headers=headers)


MakeUser = Callable[[str], Awaitable[User]]


@pytest.fixture
async def make_user(app: Application) -> AsyncIterator[MakeUser]:
    """Signs somebody up: ``await make_user("ann")``."""
    opened: list[httpx.AsyncClient] = []

    async def make(name: str) -> User:
        http = http_client(app)
        opened.append(http)
        answer = await http.post(
            "/api/signup/",
            json={"email": f"{name}@example.com", "name": name.title(), "password": PASSWORD},
        )
        assert answer.status_code == 201, answer.text
        http.headers["authorization"] = f"Bearer {answer.json()['token']}"
        user = User(http, answer.json())
        profile = (await http.get(user.path)).json()
        user.accounts = {entry["currency"]: entry["id"] for entry in profile["accounts"]}
        return user

    yield make
    for http in opened:
        await http.aclose()


@pytest.fixture
async def ann(make_user: MakeUser) -> User:
    """A user with 100 USD."""
    return await make_user("ann")


@pytest.fixture
async def bob(make_user: MakeUser) -> User:
    """Another one."""
    return await make_user("bob")

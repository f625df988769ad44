"""Fixtures of the ingress: a running application, clients, users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from serve_apps.application import AppConfig, Application, build
from tests.serve_apps.inprocess import (
    PASSWORD,
    http_client,
    lifespan,
    make_config,
    weaken_passwords,
)


@pytest.fixture
def config(database_url: str, redis_url: str) -> AppConfig:
    """The settings of the application under test."""
    return make_config(database_url, redis_url)


@pytest.fixture
async def app(config: AppConfig) -> AsyncIterator[Application]:
    """A running application."""
    application = build(config)
    weaken_passwords(application)
    async with lifespan(application):
        yield application


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

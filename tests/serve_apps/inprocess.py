"""The whole ingress in one process: real partitions on a real Postgres, without Ray.

For the tests of API and pages. Passwords are hashed with little work, to be quick.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import argon2
import httpx
import msgspec
from starlette.types import ASGIApp, Message

from actors.accounts import accounts_codec
from actors.books import BooksCodec
from actors.durable.channel import DESCRIBE, ChannelServer
from actors.durable.local import LocalPartitions
from actors.durable.options import Projection
from actors.durable.partition import Partition
from actors.durable.records import Codec
from actors.durable.routing import slot_of
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import FeeRate, Policy
from domain.durable import Machine
from domain.orders import ACCOUNTS, BOOKS
from domain.trading.machine import BooksMachine
from persistence.accounts import AccountsProjection
from persistence.database import Pool, close_pool, open_pool
from persistence.journal import prepare_streams
from persistence.trading.projection import BooksProjection
from serve_apps.application import AppConfig, Application
from serve_apps.gateway.limits import RequestLimits

POLICY = Policy(
    fees={
        "USD": FeeRate(100, 10),
        "EUR": FeeRate(100, 10),
        "CNY": FeeRate(100, 50),
    },
    daily_limits={"USD": 50_000_00, "EUR": 50_000_00, "CNY": 300_000_00},
)
PASSWORD = "correct horse battery"
PLENTY = RequestLimits(
    login_subject="9999/minute",
    sign_up_subject="9999/minute",
    password_reset_subject="9999/minute",
    second_factor_subject="9999/minute",
)
"""Tests share a Redis, and the names of those who sign up."""


_RUNNING: dict[str, LocalPartitions] = {}
"""The accounts' partitions by database, for the books that are to be joined with them."""


class InProcess:
    """Stands in for a kind's client: its only partition, reached without a link.

    It tells of itself over a real channel, as it would inside its actor.
    """

    def __init__(self, pool: Pool, local: LocalPartitions, partition: Partition) -> None:
        self.partition = partition
        self._local = local
        self._pool = pool
        self._server = ChannelServer(self._handle)

    @classmethod
    async def start(
        cls,
        config: AppConfig,
        kind: str,
        machine: Machine[Any],
        codec: Codec[Any, Any],
        projection: Projection,
    ) -> Self:
        """Start the one partition that owns all slots of a kind."""
        pool = await open_pool(config.database_url, name="tests", size_max=4)
        (stream,) = await prepare_streams(pool, kind, 1)
        local = LocalPartitions(pool, kind, machine=machine, codec=codec, projection=projection)
        client = cls(pool, local, await local.start(stream))
        await client.listen(stream)
        return client

    async def listen(self, stream: str) -> None:
        """Take questions from now on."""
        endpoint = await self._server.start("127.0.0.1")
        await self._pool.execute(
            "UPDATE streams SET host = $2, port = $3, token = $4 WHERE stream = $1",
            stream,
            *endpoint,
        )

    def hang(self) -> None:
        """Answer no question any more."""
        self._server.handle = lambda kind, payload: asyncio.get_running_loop().create_future()

    async def _handle(self, kind: int, payload: bytes) -> bytes:
        assert kind == DESCRIBE
        about = {**self.partition.describe(), "pid": os.getpid(), "loads": self.partition.loads()}
        return msgspec.msgpack.encode(about)

    async def call(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Carry out one command."""
        (reply,) = await self.call_many([command], timeout_s=timeout_s)
        return reply

    async def call_many(self, commands: Sequence[Any], *, timeout_s: float = 30.0) -> list[Any]:
        """Carry out many commands."""
        async with asyncio.timeout(timeout_s):
            return await self.partition.request(commands)

    async def close(self) -> None:
        """End the partition."""
        self._server.close()
        await self._local.stop()
        await close_pool(self._pool)


class PartitionAccounts(InProcess):
    """Stands in for ``AccountsClient``."""

    @classmethod
    async def connect(cls, config: AppConfig) -> PartitionAccounts:
        """Start the accounts."""
        machine, projection = AccountsMachine(config.policy), AccountsProjection(slot_of)
        accounts = await cls.start(config, ACCOUNTS, machine, accounts_codec(), projection)
        _RUNNING[config.database_url] = accounts._local
        return accounts


class PartitionBooks(InProcess):
    """Stands in for ``BooksClient``."""

    @classmethod
    async def connect(cls, config: AppConfig) -> PartitionBooks:
        """Start the books, and bring them together with the accounts."""
        books = await cls.start(config, BOOKS, BooksMachine(), BooksCodec(), BooksProjection())
        books._local.joined(_RUNNING[config.database_url])
        return books


def make_config(database_url: str, redis_url: str, **changes: Any) -> AppConfig:
    """Settings for a test."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "secret_key": b"0123456789abcdef0123456789abcdef",
        "policy": POLICY,
        "public_url": "http://kontor.test",
        "request_limits": PLENTY,
        "connect_accounts": PartitionAccounts.connect,
        "connect_books": PartitionBooks.connect,
    }
    return AppConfig(**{**values, **changes})


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start and stop an application as a server would."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.ensure_future(app({"type": "lifespan"}, to_app.get, from_app.put))
    for stage in ("startup", "shutdown"):
        await to_app.put({"type": f"lifespan.{stage}"})
        answer = asyncio.ensure_future(from_app.get())
        await asyncio.wait([answer, task], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():  # it has ended, and will never answer
            answer.cancel()
            await task
            raise RuntimeError(f"no answer to {stage}")
        message = answer.result()
        if message["type"] != f"lifespan.{stage}.complete":
            raise RuntimeError(str(message))
        if stage == "startup":
            try:
                yield
            except BaseException:
                task.cancel()
                raise
    await task


def weaken_passwords(app: Application) -> None:
    """Hash with little work: what is tested is not how long it takes."""
    app.services.passwords._hasher = argon2.PasswordHasher(
        time_cost=1, memory_cost=64, parallelism=1
    )


def http_client(app: ASGIApp, **options: Any) -> httpx.AsyncClient:
    """A client that talks to the application directly."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://kontor.test",
        **options,
    )

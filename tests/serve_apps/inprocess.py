"""The whole ingress in one process: a real partition on a real Postgres, without Ray.

For the tests of API and pages. Passwords are hashed with little work, to be quick.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import argon2
import httpx
import msgspec
from starlette.types import ASGIApp, Message

from actors.accounts import KIND, accounts_codec
from actors.durable.channel import DESCRIBE, ChannelServer
from actors.durable.local import LocalPartitions
from actors.durable.partition import Partition
from actors.durable.routing import slot_of
from domain.accounts.commands import Command, Reply
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import FeeRate, Policy
from persistence.accounts import AccountsProjection
from persistence.database import Pool, open_pool
from persistence.journal import prepare_streams
from serve_apps.application import AppConfig, Application

POLICY = Policy(
    fees={
        "USD": FeeRate(100, 10),
        "EUR": FeeRate(100, 10),
        "CNY": FeeRate(100, 50),
    },
    daily_limits={"USD": 50_000_00, "EUR": 50_000_00, "CNY": 300_000_00},
)
PASSWORD = "correct horse battery"


class PartitionAccounts:
    """Stands in for ``AccountsClient``: the same partition, reached without a link.

    It tells of itself over a real channel, as it would inside its actor.
    """

    def __init__(self, pool: Pool, local: LocalPartitions, partition: Partition) -> None:
        self.partition = partition
        self._local = local
        self._pool = pool
        self._server = ChannelServer(self._handle)

    @classmethod
    async def connect(cls, config: AppConfig) -> PartitionAccounts:
        """Start the one partition that owns all slots."""
        pool = await open_pool(config.database_url, name="tests", size_max=4)
        (stream,) = await prepare_streams(pool, KIND, 1)
        local = LocalPartitions(
            pool,
            KIND,
            machine=AccountsMachine(config.policy),
            codec=accounts_codec(),
            projection=AccountsProjection(slot_of),
        )
        accounts = cls(pool, local, await local.start(stream))
        await accounts.listen(stream)
        return accounts

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

    async def call(self, command: Command, *, timeout_s: float = 10.0) -> Reply:
        """Carry out one command."""
        (reply,) = await self.call_many([command], timeout_s=timeout_s)
        return reply

    async def call_many(
        self, commands: Sequence[Command], *, timeout_s: float = 30.0
    ) -> list[Reply]:
        """Carry out many commands."""
        async with asyncio.timeout(timeout_s):
            return await self.partition.request(commands)

    async def close(self) -> None:
        """End the partition."""
        self._server.close()
        await self._local.stop()
        await self._pool.close()


def make_config(database_url: str, redis_url: str, **changes: Any) -> AppConfig:
    """Settings for a test."""
    values: dict[str, Any] = {
        "database_url": database_url,
        "redis_url": redis_url,
        "secret_key": b"0123456789abcdef0123456789abcdef",
        "policy": POLICY,
        "public_url": "http://kontor.test",
        "connect_accounts": PartitionAccounts.connect,
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
        message = await from_app.get()
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

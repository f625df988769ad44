"""Two partitions in one process over a real Postgres, for tests of what they store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from actors.accounts import KIND, accounts_codec
from actors.durable.local import LocalPartitions
from actors.durable.options import Options
from actors.durable.routing import slot_of
from domain.accounts import commands as cmd
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import FeeRate, Policy
from domain.durable import Unavailable
from persistence.accounts import AccountsProjection
from persistence.database import Pool
from persistence.journal import prepare_streams

START = 1_800_000_000_000_000
POLICY = Policy(fees={"USD": FeeRate(50, 10)}, daily_limits={"USD": 1_000_000})
CURRENCIES = ("USD", "CNY", "EUR")

ReplyType = TypeVar("ReplyType")


class Site:
    """Partitions by stream, a clock that the test moves, and ids in order."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.codec = accounts_codec()
        self.machine = AccountsMachine(POLICY)
        self.now = START
        self.people: tuple[int, ...] = ()
        self.local = LocalPartitions(
            pool,
            KIND,
            machine=self.machine,
            codec=self.codec,
            projection=AccountsProjection(slot_of),
            clock=self._clock,
            options=Options(checkpoint_interval_s=0.2),
        )
        self.partitions = self.local.partitions
        self._ids = 0

    async def restart(self) -> None:
        """End all partitions without notice, and start them again."""
        for stream in list(self.partitions):
            await self.local.kill(stream)
            await self.local.start(stream)

    def _clock(self) -> int:
        self.now += 1
        return self.now

    def owner(self, key: str) -> str:
        """The stream of an entity."""
        return self.local.slots.owner(key)

    # -- asking ---------------------------------------------------------------------------

    def id(self) -> bytes:
        """A new id."""
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    async def ask(self, *commands: Any) -> list[Any]:
        """One batch, at the partition of its first command."""
        return await self.partitions[self.owner(self.machine.key(commands[0]))].request(commands)

    async def call(self, command: Any, kind: type[ReplyType]) -> ReplyType:
        """Ask until there is an answer, which is a ``kind``."""
        while True:
            (reply,) = await self.ask(command)
            if not isinstance(reply, Unavailable):
                assert isinstance(reply, kind), reply
                return reply
            await asyncio.sleep(0.01)

    async def open(self, *customers: int) -> None:
        """Open customers with 1,000 dollars each."""
        for customer in customers:
            command = cmd.OpenCustomer(self.id(), b"o", customer, CURRENCIES, "USD", 100_000)
            await self.call(command, cmd.CustomerView)

    def transfer(
        self, source: int, destination: int, amount: int, currency: str = "USD", **fields: Any
    ) -> cmd.Transfer:
        """A transfer between accounts."""
        return cmd.Transfer(self.id(), b"t", source, destination, amount, currency, **fields)

    def customers(self, stream: str, count: int) -> list[int]:
        """Customers that live in a stream."""
        numbers = range(1_000_000_001, 1_000_100_000)
        return [n for n in numbers if self.owner(str(n)) == stream][:count]


@asynccontextmanager
async def running_site(pool: Pool) -> AsyncIterator[Site]:
    """Two running partitions, stopped in the end."""
    await prepare_streams(pool, KIND, 2)
    site = Site(pool)
    for stream in ("accounts/0", "accounts/1"):
        await site.local.start(stream)
    try:
        yield site
    finally:
        await site.local.stop()

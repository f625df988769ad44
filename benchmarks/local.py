"""One real partition in this process over a real Postgres of its own, without Ray.

For what must be measured alone: recovery, checkpoints, memory. The partition, its rules, its
tables and its journal are those of the platform; only gateways and links to others are missing.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import structlog

from actors.accounts import KIND, accounts_codec
from actors.durable.local import LocalPartitions
from actors.durable.options import Options
from actors.durable.partition import Partition
from actors.durable.routing import slot_of
from cluster.embedded import EmbeddedPostgres
from cluster.processes import instance_of, runtime_folder
from cluster.servers import bring_up_to_date
from domain.accounts.commands import CustomerView, OpenCustomer, Receipt, Transfer
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.accounts.policy import Policy
from persistence.accounts import AccountsProjection
from persistence.database import Pool
from persistence.journal import prepare_streams

STREAM: Final = f"{KIND}/0"
CURRENCIES: Final = ("USD", "CNY", "EUR")
FIRST_CUSTOMER: Final = 2_000_000_001
NEVER_S: Final = 1e9
DEPOSIT: Final = 100_000_000


@contextmanager
def quiet() -> Iterator[None]:
    """Partitions in this process log nothing but errors: stdout is for what was measured."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated Postgres in ``folder`` that writes to disk as in production, then stopped."""
    instance = instance_of(folder)
    sockets = runtime_folder(instance)
    server = EmbeddedPostgres(folder / "pg", sockets, folder / "postgres.log", instance=instance)
    try:
        server.start()
        bring_up_to_date(server.url())
        yield server
    finally:
        server.stop()
        with contextlib.suppress(OSError):
            (sockets / "pg").rmdir()
            sockets.rmdir()


class LocalPartition:
    """The only partition of its database, started and ended as often as a benchmark wants."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.partition: Partition
        self._local: LocalPartitions
        # As the actor does: entities have no cycles.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    async def start(self, options: Options) -> None:
        """Begin a new incarnation and wait until it serves."""
        await prepare_streams(self.pool, KIND, 1)
        self._local = LocalPartitions(
            self.pool,
            KIND,
            machine=AccountsMachine(Policy({}, {})),
            codec=accounts_codec(),
            projection=AccountsProjection(slot_of),
            options=options,
        )
        self.partition = await self._local.start(STREAM)
        if self.partition.state != "running":
            raise RuntimeError(f"the partition is {self.partition.state}: {self.partition.reason}")

    async def stop(self) -> None:
        """End in order, with a last checkpoint."""
        await self._local.stop()

    async def kill(self) -> None:
        """End without notice: what is in memory is lost."""
        await self._local.kill(STREAM)

    async def open(self, first: int, count: int) -> None:
        """Open customers with three accounts each, the first of them funded."""
        commands = [
            OpenCustomer(os.urandom(16), b"bench", number, CURRENCIES, "USD", DEPOSIT)
            for number in range(first, first + count)
        ]
        await self.ask(commands, CustomerView)

    async def ask(self, commands: Sequence[Any], kind: type) -> None:
        """Carry commands out; each must be answered with a ``kind``."""
        for reply in await self.partition.request(commands):
            if not isinstance(reply, kind):
                raise RuntimeError(f"unexpected reply {reply!r}")

    async def pay(self, pairs: Sequence[tuple[int, int]]) -> None:
        """One cent from the first to the second customer of each pair."""
        await self.ask([payment(*pair) for pair in pairs], Receipt)


def payment(source: int, destination: int) -> Transfer:
    """A transfer of one cent between two customers' dollar accounts."""
    accounts = account_number(source, 0), account_number(destination, 0)
    return Transfer(os.urandom(16), b"bench", *accounts, 1, "USD")

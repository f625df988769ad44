"""The faults: each a coroutine that does its damage and returns when the fault itself is over.

What is broken is a real platform's own processes, sessions and placement; nothing is simulated.
Each says in its docstring what it stands for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import psutil

from actors.accounts import KIND
from actors.durable.placement import scale
from cluster.chaos.running import Running
from persistence.database import OUTAGES, DatabaseUnavailable, Pool, connection, open_pool
from persistence.placement import pin, under_way, unpin

Answer = TypeVar("Answer")

PARTITION: Final = "ray::AccountActor"
BOOKS: Final = "ray::OrderBookActor"
PROJECTOR: Final = "ray::ProjectorActor"
GATEWAY: Final = "ray::ServeReplica"
POSTGRES: Final = "postgres"
REDIS: Final = "redis-server"
RAYLET: Final = "raylet"
CONTROL_STORE: Final = "gcs_server"
PROXY: Final = "haproxy"

FREEZE_S: Final = (0.3, 3.0)
RAYLET_FREEZE_S: Final = 2.0
"""Well below the time after which Ray gives a node up: here it is the only one."""
HANG_MAX_S: Final = 45.0
_FIND_S: Final = 30.0
_MOVES_MAX_S: Final = 60.0
_SCALES: Final = (2, 4)


class Subject:
    """The platform that is broken, and what the faults remember of it.

    ``chance`` decides which of several processes is struck, so that a seed gives the same faults.
    ``found`` is told when the first victim of a fault is known, and about to be struck: to look
    through all processes takes this one a while, in which nothing is broken.
    """

    def __init__(self, running: Running, customers: Sequence[int], chance: random.Random) -> None:
        self.running = running
        self.customers = customers
        self.chance = chance
        self.partitions = _SCALES[0]
        self.pinned: str | None = None
        self.found: Callable[[], None] = lambda: None

    async def find(self, mark: str) -> list[psutil.Process]:
        """Processes by their name; what has just been killed is waited for."""
        deadline = time.monotonic() + _FIND_S
        while time.monotonic() < deadline:
            found = await asyncio.to_thread(self.running.children, mark)
            if found:
                self.found()
                return sorted(found, key=lambda process: process.pid)
            await asyncio.sleep(0.2)
        raise LookupError(f"there is no process {mark}")

    async def one(self, mark: str) -> psutil.Process:
        """One of the processes of a name."""
        return self.chance.choice(await self.find(mark))

    async def ask(self, question: Callable[[Pool], Awaitable[Answer]]) -> Answer:
        """Put a question to the database, again if need be: another fault may be striking it."""
        deadline = time.monotonic() + _FIND_S
        while True:
            try:
                pool = await open_pool(self.running.database_url(), name="chaos", size_max=1)
                try:
                    return await question(pool)
                finally:
                    await pool.close()
            except (*OUTAGES, DatabaseUnavailable):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


Fault = Callable[[Subject], Awaitable[None]]


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


async def nothing(subject: Subject) -> None:
    """Nothing is broken: what is waited for then is what the others are held against."""


async def kill_partition(subject: Subject) -> None:
    """kill -9 of an account actor."""
    _signal(await subject.one(PARTITION), signal.SIGKILL)


async def kill_books(subject: Subject) -> None:
    """kill -9 of an order books' actor."""
    _signal(await subject.one(BOOKS), signal.SIGKILL)


async def kill_both(subject: Subject) -> None:
    """kill -9 of an order books' actor and an account actor at once."""
    await kill_books(subject)
    await kill_partition(subject)


async def freeze_books(subject: Subject) -> None:
    """An order books' actor stands still for up to three seconds, then goes on."""
    await _freeze(await subject.one(BOOKS), subject.chance.uniform(*FREEZE_S))


async def kill_projector(subject: Subject) -> None:
    """kill -9 of what brings trades and orders from the journal to the tables."""
    _signal(await subject.one(PROJECTOR), signal.SIGKILL)


async def kill_gateway(subject: Subject) -> None:
    """kill -9 of a replica of the API."""
    _signal(await subject.one(GATEWAY), signal.SIGKILL)


async def kill_proxy(subject: Subject) -> None:
    """kill -9 of the proxy in front of the gateways, with its children."""
    for process in await subject.find(PROXY):
        _signal(process, signal.SIGKILL)


async def _freeze(process: psutil.Process, seconds: float) -> None:
    _signal(process, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        _signal(process, signal.SIGCONT)


async def freeze_partition(subject: Subject) -> None:
    """An account actor stands still for up to three seconds, then goes on: a long pause."""
    await _freeze(await subject.one(PARTITION), subject.chance.uniform(*FREEZE_S))


async def hang_partition(subject: Subject) -> None:
    """An account actor stands still until the platform has noticed and replaced it."""
    process = await subject.one(PARTITION)
    _signal(process, signal.SIGSTOP)
    deadline = time.monotonic() + HANG_MAX_S
    try:
        while time.monotonic() < deadline:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return
            await asyncio.sleep(0.05)
    except psutil.NoSuchProcess:
        return
    finally:
        _signal(process, signal.SIGCONT)
    raise TimeoutError(f"a hung partition was not replaced within {HANG_MAX_S:.0f} s")


async def freeze_raylet(subject: Subject) -> None:
    """Ray's node process stands still for two seconds."""
    await _freeze(await subject.one(RAYLET), RAYLET_FREEZE_S)


async def kill_control_store(subject: Subject) -> None:
    """kill -9 of Ray's control store, which knows what runs where."""
    _signal(await subject.one(CONTROL_STORE), signal.SIGKILL)


async def kill_postgres(subject: Subject) -> None:
    """kill -9 of all processes of the database."""
    for process in await subject.find(POSTGRES):
        _signal(process, signal.SIGKILL)


async def stop_postgres_at_once(subject: Subject) -> None:
    """The database's own emergency stop: sessions are cut off, recovery follows."""
    _signal(await _postmaster(subject), signal.SIGQUIT)


async def restart_postgres(subject: Subject) -> None:
    """The database is stopped as for maintenance, and started again."""
    _signal(await _postmaster(subject), signal.SIGINT)


async def _postmaster(subject: Subject) -> psutil.Process:
    """The server process: its parent is not of its own kind."""
    found = {process.pid: process for process in await subject.find(POSTGRES)}
    return next(process for process in found.values() if process.ppid() not in found)


async def cut_connections(subject: Subject) -> None:
    """Every session with the database is ended by the server."""
    async with connection(subject.running.database_url(), name="chaos") as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )


async def kill_redis(subject: Subject) -> None:
    """kill -9 of Redis, which keeps nothing."""
    for process in await subject.find(REDIS):
        _signal(process, signal.SIGKILL)


async def scale_partitions(subject: Subject) -> None:
    """From two partitions to four, or back, while they work; over when all slots have moved."""
    wanted = _SCALES[1] if subject.partitions == _SCALES[0] else _SCALES[0]
    await subject.ask(lambda pool: scale(pool, KIND, wanted))
    subject.partitions = wanted
    await moves_end(subject)


async def pin_customer(subject: Subject) -> None:
    """A customer gets a partition alone, or goes back to the others; over when it has moved."""
    pinned = subject.pinned
    if pinned is None:
        customer = str(subject.chance.choice(subject.customers))
        await subject.ask(lambda pool: pin(pool, KIND, customer))
        subject.pinned = customer
    else:
        # Asked again after a lost answer, it is not pinned any more.
        with contextlib.suppress(LookupError):
            await subject.ask(lambda pool: unpin(pool, KIND, pinned))
        subject.pinned = None
    await moves_end(subject)


async def moves_end(subject: Subject) -> None:
    """Wait until every slot is where it is to be."""
    deadline = time.monotonic() + _MOVES_MAX_S
    while moving := await subject.ask(lambda pool: under_way(pool, KIND)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{moving} slots have not moved within {_MOVES_MAX_S:.0f} s")
        await asyncio.sleep(0.2)


async def kill_platform(subject: Subject) -> None:
    """kill -9 of every process at once, as when the machine fails; then it is started again."""
    await asyncio.to_thread(subject.running.kill)
    await asyncio.to_thread(subject.running.start)


FAULTS: Final[Mapping[str, Fault]] = {
    "nothing": nothing,
    "partition killed": kill_partition,
    "partition frozen": freeze_partition,
    "partition hangs": hang_partition,
    "books killed": kill_books,
    "books frozen": freeze_books,
    "books and partition killed": kill_both,
    "projector killed": kill_projector,
    "gateway killed": kill_gateway,
    "proxy killed": kill_proxy,
    "postgres killed": kill_postgres,
    "postgres stopped at once": stop_postgres_at_once,
    "postgres restarted": restart_postgres,
    "connections cut": cut_connections,
    "redis killed": kill_redis,
    "raylet frozen": freeze_raylet,
    "control store killed": kill_control_store,
    "scaled": scale_partitions,
    "customer pinned": pin_customer,
    "platform killed": kill_platform,
}
"""All kinds of faults, by the name under which they are reported."""

"""Notifications to many open pages: memory for each, time from commit to page, and what is lost.

Every client is a person of its own with one live connection, in a process apart. Something is
told to all of them at once, then to one after the other; then a replica is killed while all are
being told, and they come back with the last number they saw. Times are from the moment at which
the commit has returned, on the clock of one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import psutil
import uvloop

from actors.notifications.announcing import Announcer
from benchmarks.frames import Closed, Session, frame
from benchmarks.population import Population
from domain.notifications import Kind
from persistence.database import Connection as Database
from persistence.database import Pool, open_pool
from persistence.notifications import Notice, notify_many

PATH: Final = "/socket.io/?EIO=4&transport=websocket"
_CONNECTING: Final = 25
_AGAIN_S: Final = 0.2
_EVENT: Final = b'42["notifications",'


class Options(msgspec.Struct, frozen=True):
    """``rounds`` tell everybody, ``singles`` one person each; ``kill`` ends a replica then.

    What has not come after ``patience_s`` counts as lost.
    """

    clients: int = 2_000
    rounds: int = 10
    singles: int = 300
    singles_per_second: int = 50
    kill: bool = True
    settle_s: float = 2.0
    patience_s: float = 60.0


class _Item(msgspec.Struct):
    seq: int
    values: dict[str, str]


class _Told(msgspec.Struct):
    items: list[_Item]


_decode: Final = msgspec.json.Decoder(tuple[str, _Told]).decode


class _Heard:
    """What all clients have been told: when, by the mark of what it was, and what was wrong."""

    def __init__(self) -> None:
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.total = self.connected = self.repeated = self.missing = self.breaks = 0

    async def reach(self, total: int, patience_s: float) -> None:
        """Wait until so much was heard."""
        await _until(lambda: self.total >= total, patience_s)


class _Client:
    """One page: it comes back after a break with the last number that it saw."""

    def __init__(self, token: str, heard: _Heard) -> None:
        self.last = 0
        self._token = token
        self._heard = heard
        self._session: Session | None = None
        self._greeted = False
        self._joined = False

    async def stay(self, host: tuple[str, int], opened: asyncio.Event) -> None:
        """Be connected, until cancelled."""
        while True:
            try:
                self._session, self._greeted = None, False
                self._session = await Session.connect(*host, PATH, self._received)
                self._log_in()
                opened.set()
                await self._session.closed
                self._heard.connected -= self._joined
                self._heard.breaks += self._joined
                self._joined = False
            except (OSError, TimeoutError, Closed):
                opened.set()
            await asyncio.sleep(_AGAIN_S * (1 + random.random()))

    def _received(self, message: bytes) -> None:
        if message.startswith(_EVENT):
            now = time.time()
            for item in _decode(message[2:])[1].items:
                self._heard.repeated += item.seq <= self.last
                self._heard.missing += item.seq > self.last + 1
                self.last = max(self.last, item.seq)
                self._heard.times[item.values["name"]].append(now)
                self._heard.total += 1
        elif message.startswith(b"40"):
            self._heard.connected += 1
            self._joined = True
        elif message.startswith(b"44") and self._session is not None:
            self._session.close()  # refused: ask again
        elif message == b"2":
            self._say(b"3")
        elif message.startswith(b"0"):
            self._greeted = True
            self._log_in()

    def _log_in(self) -> None:
        """Once the server has said something and the session is there, whichever comes last."""
        if self._greeted and self._session is not None:
            self._greeted = False
            auth = {"token": self._token, "since": self.last}
            self._say(b"40" + msgspec.json.encode(auth))

    def _say(self, message: bytes) -> None:
        with contextlib.suppress(Closed):
            if self._session is not None:
                self._session.send(frame(message))


async def _stay(
    host: tuple[str, int], tokens: Sequence[str], parent: Connection, patience_s: float
) -> None:
    heard = _Heard()
    staying = []
    for start in range(0, len(tokens), _CONNECTING):
        opened = []
        for token in tokens[start : start + _CONNECTING]:
            opened.append(asyncio.Event())
            staying.append(asyncio.create_task(_Client(token, heard).stay(host, opened[-1])))
        await asyncio.gather(*(event.wait() for event in opened))
    await _until(lambda: heard.connected == len(tokens), patience_s)
    parent.send(heard.connected)
    while (expected := await asyncio.to_thread(parent.recv)) is not None:
        await heard.reach(expected, patience_s)
        parent.send(heard.total)
    for task in staying:
        task.cancel()
    parent.send((dict(heard.times), heard.repeated, heard.missing, heard.breaks, heard.connected))


async def _until(true: Callable[[], bool], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not true() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def _clients(
    host: tuple[str, int], tokens: Sequence[str], parent: Connection, patience_s: float
) -> None:
    uvloop.run(_stay(host, tokens, parent, patience_s))


class _Bench:
    """Tells people things, and knows when each had been committed."""

    def __init__(
        self, pool: Pool, announcer: Announcer, users: Sequence[int], clients: Connection
    ) -> None:
        self.told = 0
        self.committed: dict[str, float] = {}
        self._pool = pool
        self._announcer = announcer
        self._users = users
        self._clients = clients

    async def tell(self, mark: str, users: Sequence[int] | None = None) -> None:
        """Tell these people, or all, one thing, as the notifier does."""
        users = self._users if users is None else users
        notices = [Notice(user, Kind.WELCOME, {"name": mark}, mark) for user in users]
        async with self._pool.acquire() as proxy, proxy.transaction():
            told = await notify_many(cast(Database, proxy), notices)
        self.committed[mark] = time.time()
        self.told += len(told)
        await self._announcer.announce(told.keys())

    async def all_heard(self) -> int:
        """Wait until clients have heard all there is; how much they have heard."""
        self._clients.send(self.told)
        total: int = await asyncio.to_thread(self._clients.recv)
        return total

    async def tell_all_and_some(self, options: Options) -> None:
        """Everybody at once, again and again; then one person after the other."""
        for number in range(options.rounds):
            await self.tell(f"all {number}")
            await self.all_heard()
        for number in range(options.singles):
            begun = time.monotonic()
            await self.tell(f"one {number}", [random.choice(self._users)])
            took = time.monotonic() - begun
            await asyncio.sleep(max(0.0, 1 / options.singles_per_second - took))
        await self.all_heard()

    async def kill(
        self, replicas: Callable[[], Sequence[psutil.Process]], progress: Callable[[str], None]
    ) -> dict[str, Any]:
        """Kill a replica between what everybody is told; how long until all have heard all."""
        progress("a replica is killed")
        for number in range(2):
            await self.tell(f"killed {number}")
        victim = replicas()[0]
        victim.kill()
        began = time.monotonic()
        for number in range(2, 6):
            await self.tell(f"killed {number}")
            await asyncio.sleep(0.3)
        await self.all_heard()
        return {"seconds_until_all_heard": round(time.monotonic() - began, 2)}

    def latencies(self, times: dict[str, list[float]], kind: str) -> dict[str, Any]:
        """From commit to page, in milliseconds, of what was told in this way."""
        found = sorted(
            max(0.0, at - self.committed[mark]) * 1_000
            for mark, heard in times.items()
            if mark.startswith(kind)
            for at in heard
        )
        if len(found) < 2:
            return {"heard": len(found)}
        cuts = statistics.quantiles(found, n=100, method="inclusive")
        return {
            "heard": len(found),
            "p50_ms": round(cuts[49], 1),
            "p99_ms": round(cuts[98], 1),
            "max_ms": round(found[-1], 1),
        }


def memory_of(processes: Sequence[psutil.Process]) -> int:
    """Bytes that these processes have to themselves."""
    return sum(process.memory_full_info().uss for process in processes)


Measured = dict[str, Any]


async def measure(
    pool: Pool,
    redis_url: str,
    url: str,
    people: Population,
    replicas: Callable[[], Sequence[psutil.Process]],
    options: Options,
    progress: Callable[[str], None],
) -> Measured:
    """Connect, tell, break, and count."""
    parts = urlsplit(url)
    before = memory_of(replicas())
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    host = (parts.hostname or "localhost", parts.port or 80)
    arguments = (host, people.tokens, theirs, options.patience_s)
    process = spawn.Process(target=_clients, args=arguments, daemon=True)
    process.start()
    theirs.close()
    announcer = Announcer(redis_url)
    bench = _Bench(pool, announcer, people.numbers, ours)
    try:
        started = time.monotonic()
        connected = await asyncio.to_thread(ours.recv)
        connecting = time.monotonic() - started
        progress(f"{connected} clients are connected")
        await asyncio.sleep(options.settle_s)
        idle = memory_of(replicas())
        await bench.tell_all_and_some(options)
        busy = memory_of(replicas())
        killed = await bench.kill(replicas, progress) if options.kill else {}
        total = await bench.all_heard()
        ours.send(None)
        times, repeated, gaps, breaks, still = await asyncio.to_thread(ours.recv)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join)
        await announcer.close()
    kibi = 1_024 * options.clients
    if options.kill:
        killed |= {**bench.latencies(times, "killed"), "breaks": breaks, "connected": still}
    return {
        "clients": connected,
        "replicas": len(replicas()),
        "connecting_s": round(connecting, 1),
        "kib_per_client": round((idle - before) / kibi, 1),
        "kib_per_client_after_rounds": round((busy - before) / kibi, 1),
        "everybody": bench.latencies(times, "all"),
        "one": bench.latencies(times, "one"),
        "killed": killed,
        "told": bench.told,
        "heard": total,
        "lost": bench.told - total + repeated,
        "repeated": repeated,
        "gaps": gaps,
    }


def run(
    database_url: str,
    redis_url: str,
    url: str,
    replicas: Callable[[], Sequence[psutil.Process]],
    options: Options,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """All of it, on a running platform."""

    async def go() -> dict[str, Any]:
        pool = await open_pool(database_url, name="bench", size_max=4)
        try:
            people = Population(options.clients)
            await people.log_in(pool)
            measured = await measure(pool, redis_url, url, people, replicas, options, progress)
        finally:
            await pool.close()
        return {
            "options": msgspec.to_builtins(options),
            "processors": os.cpu_count(),
            "results": measured,
        }

    return uvloop.run(go())

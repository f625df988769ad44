"""Journals that earlier releases have written, read and continued by the present code."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from actors.durable.routing import slot_of
from cluster.books import check
from cluster.embedded import EmbeddedPostgres
from domain.orders import ACCOUNTS
from persistence.database import Pool, connection, open_pool
from persistence.migrate import migrate
from tests.golden.recording import Recording, differences, digest, plain, recordings, shaped
from tests.golden.site import GoldenSite, balances

SHOWN = 10
TIMES = frozenset({"at", "now", "placed_at", "updated_at"})


@pytest.fixture(params=recordings(), ids=lambda recording: recording.folder.name)
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each recording in turn."""
    found: Recording = request.param
    return found


def load(postgres: EmbeddedPostgres, name: str, sql: str) -> None:
    """Fill an empty database."""
    command = [
        str(postgres.binaries / "psql"),
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        postgres.url(name),
    ]
    done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def pool(recording: Recording, postgres: EmbeddedPostgres) -> AsyncIterator[Pool]:
    """The recorded database, brought up to the present schema."""
    name = f"golden_{uuid.uuid4().hex}"
    async with connection(postgres.url("postgres"), name="tests") as conn:
        await conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await asyncio.to_thread(load, postgres, name, recording.database)
    async with connection(postgres.url(name), name="tests") as conn:
        await migrate(conn)
    pool: Pool = await open_pool(postgres.url(name), name="tests")
    yield pool
    await pool.close()
    async with connection(postgres.url("postgres"), name="tests") as conn:
        await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def running(pool: Pool, recording: Recording, *, closed: bool) -> AsyncIterator[GoldenSite]:
    """The recorded partitions, with or without a way between them, killed in the end."""
    site = GoldenSite(pool)
    streams = recording.manifest["streams"]
    if closed:
        site.closed.update(streams)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(site.crash)
        await site.start(*streams)
        if closed:
            site.no_more_checkpoints()
        yield site


def same(recorded: Any, now: Any) -> None:
    """Fail with the first differences."""
    found = list(differences(recorded, now))
    assert found[:SHOWN] == []


def timeless(value: Any) -> Any:
    """A plain value without the times at which something was done."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in TIMES}
    return [timeless(part) for part in value] if isinstance(value, list) else value


async def test_rows_read_as_they_were_written(pool: Pool, recording: Recording) -> None:
    """Also what leaves no trace in a state: references, rates, what was answered."""
    site = GoldenSite(pool)
    same(recording.expected["journal"], await site.journal())


async def test_customers_keep_their_slots(pool: Pool) -> None:
    """But for those that have a slot to themselves."""
    rows = await pool.fetch("SELECT key, slot FROM snapshots WHERE slot < 4096")
    assert rows
    assert [row["slot"] for row in rows] == [slot_of(row["key"]) for row in rows]


async def test_the_books_are_right(pool: Pool, recording: Recording) -> None:
    report = await check(pool)
    assert report.findings == []
    assert report.sums == recording.manifest["sums"]
    assert report.in_transit == recording.manifest["in transit"]


@pytest.mark.parametrize("whole", [False, True], ids=["from the checkpoint", "from the first row"])
async def test_recovery_comes_to_the_same_state(
    pool: Pool, recording: Recording, whole: bool
) -> None:
    """What moved between streams is in snapshots: there, only ``check`` starts at the first row."""
    if whole and not recording.manifest.get("moves"):
        await pool.execute("DELETE FROM checkpoints")
        await pool.execute("DELETE FROM snapshots")
    async with running(pool, recording, closed=True) as site:
        await site.moved()
        states = await site.states(recording.manifest.get("adopting", ()))
    same(recording.expected["stopped"], states)
    assert balances(states) == recording.manifest["balances"]
    for stream, about in recording.manifest["streams"].items():
        state = shaped(recording.expected["stopped"][stream], states[stream])
        assert digest(state) == about["state, SHA-256"]


async def test_it_goes_on_from_there(pool: Pool, recording: Recording) -> None:
    """What was on its way arrives, and every command asked again has the answer of that time."""
    async with running(pool, recording, closed=False) as site:
        await site.quiet()
        settled = await site.states()
        assert balances(settled) == recording.manifest["balances when settled"]
        for stream, state in recording.expected["settled"].items():
            same(timeless(state["entities"]), timeless(settled[stream]["entities"]))
        for asked in recording.expected["asked"]:
            kind = asked.get("kind", ACCOUNTS)
            local = site.kind(kind)
            (command,) = local._codec.decode_commands(b"\x91" + bytes.fromhex(asked["command"]))
            same(asked["command_reads"], plain(command))
            if not local._machine.identities(command):
                continue
            reply = await site.put(kind, command)
            wire = b"\x91" + bytes.fromhex(asked["reply"])
            (recorded,) = local._codec.decode_replies(wire)
            same(asked["reply_reads"], plain(recorded))
            if asked["answered after the stop"]:
                assert timeless(plain(reply)) == timeless(plain(recorded))
            else:
                assert reply == recorded
        same(settled, await site.states())
        await site.stop()
    report = await check(pool)
    assert report.findings == []
    assert not any(report.in_transit.values())

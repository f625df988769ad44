"""The journal against a real Postgres: one statement a turn, under the fence, in a chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from persistence import journal as journal_module
from persistence.database import Pool, connection
from persistence.journal import (
    GENESIS,
    SLOTS,
    Checkpoint,
    Corrupt,
    Fenced,
    Journal,
    JournalRow,
    Statement,
    check_link,
    endpoint_of,
    prepare_streams,
    row_hash,
    slot_map,
    streams,
    to_datetime,
    to_microseconds,
)

STREAM = "accounts/0"
AT = 1_800_000_000_123_456
MARK = "INSERT INTO marks (mark) SELECT $1 FROM fence"
FENCE = "AND epoch = $3 FOR SHARE"


@pytest.fixture
async def owner(pool: Pool) -> AsyncIterator[Journal]:
    """The journal of a stream, taken over; ``marks`` is a table that a turn may write to."""
    await prepare_streams(pool, "accounts", 2)
    await pool.execute("CREATE TABLE marks (mark text PRIMARY KEY)")
    journal = Journal(pool, "accounts", STREAM)
    await journal.take_over()
    yield journal
    await pool.execute("DROP TABLE marks")  # so that the database is as it was


def next_row(
    journal: Journal, after: JournalRow | None = None, entries: bytes = b"x"
) -> JournalRow:
    """A row that follows another."""
    seq = 1 if after is None else after.seq + 1
    previous = GENESIS if after is None else after.hash
    digest = row_hash(previous, journal.stream, seq, journal.epoch, AT + seq, entries)
    return JournalRow(journal.stream, seq, journal.epoch, AT + seq, entries, previous, digest)


async def write(journal: Journal, count: int, after: JournalRow | None = None) -> list[JournalRow]:
    rows: list[JournalRow] = []
    for number in range(count):
        after = next_row(journal, after, f"entry {number}".encode())
        await journal.commit(after, [])
        rows.append(after)
    return rows


async def tail(
    journal: Journal, after: Checkpoint | None = None, chunk: int = 3
) -> list[JournalRow]:
    start = after or Checkpoint(0, GENESIS, b"")
    return [row async for rows in journal.tail(start, chunk) for row in rows]


async def marks(pool: Pool) -> set[str]:
    return {row["mark"] for row in await pool.fetch("SELECT mark FROM marks")}


def mark(text: str) -> Statement:
    return Statement(MARK, (text,))


# -- turns --------------------------------------------------------------------------------


async def test_turns_are_read_back_as_they_were_written(owner: Journal) -> None:
    rows = await write(owner, 10)
    for chunk in (1, 3, 10, 11, 1_000):
        assert await tail(owner, chunk=chunk) == rows
    assert await tail(owner, Checkpoint(4, rows[3].hash, b"")) == rows[4:]
    assert await tail(Journal(owner.pool, "accounts", "accounts/1")) == []


async def test_a_turn_and_its_projections_are_written_together(owner: Journal, pool: Pool) -> None:
    first = next_row(owner)
    twice = Statement(
        "INSERT INTO marks (mark) SELECT m FROM fence, unnest($2::text[], $1::int[]) AS u (m, n)",
        ([1, 2], ["b", "c"]),
    )
    await owner.commit(first, [mark("a"), twice, mark("d")])
    assert await marks(pool) == {"a", "b", "c", "d"}
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.commit(next_row(owner, first), [mark("e"), mark("a")])
    assert await marks(pool) == {"a", "b", "c", "d"}
    assert await tail(owner) == [first]


async def test_a_place_in_the_stream_is_taken_once(owner: Journal, pool: Pool) -> None:
    row = next_row(owner)
    await owner.commit(row, [])
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.commit(row, [mark("again")])
    assert await marks(pool) == set()


def test_times_survive_to_the_microsecond() -> None:
    for at in (0, 1, AT, AT + 999_999):
        assert to_microseconds(to_datetime(at)) == at


# -- the fence ----------------------------------------------------------------------------


async def stale_owner_is_fenced(owner: Journal, pool: Pool) -> None:
    first = next_row(owner)
    await owner.commit(first, [])
    newer = Journal(pool, "accounts", STREAM)
    assert await newer.take_over() == owner.epoch + 1
    with pytest.raises(Fenced):
        await owner.commit(next_row(owner, first), [mark("stale")])
    assert await marks(pool) == set()
    with pytest.raises(Fenced):
        await owner.save(Checkpoint(1, first.hash, b"stale"), [("1", 1, b"stale")])
    assert await newer.checkpoint() == Checkpoint(0, GENESIS, b"")
    assert await newer.snapshots(["1"]) == {}
    await newer.commit(next_row(newer, first), [mark("newer")])
    assert [row.epoch for row in await tail(newer)] == [owner.epoch, newer.epoch]
    assert await marks(pool) == {"newer"}


async def test_a_stale_owner_is_fenced(owner: Journal, pool: Pool) -> None:
    await stale_owner_is_fenced(owner, pool)


async def test_without_the_epoch_a_stale_owner_would_write(
    owner: Journal, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code broken on purpose: the test above must fail."""
    assert journal_module._HEAD.count(FENCE) == 1
    broken = journal_module._HEAD.replace(FENCE, "AND $3 > 0 FOR SHARE")
    monkeypatch.setattr(journal_module, "_HEAD", broken)
    monkeypatch.setattr(journal_module, "_composed", {})
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        await stale_owner_is_fenced(owner, pool)


async def test_a_take_over_waits_for_a_commit_under_way(owner: Journal, pool: Pool) -> None:
    slow = Statement("INSERT INTO marks (mark) SELECT pg_sleep(0.5)::text FROM fence", ())
    row = next_row(owner)
    started = time.monotonic()
    committing = asyncio.create_task(owner.commit(row, [slow]))
    await _until_locked(pool)
    newer = Journal(pool, "accounts", STREAM)
    await newer.take_over()
    assert time.monotonic() - started >= 0.5
    assert await tail(newer) == [row]
    await committing


async def test_a_commit_that_waits_for_a_take_over_is_fenced(
    owner: Journal, pool: Pool, database_url: str
) -> None:
    async with connection(database_url, name="tests") as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE streams SET epoch = epoch + 1 WHERE stream = $1", STREAM)
        committing = asyncio.create_task(owner.commit(next_row(owner), [mark("late")]))
        await asyncio.sleep(0.1)
        assert not committing.done()
        await transaction.commit()
        with pytest.raises(Fenced):
            await committing
    assert await tail(owner) == []
    assert await marks(pool) == set()


async def _until_locked(pool: Pool) -> None:
    for _ in range(100):
        running = await pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        )
        if running:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the commit did not start")


async def test_of_many_who_take_over_the_last_one_writes(owner: Journal, pool: Pool) -> None:
    rivals = [Journal(pool, "accounts", STREAM) for _ in range(20)]
    epochs = await asyncio.gather(*(rival.take_over() for rival in rivals))
    assert sorted(epochs) == list(range(owner.epoch + 1, owner.epoch + 21))
    outcomes = await asyncio.gather(
        *(rival.commit(next_row(rival), [mark(str(rival.epoch))]) for rival in rivals),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Fenced) for outcome in outcomes) == 19
    assert await marks(pool) == {str(max(epochs))}


async def test_streams_do_not_fence_each_other(owner: Journal, pool: Pool) -> None:
    other = Journal(pool, "accounts", "accounts/1")
    await other.take_over()
    await asyncio.gather(write(owner, 3), write(other, 3))
    assert len(await tail(owner)) == len(await tail(other)) == 3


async def test_an_unknown_stream_cannot_be_taken(pool: Pool) -> None:
    with pytest.raises(Corrupt, match="There is no stream nowhere"):
        await Journal(pool, "accounts", "nowhere").take_over()


async def test_callers_learn_where_the_owner_is(owner: Journal, pool: Pool) -> None:
    assert await endpoint_of(pool, STREAM) is None
    await owner.take_over(("host", 1234, b"token"))
    assert await endpoint_of(pool, STREAM) == ("host", 1234, b"token")
    await owner.take_over()
    assert await endpoint_of(pool, STREAM) is None
    assert await endpoint_of(pool, "nowhere") is None


# -- checkpoints --------------------------------------------------------------------------


async def test_checkpoints_and_snapshots_replace_each_other(owner: Journal) -> None:
    assert await owner.checkpoint() == Checkpoint(0, GENESIS, b"")
    first = Checkpoint(3, bytes(range(32)), b"first")
    await owner.save(first, [("1", 10, b"one"), ("2", 20, b"two")])
    assert await owner.checkpoint() == first
    second = Checkpoint(5, bytes(32), b"second")
    await owner.save(second, [("2", 20, b"two more"), ("3", 30, b"")])
    assert await owner.checkpoint() == second
    found = await owner.snapshots(["1", "2", "3", "4"])
    assert found == {"1": b"one", "2": b"two more", "3": b""}


async def test_a_large_checkpoint_is_stored_whole(owner: Journal, pool: Pool) -> None:
    other = Journal(pool, "books", "books/0")
    await prepare_streams(pool, "books", 1)
    await other.take_over()
    await other.save(Checkpoint(1, bytes(32), b""), [("8", 8, b"a book")])
    keys = [str(number) for number in range(10_000)]
    first = {key: b"first " + key.encode() for key in keys[::2]}
    await owner.save(Checkpoint(1, bytes(32), b""), [(k, 1, s) for k, s in first.items()])
    assert await owner.snapshots(keys) == first
    second = {key: b"second " + key.encode() for key in keys[5_000:]}
    await owner.save(Checkpoint(2, bytes(32), b""), [(k, 2, s) for k, s in second.items()])
    assert await owner.snapshots(keys) == first | second
    slots = await pool.fetch("SELECT key, slot FROM snapshots WHERE kind = 'accounts'")
    assert {row["key"] for row in slots if row["slot"] == 2} == set(second)
    assert await other.snapshots(keys) == {"8": b"a book"}


@pytest.mark.parametrize("byte", range(5))
async def test_a_damaged_checkpoint_is_found(owner: Journal, pool: Pool, byte: int) -> None:
    await owner.save(Checkpoint(3, bytes(32), b"state"), [("7", 1, b"state")])
    change = f"state = set_byte(state, {byte}, get_byte(state, {byte}) # 1)"
    await pool.execute(f"UPDATE checkpoints SET {change}")
    await pool.execute(f"UPDATE snapshots SET {change}")
    with pytest.raises(Corrupt, match="checkpoint of accounts/0 at 3 is damaged"):
        await owner.checkpoint()
    with pytest.raises(Corrupt, match="snapshot of accounts 7 is damaged"):
        await owner.snapshots(["7"])


# -- the chain ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("entries = set_byte(entries, 0, get_byte(entries, 0) # 1)", "4 is not what was written"),
        ("entries = entries || '\\x00'", "4 is not what was written"),
        ("entries = ''", "4 is not what was written"),
        ("at = at + interval '1 microsecond'", "4 is not what was written"),
        ("epoch = epoch + 1", "4 is not what was written"),
        ("hash = set_byte(hash, 31, get_byte(hash, 31) # 1)", "4 is not what was written"),
        ("previous_hash = hash", "4 does not follow the row before it"),
        ("stream = 'accounts/1'", "4 is missing"),
        ("seq = 99", "4 is missing"),
    ],
)
async def test_a_changed_row_is_named(
    owner: Journal, pool: Pool, change: str, message: str
) -> None:
    await write(owner, 6)
    await pool.execute(f"UPDATE journal SET {change} WHERE seq = 4")
    with pytest.raises(Corrupt, match=f"Journal row accounts/0 {message}"):
        await tail(owner)


async def test_a_row_that_was_rewritten_with_its_hash_breaks_the_next(
    owner: Journal, pool: Pool
) -> None:
    rows = await write(owner, 6)
    forged = next_row(owner, rows[2], b"forged")
    await pool.execute(
        "UPDATE journal SET entries = $1, hash = $2 WHERE seq = 4", forged.entries, forged.hash
    )
    with pytest.raises(Corrupt, match="accounts/0 5 does not follow"):
        await tail(owner)


async def test_a_removed_row_is_missed(owner: Journal, pool: Pool) -> None:
    await write(owner, 6)
    await pool.execute("DELETE FROM journal WHERE seq = 4")
    with pytest.raises(Corrupt, match="accounts/0 4 is missing"):
        await tail(owner)


def test_every_changed_bit_is_found() -> None:
    entries = bytes(range(64))
    digest = row_hash(GENESIS, STREAM, 1, 1, AT, entries)
    row = JournalRow(STREAM, 1, 1, AT, entries, GENESIS, digest)
    check_link(row, 1, GENESIS)
    for name in ("entries", "hash", "previous_hash"):
        value: bytes = getattr(row, name)
        for bit in range(len(value) * 8):
            changed = bytearray(value)
            changed[bit // 8] ^= 1 << bit % 8
            parts: dict[str, Any] = {**_fields(row), name: bytes(changed)}
            with pytest.raises(Corrupt):
                check_link(JournalRow(**parts), 1, GENESIS)


def _fields(row: JournalRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}


# -- streams and slots --------------------------------------------------------------------


async def test_slots_are_given_out_once_and_in_ranges(pool: Pool) -> None:
    made = await asyncio.gather(*(prepare_streams(pool, "accounts", n) for n in (3, 3, 3, 3)))
    assert made == [["accounts/0", "accounts/1", "accounts/2"]] * 4
    assert await prepare_streams(pool, "accounts", 7) == made[0]
    owners = await slot_map(pool, "accounts")
    assert len(owners) == SLOTS
    assert owners == sorted(owners)
    assert {owners.count(stream) for stream in made[0]} <= {1365, 1366}
    slots = [await Journal(pool, "accounts", stream).slots() for stream in made[0]]
    assert sorted(slot for some in slots for slot in some) == list(range(SLOTS))


async def test_kinds_have_streams_of_their_own(pool: Pool) -> None:
    assert await slot_map(pool, "books") == []
    await prepare_streams(pool, "accounts", 11)
    await prepare_streams(pool, "books", 1)
    assert (await slot_map(pool, "books")) == ["books/0"] * SLOTS
    names = [stream for _, stream, _ in await streams(pool)]
    assert names == [*(f"accounts/{n}" for n in range(11)), "books/0"]

"""The audit log: one chain whoever writes, nothing ever changed, and every change found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

import asyncpg
import pytest

from persistence import audit
from persistence.audit import Actor, Filter
from persistence.database import Connection, Pool

ANN = Actor(1_000_000_001, "ann@example.com", "page", "192.0.2.7", 5, "req-1")
ROOT = Actor(None, "root on the command line", "console")


async def write(pool: Pool, count: int) -> None:
    for number in range(count):
        actor = ROOT if number % 2 else ANN
        await audit.record(
            pool,
            actor.did("accounts.freeze", f"account:{number}", {"status": "open"}, {"n": number}),
        )


async def tamper(pool: Pool, sql: str, *arguments: object) -> None:
    """Change what must not be changed, as somebody who owns the database can."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        await connection.execute(sql, *arguments)


async def test_entries_are_chained_and_told_newest_first(pool: Pool) -> None:
    assert await audit.verify(pool) == audit.Verdict(0, audit.GENESIS.hex())
    await write(pool, 3)
    rows = await audit.search(pool, Filter())
    assert [row.seq for row in rows] == [3, 2, 1]
    first = rows[-1]
    assert first.previous_hash == audit.GENESIS
    assert (first.actor, first.by, first.ip, first.session, first.request) == (
        ANN.user, ANN.by, ANN.ip, 5, "req-1",
    )  # fmt: skip
    assert (first.before, first.after) == ('{"status":"open"}', '{"n":0}')
    verdict = await audit.verify(pool, chunk=2)
    assert (verdict.ok, verdict.rows, verdict.head) == (True, 3, rows[0].hash.hex())


async def test_many_at_once_make_one_chain(pool: Pool) -> None:
    await asyncio.gather(*(write(pool, 5) for _ in range(6)))
    verdict = await audit.verify(pool)
    assert (verdict.ok, verdict.rows) == (True, 30), verdict


async def test_what_is_rolled_back_leaves_no_gap(pool: Pool) -> None:
    await write(pool, 1)
    async with pool.acquire() as proxy:
        transaction = proxy.transaction()
        await transaction.start()
        await audit.append(cast(Connection, proxy), ANN.did("roles.give", "customer:1"))
        await transaction.rollback()
    await write(pool, 1)
    assert (await audit.verify(pool)).rows == 2


@pytest.mark.parametrize(
    "sql",
    [
        "update audit_log set by = 'nobody'",
        "delete from audit_log",
        "truncate audit_log",
        "delete from audit_head",
        "truncate audit_head",
    ],
)
async def test_nothing_is_changed_or_taken_away(pool: Pool, sql: str) -> None:
    await write(pool, 2)
    with pytest.raises(asyncpg.RaiseError, match="only ever added to"):
        await pool.execute(sql)
    assert (await audit.verify(pool)).rows == 2


CHANGES = {
    "at": "at + interval '1 microsecond'",
    "actor": "coalesce(actor, 0) + 1",
    "by": "by || 'x'",
    "origin": "'api'",
    "ip": "ip || '1'",
    "session": "coalesce(session, 0) + 1",
    "request": "request || 'x'",
    "action": "'accounts.unfreeze'",
    "subject": "subject || '1'",
    "before": "replace(before, 'o', 'p')",
    "after": "after || ' '",
    "previous_hash": "set_byte(previous_hash, 31, get_byte(previous_hash, 31) # 1)",
    "hash": "set_byte(hash, 0, get_byte(hash, 0) # 128)",
}


@pytest.mark.parametrize("column", CHANGES)
async def test_each_changed_byte_is_found_and_named(pool: Pool, column: str) -> None:
    await write(pool, 4)
    await tamper(pool, f"update audit_log set {column} = {CHANGES[column]} where seq = 3")
    verdict = await audit.verify(pool)
    assert (verdict.ok, verdict.broken_at) == (False, 3), verdict


async def test_each_column_is_among_those() -> None:
    assert set(CHANGES) == set(audit.Row.__struct_fields__) - {"seq"}


@pytest.mark.parametrize("gone", [1, 2, 4])
async def test_a_missing_entry_is_found_also_at_the_end(pool: Pool, gone: int) -> None:
    await write(pool, 4)
    await tamper(pool, "delete from audit_log where seq = $1", gone)
    for chunk in (1, 1_000):
        verdict = await audit.verify(pool, chunk=chunk)
        assert (verdict.broken_at, verdict.reason) == (gone, "the entry is not there")


async def test_an_entry_that_was_put_in_is_found(pool: Pool) -> None:
    await write(pool, 2)
    for seq in (3, 0):
        await tamper(
            pool,
            "insert into audit_log select $1, at, actor, by, origin, ip, session, request, action,"
            " subject, before, after, previous_hash, hash from audit_log where seq = 2",
            seq,
        )
        assert (await audit.verify(pool)).broken_at == seq


async def test_a_chain_made_anew_does_not_come_to_what_was_noted(pool: Pool) -> None:
    await write(pool, 3)
    noted = (await audit.search(pool, Filter()))[1]
    assert (await audit.verify(pool, {2: noted.hash.hex().upper()})).ok
    await tamper(pool, "truncate audit_log")
    await pool.execute("update audit_head set seq = 0, hash = $1", audit.GENESIS)
    await write(pool, 3)
    assert (await audit.verify(pool)).ok
    assert (await audit.verify(pool, {2: noted.hash.hex()})).broken_at == 2
    assert (await audit.verify(pool, {9: noted.hash.hex()})).broken_at == 9


async def test_search(pool: Pool) -> None:
    await write(pool, 4)
    await audit.record(pool, ANN.did("roles.give", "customer:77", after={"role": "100%_sure"}))

    async def found(**values: object) -> list[int]:
        return [row.seq for row in await audit.search(pool, Filter(**values))]  # type: ignore[arg-type]

    assert await found(text="COMMAND line") == [4, 2]
    assert await found(text="100%_s") == [5]
    assert await found(text="%") == [5], "no wildcards"
    assert await found(action="roles.give") == [5]
    assert await found(subject="account:2") == [3]
    assert await found(actor=ANN.user) == [5, 3, 1]
    assert await found(before_seq=3) == [2, 1]
    now = datetime.now(UTC)
    assert await found(date_from=now + timedelta(minutes=1)) == []
    assert await found(date_to=now + timedelta(minutes=1), date_from=now - timedelta(hours=1)) == [
        5, 4, 3, 2, 1,
    ]  # fmt: skip
    assert [row.seq async for row in audit.export(pool, Filter(), chunk=2)] == [5, 4, 3, 2, 1]
    assert await audit.actions(pool) == ["accounts.freeze", "roles.give"]


async def test_no_secret_and_nothing_unreadable_comes_in(pool: Pool) -> None:
    for name in ("password", "new_password", "client_secret", "session_token"):
        with pytest.raises(ValueError, match="no place"):
            await audit.record(pool, ANN.did("x.y", "customer:1", after={name: "hunter2"}))
    odd = Actor(1, "a\x00b\ud800" + "c" * 300, "page")
    await audit.record(pool, odd.did("x.y", "customer:1", after={"reason": "\x00 'quoted' ö"}))
    (row,) = await audit.search(pool, Filter())
    assert row.by == "a b " + "c" * 196
    assert (await audit.verify(pool)).ok

"""Migrations: applied once and in order, by one process at a time, and never against their past."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cluster.embedded import EmbeddedPostgres
from persistence.database import Connection, connection
from persistence.migrate import Migration, MigrationError, available, migrate


def migration(version: int, sql: str) -> Migration:
    return Migration(version, "test", sql, hashlib.sha256(sql.encode()).hexdigest())


FIRST = migration(1, "CREATE TABLE first (n int)")
SECOND = migration(2, "CREATE TABLE second (n int)")


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without any table."""
    async with connection(postgres.url("postgres"), name="tests") as admin:
        await admin.execute("CREATE DATABASE test_migrations")
        yield postgres.url("test_migrations")
        await admin.execute("DROP DATABASE test_migrations WITH (FORCE)")


@pytest.fixture
async def conn(empty: str) -> AsyncIterator[Connection]:
    async with connection(empty, name="tests") as conn:
        yield conn


async def test_only_what_is_missing_is_applied(conn: Connection) -> None:
    assert await migrate(conn, [FIRST]) == [FIRST]
    assert await migrate(conn, [FIRST, SECOND]) == [SECOND]
    assert await migrate(conn, [FIRST, SECOND]) == []
    await conn.execute("INSERT INTO second VALUES (1)")


async def test_a_newer_database_is_refused(conn: Connection) -> None:
    await migrate(conn, [FIRST, SECOND])
    with pytest.raises(MigrationError, match="newer"):
        await migrate(conn, [FIRST])


async def test_a_changed_file_is_refused(conn: Connection) -> None:
    await migrate(conn, [FIRST])
    with pytest.raises(MigrationError, match="0001_test was changed"):
        await migrate(conn, [migration(1, "CREATE TABLE other (n int)")])


async def test_a_failed_migration_leaves_nothing_behind(conn: Connection) -> None:
    broken = migration(2, "CREATE TABLE half (n int); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(conn, [FIRST, broken])
    assert await conn.fetchval("SELECT to_regclass('half')") is None
    assert await migrate(conn, [FIRST, SECOND]) == [SECOND]


async def test_two_processes_at_once(empty: str) -> None:
    async def one() -> int:
        async with connection(empty, name="tests") as own:
            return len(await migrate(own, [FIRST, SECOND]))

    assert sorted(await asyncio.gather(one(), one(), one())) == [0, 0, 2]


def test_files_are_numbered_without_gaps() -> None:
    versions = [item.version for item in available()]
    assert versions == list(range(1, len(versions) + 1))


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "first.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match=r"first\.sql"):
        available(tmp_path)

"""Migrated, empty databases that tests take one after the other.

To empty one takes a few milliseconds; to make one and to drop it, many times as long. One whose
schema was changed is dropped.
"""

from __future__ import annotations

import asyncio
import io
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cluster.embedded import EmbeddedPostgres
from persistence.database import Connection, connection
from persistence.migrate import migrate

TEMPLATE = "kontor_template"
_PATIENCE_S = 5.0

_CATALOGUES = ("class", "attribute", "constraint", "trigger", "proc", "index", "db_role_setting")
_SCHEMA = " UNION ALL ".join(
    f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM pg_{name}" for name in _CATALOGUES
)
"""How much is in the catalogue, and the last transaction that has written to it."""

_TABLES = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


class Databases:
    """Databases of one server; ``open`` makes the template that all are copies of."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self._postgres = postgres
        self._free: list[str] = []
        self._schema: list[Any] = []
        self._tables: list[str] = []
        self._seeds: dict[str, bytes] = {}

    async def open(self) -> None:
        """Make the template, and note what is in it."""
        async with connection(self._postgres.url("postgres"), name="tests") as conn:
            await conn.execute(f"CREATE DATABASE {TEMPLATE}")
        async with connection(self._postgres.url(TEMPLATE), name="tests") as conn:
            await migrate(conn)
            self._schema = await conn.fetch(_SCHEMA)
            self._tables = [row["relname"] for row in await conn.fetch(_TABLES)]
            for table in self._tables:
                if await conn.fetchval(f"SELECT EXISTS (SELECT FROM {table})"):
                    content = io.BytesIO()
                    await conn.copy_from_table(table, output=content, format="binary")
                    self._seeds[table] = content.getvalue()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[str]:
        """The URL of a database that is nobody else's as long as the block lasts."""
        name = self._free.pop() if self._free else await self._make()
        try:
            yield self._postgres.url(name)
        finally:
            if await self._emptied(name):
                self._free.append(name)
            else:
                await self._drop(name)

    async def _make(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        async with connection(self._postgres.url("postgres"), name="tests") as conn:
            await conn.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return name

    async def _drop(self, name: str) -> None:
        async with connection(self._postgres.url("postgres"), name="tests") as conn:
            await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _emptied(self, name: str) -> bool:
        """Whether it is now as it was when it was made."""
        async with connection(self._postgres.url(name), name="tests") as conn:
            if await conn.fetch(_SCHEMA) != self._schema:
                return False
            if not await _alone(conn):
                return False
            async with conn.transaction():
                # The audit log may only be added to, and rows refer to each other.
                await conn.execute("SET LOCAL session_replication_role = replica")
                await conn.execute("; ".join(f"DELETE FROM {table}" for table in self._tables))
                for table, content in self._seeds.items():
                    await conn.copy_to_table(table, source=io.BytesIO(content), format="binary")
                await conn.execute("SELECT setval(seqrelid, seqstart, false) FROM pg_sequence")
        return True


async def _alone(conn: Connection) -> bool:
    """End all other sessions; whether they are gone."""
    deadline = time.monotonic() + _PATIENCE_S
    while await conn.fetchval(_OTHERS):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True

"""The connection pool: how every process of the platform speaks to Postgres.

Server settings that the whole code relies on are set here, once, for each session, so that they
hold for a database of any origin. May touch the network; knows nothing of the schema.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = asyncpg.Connection

log = structlog.get_logger("kontor.database")

CONNECT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 3.0
COMMAND_TIMEOUT_S: Final = 30.0
_STANDING_MAX: Final = 100
"""So many different statements a connection keeps prepared."""

SERVER_SETTINGS: Final[dict[str, str]] = {
    # Statements here are short: compiling them costs more than it can save.
    "jit": "off",
    "timezone": "UTC",
    # A client that hangs in a transaction must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "15s",
}

OUTAGES: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    # Of a connection that has read why it ends, and not yet that it has.
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the server is not there, not ready, or refuses us."""


class DatabaseUnavailable(Exception):
    """No connection to the database. The text is one line, fit for an operator, without secrets."""


def place(database_url: str) -> str:
    """Say where a database is, without user or password, for messages."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    host = parts.hostname or query.get("host", ["localhost"])[0]
    port = f":{parts.port}" if parts.hostname and parts.port else ""
    return f"{host}{port}{parts.path}"


async def open_pool(
    database_url: str,
    *,
    name: str,
    size_min: int = 1,
    size_max: int = 10,
    **options: Any,
) -> Pool:
    """Open a pool; ``name`` is what Postgres shows as the application's name.

    Raises ``DatabaseUnavailable`` when the first connection cannot be made.
    """
    try:
        return await asyncpg.create_pool(
            database_url,
            min_size=size_min,
            max_size=size_max,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**SERVER_SETTINGS, "application_name": name[:63]},
            **options,
        )
    except OUTAGES as error:
        raise _unavailable(database_url, error) from error


async def close_pool(pool: Pool) -> None:
    """Let go of all connections, of those that somebody still holds after a while, too."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await pool.close()  # cancelled, it ends them all at once
    except TimeoutError:
        log.warning("connections_still_held")


class Standing:
    """A connection kept out of its pool, with what is asked over and over prepared.

    For taking a connection, giving it back and finding a statement a process pays more than for
    the question itself. Who comes while another question is under way asks the pool. One that
    fails, or is given up, sends the connection back, as ``close`` does; the next takes another.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Any = None
        self._statements: dict[str, Any] = {}
        self._busy = False

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows."""
        if self._busy:
            return await self._pool.fetch(sql, *arguments)
        self._busy = True
        try:
            rows: list[asyncpg.Record] = await (await self._statement(sql)).fetch(*arguments)
        except BaseException:
            await self.close()
            raise
        finally:
            self._busy = False
        return rows

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        if self._busy:
            return await self._pool.fetchval(sql, *arguments)
        self._busy = True
        try:
            return await (await self._statement(sql)).fetchval(*arguments)
        except BaseException:
            await self.close()
            raise
        finally:
            self._busy = False

    async def _statement(self, sql: str) -> Any:
        if self._lost():
            self._connection = None
            self._statements.clear()
        statement = self._statements.get(sql)
        if statement is None:
            if self._connection is None:
                self._connection = await self._pool.acquire()
            if len(self._statements) >= _STANDING_MAX:
                self._statements.clear()
            statement = self._statements[sql] = await self._connection.prepare(sql)
        return statement

    def _lost(self) -> bool:
        if self._connection is None:
            return False
        try:
            return bool(self._connection.is_closed())
        except asyncpg.InterfaceError:
            # The pool has heard of it, and taken the connection back.
            return True

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        self._statements.clear()
        if connection is not None:
            await self._pool.release(connection)


def is_outage(error: BaseException) -> bool:
    """Whether it is one of ``OUTAGES``, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_outage(each) for each in error.exceptions)
    return isinstance(error, (DatabaseUnavailable, *OUTAGES))


@asynccontextmanager
async def connection(database_url: str, *, name: str) -> AsyncIterator[Connection]:
    """Open one connection for a short errand; raises ``DatabaseUnavailable`` like ``open_pool``."""
    try:
        conn = await asyncpg.connect(
            database_url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**SERVER_SETTINGS, "application_name": name[:63]},
        )
    except OUTAGES as error:
        raise _unavailable(database_url, error) from error
    try:
        yield conn
    finally:
        await conn.close()


def _unavailable(database_url: str, error: BaseException) -> DatabaseUnavailable:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return DatabaseUnavailable(f"The database at {place(database_url)} is not available: {reason}")

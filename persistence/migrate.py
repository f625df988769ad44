"""Schema migrations: numbered SQL files, applied in order, each in a transaction of its own.

The files in ``persistence/migrations`` are the only definition of the schema. An advisory lock
lets several processes start at once. A database that is newer than this code, or whose history
differs from the files, is refused: old code must never write to a schema it does not know.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final, NamedTuple

from persistence.database import Connection

FOLDER: Final = Path(__file__).parent / "migrations"
_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")
_LOCK: Final = 0x4B6F6E74
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    int         PRIMARY KEY,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationError(Exception):
    """The database does not fit this code. The text is one line for the operator."""


class Migration(NamedTuple):
    """One file: its number, its name, its text and the hash of the text."""

    version: int
    name: str
    sql: str
    sha256: str


def available(folder: Path = FOLDER) -> list[Migration]:
    """All migrations that this code brings along, in order."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named like 0001_topic.sql")
        sql = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(sql.encode()).hexdigest()
        found.append(Migration(int(match.group(1)), match.group(2), sql, digest))
    versions = [migration.version for migration in found]
    if len(set(versions)) != len(versions):
        raise MigrationError("Two migrations carry the same number")
    return found


async def migrate(conn: Connection, migrations: list[Migration] | None = None) -> list[Migration]:
    """Bring the database up to date and return what was applied, possibly nothing.

    Raises ``MigrationError`` when the database is newer than the code, or was migrated with other
    files than these.
    """
    wanted = available() if migrations is None else migrations
    await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        pending = await _pending(conn, wanted)
        for migration in pending:
            async with conn.transaction():
                await conn.execute(migration.sql)
                await conn.execute(
                    "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.sha256,
                )
    finally:
        await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return pending


async def _pending(conn: Connection, wanted: list[Migration]) -> list[Migration]:
    await conn.execute("SET client_min_messages = warning")
    await conn.execute(_TABLE)
    await conn.execute("RESET client_min_messages")
    rows = await conn.fetch("SELECT version, name, sha256 FROM schema_migrations ORDER BY version")
    applied = {row["version"]: row for row in rows}
    newest = max((migration.version for migration in wanted), default=0)
    if applied and max(applied) > newest:
        raise MigrationError(
            f"The database is at schema version {max(applied)}, newer than this code "
            f"({newest}): run the newer version of Kontor"
        )
    for migration in wanted:
        row = applied.get(migration.version)
        if row is not None and row["sha256"] != migration.sha256:
            raise MigrationError(
                f"Migration {migration.version:04d}_{migration.name} was changed after it had "
                "been applied to this database"
            )
    return [migration for migration in wanted if migration.version not in applied]

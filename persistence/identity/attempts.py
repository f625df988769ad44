"""The memory of attempts that failed, in Postgres: passwords, codes, and links asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from domain.identity.rules import BackOff, Failures, attempt
from persistence.database import Connection, Pool

Database = Pool | Connection
FailureKind = Literal["account", "address", "code", "link"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def count_attempt(
    pool: Pool,
    rules: Sequence[tuple[FailureKind, str, BackOff]],
    now: datetime,
) -> int:
    """Count an attempt against each of ``rules`` (kind, key, back-off) before it is checked.

    Answers 0, or the seconds to wait; then nothing is counted. The rows are locked in the order
    given, which must be the same for all callers.
    """
    at = _microseconds(now)
    async with pool.acquire() as connection, connection.transaction():
        counted: list[tuple[str, str, Failures]] = []
        for kind, key, rule in rules:
            await connection.execute(
                "insert into login_failures values ($1, $2, 0, $3, $3) on conflict do nothing",
                kind, key, now,
            )  # fmt: skip
            row = await connection.fetchrow(
                "select failures, last_at, blocked_until from login_failures"
                " where kind = $1 and key = $2 for update",
                kind, key,
            )  # fmt: skip
            judged = attempt(_failures(row), rule, at)
            if isinstance(judged, int):
                return judged
            counted.append((kind, key, judged))
        await connection.executemany(
            "update login_failures set failures = $3, last_at = $4, blocked_until = $5"
            " where kind = $1 and key = $2",
            [
                (kind, key, item.count, now, _time(item.blocked_until))
                for kind, key, item in counted
            ],
        )
    return 0


async def forgive(database: Database, kind: FailureKind, key: str) -> None:
    """Forget the failed attempts, because one succeeded."""
    await database.execute("delete from login_failures where kind = $1 and key = $2", kind, key)


async def uncount(database: Database, kind: FailureKind, key: str) -> None:
    """Take back one counted attempt, because it was none that failed."""
    await database.execute(
        "update login_failures set failures = greatest(failures - 1, 0), blocked_until = last_at"
        " where kind = $1 and key = $2",
        kind, key,
    )  # fmt: skip


def _failures(row: Any) -> Failures | None:
    if row is None:
        return None
    return Failures(
        row["failures"], _microseconds(row["last_at"]), _microseconds(row["blocked_until"])
    )


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)

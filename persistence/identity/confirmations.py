"""Confirmations of intents in Postgres, and the payees that need none any more."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.identity.confirmation import Confirmation
from persistence.database import Connection, Pool

Database = Pool | Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROW = "id, user_id, session_id, kind, digest, failures, expires_at, confirmed_at, used_for"


async def open_confirmation(
    database: Database, user: int, session: int, digest: bytes, failures_max: int, now: datetime
) -> Confirmation | None:
    """One for the same intent that still waits for its code."""
    row = await database.fetchrow(
        f"select {_ROW} from confirmations where user_id = $1 and session_id = $2 and digest = $3"
        " and failures < $4 and expires_at > $5 and confirmed_at is null"
        " order by created_at desc limit 1",
        user, session, digest, failures_max, now,
    )  # fmt: skip
    return None if row is None else _confirmation(row)


async def add_confirmation(
    database: Database, confirmation: Confirmation, now: datetime, kept_max: int
) -> None:
    """Store one; of a user's, the ``kept_max`` latest are kept."""
    item = confirmation
    await database.execute(
        "insert into confirmations (id, user_id, session_id, kind, digest, created_at, expires_at)"
        " values ($1, $2, $3, $4, $5, $6, $7)",
        item.id, item.user, item.session, item.kind, item.digest, now, _time(item.expires_at),
    )  # fmt: skip
    await database.execute(
        "delete from confirmations where id in (select id from confirmations where user_id = $1"
        " order by created_at desc, id offset $2)",
        item.user, kept_max,
    )  # fmt: skip


async def lock_confirmation(connection: Connection, user: int, id_: bytes) -> Confirmation | None:
    """The user's confirmation with this id, locked until the transaction ends."""
    row = await connection.fetchrow(
        f"select {_ROW} from confirmations where id = $1 and user_id = $2 for update", id_, user
    )
    return None if row is None else _confirmation(row)


async def find_confirmation(database: Database, user: int, id_: bytes) -> Confirmation | None:
    """The user's confirmation with this id."""
    row = await database.fetchrow(
        f"select {_ROW} from confirmations where id = $1 and user_id = $2", id_, user
    )
    return None if row is None else _confirmation(row)


async def try_confirmation(database: Database, id_: bytes, failures_max: int) -> bool:
    """Count a code as wrong before it is looked at; ``False`` when no more may be tried."""
    counted = await database.fetchval(
        "update confirmations set failures = failures + 1 where id = $1 and failures < $2"
        " returning true",
        id_, failures_max,
    )  # fmt: skip
    return counted is not None


async def settle_confirmation(
    database: Database, id_: bytes, confirmed_at: datetime | None
) -> None:
    """Take back what was counted, because the code was right, or could not be looked at."""
    await database.execute(
        "update confirmations set failures = failures - 1,"
        " confirmed_at = coalesce(confirmed_at, $2) where id = $1",
        id_, confirmed_at,
    )  # fmt: skip


async def mark_used(database: Database, id_: bytes, use: bytes) -> None:
    """Note what it was used for."""
    await database.execute("update confirmations set used_for = $2 where id = $1", id_, use)


async def unmark_used(database: Database, user: int, id_: bytes, use: bytes) -> None:
    """Note that it was not used after all."""
    await database.execute(
        "update confirmations set used_for = null"
        " where id = $1 and user_id = $2 and used_for = $3",
        id_, user, use,
    )  # fmt: skip


async def unpaid(database: Database, user: int, accounts: Collection[int]) -> set[int]:
    """Those of the accounts that this user has never paid."""
    asked = list(set(accounts))
    rows = await database.fetch(
        "select account from payees where user_id = $1 and account = any($2::bigint[])",
        user, asked,
    )  # fmt: skip
    new = set(asked) - {row["account"] for row in rows}
    if not new:
        return new
    rows = await database.fetch(
        "insert into payees (user_id, account)"
        " select distinct $1::bigint, destination from transfers"
        " where source_customer = $1 and destination = any($2::bigint[]) and status <> 3"
        " on conflict (user_id, account) do update set account = excluded.account"
        " returning account",
        user, list(new),
    )  # fmt: skip
    return new - {row["account"] for row in rows}


def _confirmation(row: Any) -> Confirmation:
    return Confirmation(
        row["id"],
        row["user_id"],
        row["session_id"],
        row["kind"],
        row["digest"],
        (row["expires_at"] - _EPOCH) // timedelta(microseconds=1),
        row["failures"],
        row["confirmed_at"] is not None,
        row["used_for"],
    )


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)

"""Users in Postgres: who they are, and whether they have proved their address or left.

Secrets come in hashed; nothing here can tell a password.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import asyncpg
import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection


class EmailTaken(Exception):
    """Another user has this e-mail address."""


class UserRow(msgspec.Struct, frozen=True):
    """A user as stored; ``opened_at`` is ``None`` while the accounts are not open yet.

    ``verified_at`` is when the address was proved, ``closed_at`` when the user left.
    """

    id: int
    email: str
    name: str
    password_hash: str
    created_at: datetime
    opened_at: datetime | None
    verified_at: datetime | None = None
    closed_at: datetime | None = None
    second_factor: bool = False


_USER = """
    id, email, name, password_hash, created_at, opened_at, email_verified_at, closed_at,
    exists (select 1 from second_factors f where f.user_id = users.id
            and f.confirmed_at is not null)
    from users
"""


async def add_user(
    database: Database, *, user: int, email: str, name: str, password_hash: str, now: datetime
) -> bool:
    """Store a user whose accounts are still to be opened.

    ``False`` when the number is taken (draw another one); raises ``EmailTaken``.
    """
    try:
        added = await database.fetchval(
            "insert into users (id, email, name, password_hash, created_at)"
            " values ($1, $2, $3, $4, $5) on conflict (id) do nothing returning true",
            user, email, name, password_hash, now,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise EmailTaken(email) from None
    return added is not None


async def user_by_email(database: Database, email: str) -> UserRow | None:
    """The user with this address, in whatever case it is written; nobody who has left."""
    row = await database.fetchrow(
        f"select {_USER} where lower(email) = lower($1) and closed_at is null", email
    )
    return None if row is None else UserRow(*row)


async def user_by_id(database: Database, user: int) -> UserRow | None:
    """The user with this number."""
    row = await database.fetchrow(f"select {_USER} where id = $1", user)
    return None if row is None else UserRow(*row)


async def user_names(database: Database, users: Iterable[int]) -> dict[int, str]:
    """The names of these users, as far as they exist."""
    rows = await database.fetch(
        "select id, name from users where id = any($1::bigint[])", list(users)
    )
    return {row["id"]: row["name"] for row in rows}


async def unopened_users(database: Database, before: datetime, limit: int) -> list[int]:
    """Users who signed up before ``before`` and whose accounts are not open yet, oldest first."""
    rows = await database.fetch(
        "select id from users where opened_at is null and closed_at is null and created_at < $1"
        " order by created_at limit $2",
        before, limit,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def mark_opened(database: Database, user: int, now: datetime) -> None:
    """Remember that the user's accounts are open."""
    await database.execute(
        "update users set opened_at = $2 where id = $1 and opened_at is null", user, now
    )


async def rename_user(database: Database, user: int, name: str) -> None:
    """Give the user another name."""
    await database.execute("update users set name = $2 where id = $1", user, name)


async def replace_password_hash(database: Database, user: int, old: str, new: str) -> None:
    """Store a hash of the same password with newer parameters, unless it changed meanwhile."""
    await database.execute(
        "update users set password_hash = $3 where id = $1 and password_hash = $2",
        user, old, new,
    )  # fmt: skip


async def change_password(database: Database, user: int, new: str, now: datetime) -> None:
    """Store the hash of another password."""
    await database.execute(
        "update users set password_hash = $2, password_changed_at = $3 where id = $1",
        user, new, now,
    )  # fmt: skip


async def mark_verified(database: Database, user: int, email: str, now: datetime) -> bool:
    """Note that the address is proved; ``False`` when it is not the user's any more."""
    verified = await database.fetchval(
        "update users set email_verified_at = coalesce(email_verified_at, $3),"
        " security_changed_at = now() where id = $1 and email = $2 returning true",
        user, email, now,
    )  # fmt: skip
    return verified is not None


async def change_email(database: Database, user: int, email: str, now: datetime) -> None:
    """Store another address, which is proved. Raises ``EmailTaken``."""
    try:
        await database.execute(
            "update users set email = $2, email_verified_at = $3, security_changed_at = now()"
            " where id = $1",
            user, email, now,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise EmailTaken(email) from None


async def security_changed(database: Database, user: int) -> None:
    """Have all replicas read anew what they remember with the user's sessions."""
    await database.execute("update users set security_changed_at = now() where id = $1", user)


async def close_user(database: Database, user: int, now: datetime) -> bool:
    """Let the user leave: no login any more; ``False`` when that has happened already."""
    closed = await database.fetchval(
        "update users set closed_at = $2, security_changed_at = now()"
        " where id = $1 and closed_at is null returning true",
        user, now,
    )  # fmt: skip
    return closed is not None

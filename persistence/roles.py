"""Roles of users in Postgres: who holds which, who granted it, and who took it back.

Each function takes a pool or a connection first. What a role permits is decided where requests
are answered, not here.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection


class UnknownRole(LookupError):
    """There is no such role."""


class HeldRole(msgspec.Struct, frozen=True):
    """A role that a user holds at present."""

    user: int
    email: str
    role: str
    granted_at: datetime
    granted_by: str


async def role_names(database: Database) -> list[str]:
    """The roles that there are."""
    return [row["name"] for row in await database.fetch("select name from roles order by name")]


async def grant(database: Database, user: int, role: str, by: str) -> bool:
    """Give a user a role; ``False`` when the user holds it already. Raises ``UnknownRole``."""
    if role not in await role_names(database):
        raise UnknownRole(role)
    granted = await database.fetchval(
        "insert into user_roles (user_id, role, granted_by) values ($1, $2, $3)"
        " on conflict (user_id, role) where revoked_at is null do nothing returning true",
        user, role, by[:200],
    )  # fmt: skip
    return granted is not None


async def revoke(database: Database, user: int, role: str, by: str) -> bool:
    """Take a role back; ``False`` when the user does not hold it."""
    revoked = await database.fetchval(
        "update user_roles set revoked_at = now(), revoked_by = $3"
        " where user_id = $1 and role = $2 and revoked_at is null returning true",
        user, role, by[:200],
    )  # fmt: skip
    return revoked is not None


async def held(database: Database, user: int | None = None) -> list[HeldRole]:
    """Who holds which role at present: one user, or everybody."""
    rows = await database.fetch(
        "select r.user_id, u.email, r.role, r.granted_at, r.granted_by"
        " from user_roles r join users u on u.id = r.user_id"
        " where r.revoked_at is null and ($1::bigint is null or r.user_id = $1)"
        " order by u.email, r.role",
        user,
    )
    return [HeldRole(*row) for row in rows]

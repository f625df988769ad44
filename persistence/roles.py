"""Roles of users in Postgres: who holds which, who gave it, and who took it.

The rules that must hold whoever asks at the same time are here, in the transaction: nobody raises
themselves, and there is always an administrator once there was one. What a role permits is in
``domain.identity.permissions``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, cast

import msgspec

from domain.durable import Rejection
from domain.identity.permissions import ADMINISTRATOR, GIVEN, RoleCode
from domain.notifications import Kind
from persistence import audit
from persistence.audit import Actor
from persistence.database import Connection, Pool
from persistence.notifications import notify

Database = Pool | Connection

_HELD: Final = "select role from user_roles where user_id = $1 and revoked_at is null order by role"


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


async def give(connection: Connection, actor: Actor, user: int, role: str) -> Rejection | None:
    """Give somebody a role, write it down, and tell them."""
    return await _change(connection, actor, user, role, giving=True)


async def take(connection: Connection, actor: Actor, user: int, role: str) -> Rejection | None:
    """Take a role from somebody, write it down, and tell them."""
    return await _change(connection, actor, user, role, giving=False)


async def give_first(connection: Connection, actor: Actor, user: int) -> Rejection | None:
    """Make somebody the first administrator; refused when there is one."""
    return await _change(connection, actor, user, ADMINISTRATOR, giving=True, first=True)


async def _change(
    connection: Connection, actor: Actor, user: int, role: str, *, giving: bool, first: bool = False
) -> Rejection | None:
    if role not in GIVEN:
        return Rejection(RoleCode.ROLE_UNKNOWN, {"role": role[:40]})
    async with connection.transaction():
        # One change of a role at a time: or two administrators could each take it from the other.
        await connection.execute("select from roles where name = $1 for update", role)
        refused = await _judge(connection, actor, user, role, giving, first)
        if refused is not None:
            return refused
        before = [row["role"] for row in await connection.fetch(_HELD, user)]
        sql = (
            "insert into user_roles (user_id, role, granted_by) values ($1, $2, $3)"
            " returning granted_at as at"
            if giving
            else "update user_roles set revoked_at = clock_timestamp(), revoked_by = $3"
            " where user_id = $1 and role = $2 and revoked_at is null returning revoked_at as at"
        )
        at: datetime = await connection.fetchval(sql, user, role, actor.by[:200])
        after = sorted({*before, role} if giving else {*before} - {role})
        await notify(
            connection,
            user,
            Kind.ROLE_GIVEN if giving else Kind.ROLE_TAKEN,
            {"role": role, "at": f"{at:%Y-%m-%d %H:%M} UTC"},
            key=f"role:{role}:{'given' if giving else 'taken'}:{at.isoformat()}",
        )
        action = "roles.give" if giving else "roles.take"
        entry = actor.did(action, f"customer:{user}", {"roles": before}, {"roles": after})
        await audit.append(connection, entry)
    return None


async def _judge(
    connection: Connection, actor: Actor, user: int, role: str, giving: bool, first: bool
) -> Rejection | None:
    # Shared, so that a login that is being closed is closed before or after.
    known = await connection.fetchval(
        "select closed_at is null from users where id = $1 for share", user
    )
    if not known:
        return Rejection(RoleCode.USER_UNKNOWN)
    if giving and actor.user == user:
        return Rejection(RoleCode.ROLE_OWN)
    holders = await connection.fetch(
        "select r.user_id from user_roles r join users u on u.id = r.user_id"
        " where r.role = $1 and r.revoked_at is null and u.closed_at is null",
        role,
    )
    held = user in [row["user_id"] for row in holders]
    if held and giving:
        return Rejection(RoleCode.ROLE_HELD)
    if not held and not giving:
        return Rejection(RoleCode.ROLE_NOT_HELD)
    if first and holders:
        return Rejection(RoleCode.ADMINISTRATOR_EXISTS)
    if not giving and role == ADMINISTRATOR and len(holders) == 1:
        return Rejection(RoleCode.LAST_ADMINISTRATOR)
    return None


async def grant(pool: Pool, user: int, role: str, by: str) -> bool:
    """Give a role for the platform itself; ``False`` when it is held. Raises ``UnknownRole``."""
    return await _by_platform(pool, user, role, by, giving=True)


async def revoke(pool: Pool, user: int, role: str, by: str) -> bool:
    """Take a role for the platform itself; ``False`` when it is not held."""
    return await _by_platform(pool, user, role, by, giving=False)


async def _by_platform(pool: Pool, user: int, role: str, by: str, *, giving: bool) -> bool:
    async with pool.acquire() as proxy:
        connection = cast(Connection, proxy)
        refused = await _change(connection, Actor(None, by, "platform"), user, role, giving=giving)
    if refused is None:
        return True
    if refused.code == RoleCode.ROLE_UNKNOWN:
        raise UnknownRole(role)
    if refused.code in (RoleCode.ROLE_HELD, RoleCode.ROLE_NOT_HELD):
        return False
    raise PermissionError(refused.code)


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

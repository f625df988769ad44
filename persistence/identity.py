"""Users, sessions and failed attempts in Postgres.

Each function takes a pool or a connection first. Secrets come in hashed; nothing here can tell a
password or a token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import asyncpg
import msgspec

from domain.identity.rules import BackOff, Failures, attempt
from persistence.database import Connection, Pool

Database = Pool | Connection
SessionKind = Literal["browser", "api"]
FailureKind = Literal["account", "address"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EmailTaken(Exception):
    """Another user has this e-mail address."""


class UserRow(msgspec.Struct, frozen=True):
    """A user as stored; ``opened_at`` is ``None`` while the accounts are not open yet."""

    id: int
    email: str
    name: str
    password_hash: str
    created_at: datetime
    opened_at: datetime | None


class SessionRow(msgspec.Struct, frozen=True):
    """A session that is neither revoked nor past its end, with its user's name and roles."""

    id: int
    token_hash: bytes
    kind: SessionKind
    user: int
    name: str
    email: str
    csrf: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    idle_s: int
    ip: str
    user_agent: str
    roles: list[str]

    @property
    def ends_at(self) -> datetime:
        """When it ends if it is not used again."""
        return min(self.expires_at, self.last_seen_at + timedelta(seconds=self.idle_s))


class NewSession(msgspec.Struct, frozen=True):
    """A session to be stored."""

    token_hash: bytes
    kind: SessionKind
    user: int
    csrf: str
    created_at: datetime
    expires_at: datetime
    idle_s: int
    ip: str
    user_agent: str


_USER = "id, email, name, password_hash, created_at, opened_at"
_SESSION = """
    s.id, s.token_hash, s.kind, s.user_id, u.name, u.email, s.csrf, s.created_at, s.last_seen_at,
    s.expires_at, s.idle_s, s.ip, s.user_agent,
    array(select r.role from user_roles r where r.user_id = u.id and r.revoked_at is null
          order by r.role)
    from sessions s join users u on u.id = s.user_id
"""
_LIVE = """
    s.revoked_at is null and s.expires_at > $2
    and s.last_seen_at + make_interval(secs => s.idle_s) > $2
"""


async def add_user(
    database: Database, *, user: int, email: str, name: str, password_hash: str, now: datetime
) -> bool:
    """Store a user whose accounts are still to be opened.

    ``False`` when the number is taken (draw another one); raises ``EmailTaken``.
    """
    try:
        await database.execute(
            "insert into users (id, email, name, password_hash, created_at)"
            " values ($1, $2, $3, $4, $5)",
            user, email, name, password_hash, now,
        )  # fmt: skip
    except asyncpg.UniqueViolationError as error:
        if error.constraint_name == "users_email":
            raise EmailTaken(email) from None
        return False
    return True


async def user_by_email(database: Database, email: str) -> UserRow | None:
    """The user who signed up with this address, in whatever case it is written."""
    row = await database.fetchrow(
        f"select {_USER} from users where lower(email) = lower($1)", email
    )
    return None if row is None else UserRow(*row)


async def user_by_id(database: Database, user: int) -> UserRow | None:
    """The user with this number."""
    row = await database.fetchrow(f"select {_USER} from users where id = $1", user)
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
        "select id from users where opened_at is null and created_at < $1"
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


async def add_session(database: Database, session: NewSession) -> int:
    """Store a session; the answer is its number, by which its owner can revoke it."""
    number: int = await database.fetchval(
        "insert into sessions (token_hash, kind, user_id, csrf, created_at, last_seen_at,"
        " expires_at, idle_s, ip, user_agent)"
        " values ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9) returning id",
        session.token_hash, session.kind, session.user, session.csrf, session.created_at,
        session.expires_at, session.idle_s, session.ip, session.user_agent,
    )  # fmt: skip
    return number


async def live_sessions(
    database: Database, token_hashes: Sequence[bytes], now: datetime
) -> list[SessionRow]:
    """Those of the sessions with these hashes that are valid at ``now``."""
    rows = await database.fetch(
        f"select {_SESSION} where s.token_hash = any($1::bytea[]) and {_LIVE}",
        token_hashes, now,
    )  # fmt: skip
    return [SessionRow(*row) for row in rows]


async def sessions_of(database: Database, user: int, now: datetime) -> list[SessionRow]:
    """The user's valid sessions, newest first; no more than a hundred."""
    rows = await database.fetch(
        f"select {_SESSION} where s.user_id = $1 and {_LIVE} order by s.created_at desc limit 100",
        user, now,
    )  # fmt: skip
    return [SessionRow(*row) for row in rows]


async def revoke_session(
    database: Database, user: int, session: int, now: datetime
) -> bytes | None:
    """End a session of this user; its hash, or ``None`` if there is no such valid session."""
    digest: bytes | None = await database.fetchval(
        "update sessions set revoked_at = $3 where id = $2 and user_id = $1"
        " and revoked_at is null returning token_hash",
        user, session, now,
    )  # fmt: skip
    return digest


async def revoked_since(database: Database, since: datetime) -> list[bytes]:
    """Hashes of the sessions of which what is remembered may be wrong since ``since``.

    Those that were revoked, and those of users who were given a role or lost one in the last
    minute by the database's clock.
    """
    rows = await database.fetch(
        "select token_hash from sessions where revoked_at >= $1"
        " union select s.token_hash from user_roles r join sessions s using (user_id)"
        " where r.granted_at > now() - interval '1 minute'"
        " or r.revoked_at > now() - interval '1 minute'",
        since,
    )
    return [row["token_hash"] for row in rows]


async def touch_sessions(database: Database, seen: Iterable[tuple[bytes, datetime]]) -> None:
    """Note when sessions were last used; never moves a time backwards."""
    hashes, times = zip(*seen, strict=True)
    await database.execute(
        "update sessions s set last_seen_at = seen.at"
        " from unnest($1::bytea[], $2::timestamptz[]) as seen(hash, at)"
        " where s.token_hash = seen.hash and s.last_seen_at < seen.at",
        hashes, times,
    )  # fmt: skip


async def purge(database: Database, now: datetime) -> None:
    """Forget sessions that ended a month ago and attempts that ended a day ago."""
    await database.execute(
        "delete from sessions where expires_at < $1 or revoked_at < $1", now - timedelta(days=30)
    )
    await database.execute("delete from login_failures where last_at < $1", now - timedelta(days=1))


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

"""Browser sessions and API tokens in Postgres; of their secrets only hashes are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection
SessionKind = Literal["browser", "api"]


class SessionRow(msgspec.Struct, frozen=True):
    """A session that is neither revoked nor past its end, with what is asked of its user.

    ``verified``: the user's address is proved.
    """

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
    second_factor: bool
    verified: bool

    @property
    def ends_at(self) -> datetime:
        """When it ends if it is not used again."""
        return min(self.expires_at, self.last_seen_at + timedelta(seconds=self.idle_s))


class EndedSession(msgspec.Struct, frozen=True):
    """A session that has just been revoked."""

    token_hash: bytes
    kind: SessionKind
    ip: str
    user_agent: str


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


_SESSION = """
    s.id, s.token_hash, s.kind, s.user_id, u.name, u.email, s.csrf, s.created_at, s.last_seen_at,
    s.expires_at, s.idle_s, s.ip, s.user_agent,
    array(select r.role from user_roles r where r.user_id = u.id and r.revoked_at is null
          order by r.role),
    exists (select 1 from second_factors f where f.user_id = u.id and f.confirmed_at is not null),
    u.email_verified_at is not null
    from sessions s join users u on u.id = s.user_id
"""
_LIVE = """
    s.revoked_at is null and u.closed_at is null and s.expires_at > $2
    and s.last_seen_at + make_interval(secs => s.idle_s) > $2
"""


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
) -> EndedSession | None:
    """End a session of this user; ``None`` if there is no such valid session."""
    row = await database.fetchrow(
        "update sessions set revoked_at = $3 where id = $2 and user_id = $1"
        " and revoked_at is null returning token_hash, kind, ip, user_agent",
        user, session, now,
    )  # fmt: skip
    return None if row is None else EndedSession(*row)


async def revoke_sessions(
    database: Database, user: int, now: datetime, *, but: int | None = None
) -> list[bytes]:
    """End all sessions and tokens of this user, or all but one; their hashes."""
    rows = await database.fetch(
        "update sessions set revoked_at = $2 where user_id = $1 and revoked_at is null"
        " and id is distinct from $3 returning token_hash",
        user, now, but,
    )  # fmt: skip
    return [row["token_hash"] for row in rows]


async def was_here(database: Database, user: int, ip: str, user_agent: str) -> bool:
    """Whether the user has had a session with this program from this address."""
    found: bool = await database.fetchval(
        "select exists (select 1 from sessions"
        " where user_id = $1 and ip = $2 and user_agent = $3)",
        user, ip, user_agent,
    )  # fmt: skip
    return found


async def revoked_since(database: Database, since: datetime) -> list[bytes]:
    """Hashes of the sessions of which what is remembered may be wrong since ``since``.

    Those that were revoked, and those of users of whom something else changed in the last minute
    by the database's clock: a role, the address, the second factor.
    """
    rows = await database.fetch(
        "select token_hash from sessions where revoked_at >= $1"
        " union select s.token_hash from user_roles r join sessions s using (user_id)"
        " where r.granted_at > now() - interval '1 minute'"
        " or r.revoked_at > now() - interval '1 minute'"
        " union select s.token_hash from users u join sessions s on s.user_id = u.id"
        " where u.security_changed_at > now() - interval '1 minute'",
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

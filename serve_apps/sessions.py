"""From the token of a request to the user behind it, without asking Postgres each time.

A replica remembers the sessions that it has seen (``serve_apps.remembered``). What it forgets
before their end are those that were revoked, and those whose user's roles, address or second factor
have changed.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import ClassVar, Final

import msgspec

from domain.identity.permissions import CUSTOMER
from persistence import identity as store
from serve_apps.remembered import Remembered

TOKEN_PREFIX: Final = "kontor_"
ENTRY_LIFE_S: Final = 600.0


class Principal(msgspec.Struct, frozen=True):
    """Who makes a request, by which session, and in which roles.

    ``second_factor``: what is dangerous needs a code. ``verified``: the address is proved.
    """

    user: int
    name: str
    email: str
    kind: store.SessionKind
    session_id: int
    token_hash: bytes
    csrf: str
    roles: frozenset[str] = frozenset({CUSTOMER})
    second_factor: bool = False
    verified: bool = False


class _Entry(msgspec.Struct):
    principal: Principal
    expires_at: float
    idle_s: float
    ends_at: float
    loaded_at: float


def new_token(prefix: str = "") -> str:
    """A new secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is stored of a token; it is random, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).digest()


class Sessions(Remembered[bytes, _Entry, Principal]):
    """The sessions that this replica knows, by their tokens' hashes."""

    channel: ClassVar[str] = "kontor:sessions"
    entries_max: ClassVar[int] = 50_000

    def known(self, digest: bytes) -> Principal | None:
        """The session with this hash, if this replica may still trust what it remembers."""
        entry = self._entries.get(digest)
        if entry is None or time.monotonic() > self._trusted_until:
            return None
        now = time.time()
        if now >= entry.ends_at or now - entry.loaded_at > ENTRY_LIFE_S:
            del self._entries[digest]
            return None
        entry.ends_at = min(entry.expires_at, now + entry.idle_s)
        self._seen[digest] = now
        return entry.principal

    async def find(self, token: str) -> Principal | None:
        """The session of this token; ``None`` when there is none, or no longer."""
        digest = token_hash(token)
        return self.known(digest) or await self._loading.get(digest)

    async def start(self, session: store.NewSession) -> int:
        """Store a new session."""
        return await store.add_session(self._pool, session)

    async def revoke(self, user: int, session: int) -> bool:
        """End a session of this user, everywhere; ``False`` when there is no such session."""
        ended = await store.revoke_session(self._pool, user, session, self._now())
        if ended is None:
            return False
        await self.ended([ended.token_hash])
        return True

    async def changed(self, user: int) -> None:
        """Forget what is remembered of a user whose name, address or second factor has changed."""
        rows = await store.sessions_of(self._pool, user, self._now())
        await self.ended(row.token_hash for row in rows)

    async def _load(self, keys: list[bytes]) -> dict[bytes, Principal]:
        rows = await store.live_sessions(self._pool, keys, self._now())
        return {row.token_hash: self._entered(row) for row in rows}

    async def _revoked_since(self, since: datetime) -> Iterable[bytes]:
        return await store.revoked_since(self._pool, since)

    async def _touch(self, seen: Sequence[tuple[bytes, datetime]]) -> None:
        await store.touch_sessions(self._pool, seen)

    def _key(self, message: bytes) -> bytes:
        return message

    def _entered(self, row: store.SessionRow) -> Principal:
        roles = frozenset({CUSTOMER, *row.roles})
        principal = Principal(
            row.user, row.name, row.email, row.kind, row.id, row.token_hash, row.csrf, roles,
            row.second_factor, row.verified,
        )  # fmt: skip
        ends = row.expires_at.timestamp(), row.idle_s, row.ends_at.timestamp()
        self._remember(row.token_hash, _Entry(principal, *ends, time.time()))
        return principal

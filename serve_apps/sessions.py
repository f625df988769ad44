"""From the token of a request to the user behind it, without asking Postgres each time.

A replica remembers the sessions that it has seen. What is remembered may be trusted because the
sessions revoked lately are read every two seconds, and those whose user's roles have changed: with
no such reading for five seconds nothing remembered counts, and Postgres is asked. Redis carries
revocations at once, but is not relied on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec
import redis.asyncio
import redis.exceptions
import structlog

from domain.identity.permissions import CUSTOMER
from persistence import identity as store
from persistence.database import OUTAGES, Pool
from serve_apps.gathering import Gathering
from serve_apps.tasks import end_tasks

log = structlog.get_logger("kontor.sessions")

CHANNEL: Final = "kontor:sessions"
TOKEN_PREFIX: Final = "kontor_"
POLL_S: Final = 2.0
TRUST_S: Final = 5.0
LOOK_BACK: Final = timedelta(seconds=30)
TOUCH_S: Final = 30.0
ENTRIES_MAX: Final = 50_000
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


class Sessions:
    """The sessions that this replica knows."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._seen: dict[bytes, float] = {}
        self._loading: Gathering[bytes, Principal] = Gathering(self._load)
        self._trusted_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._pool: Pool
        self._redis: redis.asyncio.Redis

    async def open(self, pool: Pool, redis_client: redis.asyncio.Redis) -> None:
        """Start following revocations."""
        self._pool, self._redis = pool, redis_client
        await self.read_revocations()
        self._tasks = [
            asyncio.create_task(self._forever(self.read_revocations, POLL_S)),
            asyncio.create_task(self._forever(self._listen, 0.5)),
            asyncio.create_task(self._forever(self.flush_seen, TOUCH_S)),
        ]

    async def close(self) -> None:
        """Stop following, and note what was seen last."""
        await end_tasks(self._tasks)
        with contextlib.suppress(*OUTAGES):
            await self.flush_seen()

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
        digest = await store.revoke_session(self._pool, user, session, self._now())
        if digest is None:
            return False
        await self._forget_everywhere(digest)
        return True

    async def changed(self, user: int) -> None:
        """Forget what is remembered of a user whose name, address or second factor has changed."""
        for row in await store.sessions_of(self._pool, user, self._now()):
            await self._forget_everywhere(row.token_hash)

    async def ended(self, digests: Iterable[bytes]) -> None:
        """Tell all replicas of sessions that were revoked in a transaction of its own."""
        for digest in digests:
            await self._forget_everywhere(digest)

    async def read_revocations(self) -> None:
        """Forget the sessions revoked lately; from then on the others are trusted for a while."""
        started = time.monotonic()
        async with asyncio.timeout(TRUST_S):
            hashes = await store.revoked_since(self._pool, self._now() - LOOK_BACK)
        if started - self._trusted_until > LOOK_BACK.total_seconds() - TRUST_S:
            # Nothing was read for so long that something may have been missed.
            self._entries.clear()
        for digest in hashes:
            self._forget(digest)
        self._trusted_until = started + TRUST_S

    async def flush_seen(self) -> None:
        """Note in Postgres when sessions were last used."""
        seen, self._seen = self._seen, {}
        if seen:
            zone = self._now().tzinfo
            await store.touch_sessions(
                self._pool, [(key, datetime.fromtimestamp(at, zone)) for key, at in seen.items()]
            )

    async def _load(self, digests: list[bytes]) -> dict[bytes, Principal]:
        rows = await store.live_sessions(self._pool, digests, self._now())
        return {row.token_hash: self._remember(row) for row in rows}

    def _remember(self, row: store.SessionRow) -> Principal:
        roles = frozenset({CUSTOMER, *row.roles})
        principal = Principal(
            row.user, row.name, row.email, row.kind, row.id, row.token_hash, row.csrf, roles,
            row.second_factor, row.verified,
        )  # fmt: skip
        if len(self._entries) >= ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        now = time.time()
        self._entries[row.token_hash] = _Entry(
            principal, row.expires_at.timestamp(), row.idle_s, row.ends_at.timestamp(), now
        )
        self._seen[row.token_hash] = now
        return principal

    def _forget(self, digest: bytes) -> None:
        self._entries.pop(digest, None)
        self._seen.pop(digest, None)

    async def _forget_everywhere(self, digest: bytes) -> None:
        self._forget(digest)
        try:
            await self._redis.publish(CHANNEL, digest)
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("revocation_not_published", error=repr(error))

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(CHANNEL)
            while True:
                message = await subscription.get_message(timeout=None)
                if message is not None:
                    self._forget(message["data"])

    async def _forever(self, work: Callable[[], object], pause_s: float) -> None:
        while True:
            try:
                await work()  # type: ignore[misc]
            except Exception as error:
                log.warning("sessions_not_followed", error=repr(error))
            await asyncio.sleep(pause_s)

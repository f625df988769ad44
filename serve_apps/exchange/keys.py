"""API keys: how a customer makes and revokes them, and how a replica knows whose request it is.

The secret of an HMAC key is needed to check signatures, so it is kept: encrypted with AES-256-GCM
under a key derived from the platform's secret, bound to the API key that it belongs to. An
Ed25519 key comes from the customer, who keeps the private half. A replica remembers the keys that
it has seen, as ``serve_apps.sessions`` does with sessions: revocations arrive at once over Redis,
and are read from Postgres every two seconds; without such a reading for five seconds nothing that
is remembered counts.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import secrets
import string
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import redis.asyncio
import redis.exceptions
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.vault import API_KEYS, InvalidTag, Vault
from domain.durable import Rejection
from persistence import apikeys as store
from persistence.database import OUTAGES, Pool
from serve_apps.gathering import Gathering
from serve_apps.tasks import end_tasks

if TYPE_CHECKING:
    from serve_apps.services import Services

log = structlog.get_logger("kontor.apikeys")

READ: Final = "read"
"""May see balances, orders and trades."""

TRADE: Final = "trade"
"""May place, amend and cancel orders, and see what a reader sees."""

SCOPES: Final = (READ, TRADE)
CHANNEL: Final = "kontor:apikeys"
KEY_LENGTH: Final = 64
LABEL_MAX: Final = 80
NETWORKS_MAX: Final = 30
POLL_S: Final = 2.0
TRUST_S: Final = 5.0
LOOK_BACK: Final = timedelta(seconds=30)
TOUCH_S: Final = 30.0
ENTRIES_MAX: Final = 20_000

_ALPHABET: Final = string.ascii_letters + string.digits

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A valid key, as a replica remembers it; its secret is never shown."""

    id: int
    user: int
    key: str
    scopes: frozenset[str]
    networks: tuple[Network, ...]
    secret: bytes = field(default=b"", repr=False)
    public: Ed25519PublicKey | None = field(default=None, repr=False)

    def signed(self, payload: bytes, signature: str) -> bool:
        """Whether ``signature`` (hex, or base64 of an Ed25519 key) is this key's of ``payload``."""
        if self.public is None:
            expected = hmac.digest(self.secret, payload, "sha256").hex()
            return hmac.compare_digest(expected.encode(), signature.lower().encode())
        try:
            self.public.verify(_from_base64(signature), payload)
        except (InvalidSignature, ValueError):
            return False
        return True

    def may(self, scope: str, address: str) -> bool:
        """Whether it permits this from there. An unknown address is on nobody's list."""
        if scope not in self.scopes and not (scope == READ and TRADE in self.scopes):
            return False
        if not self.networks:
            return True
        try:
            host = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(host in network for network in self.networks)


class ApiKeys:
    """The keys that this replica knows."""

    def __init__(self, secret_key: bytes, now: Callable[[], datetime]) -> None:
        self._vault = Vault(secret_key, API_KEYS)
        self._now = now
        self._entries: dict[str, ApiKey] = {}
        self._seen: dict[str, datetime] = {}
        self._loading: Gathering[str, ApiKey] = Gathering(self._load)
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
        """Stop following, and note what was used last."""
        await end_tasks(self._tasks)
        with contextlib.suppress(*OUTAGES):
            await self.flush_seen()

    def known(self, key: str) -> ApiKey | None:
        """The key, if this replica may still trust what it remembers of it."""
        entry = self._entries.get(key)
        if entry is None or time.monotonic() > self._trusted_until:
            return None
        self._seen[key] = self._now()
        return entry

    async def find(self, key: str) -> ApiKey | None:
        """The key; ``None`` when there is none, or no longer."""
        if len(key) != KEY_LENGTH or not key.isalnum() or not key.isascii():
            return None
        return self.known(key) or await self._loading.get(key)

    async def revoke(self, user: int, number: int) -> bool:
        """End a key of this user, everywhere; ``False`` when there is no such key."""
        key = await store.revoke_key(self._pool, user, number, self._now())
        if key is None:
            return False
        self._forget(key)
        try:
            await self._redis.publish(CHANNEL, key)
        except (redis.exceptions.RedisError, OSError) as error:
            log.warning("revocation_not_published", error=repr(error))
        return True

    async def read_revocations(self) -> None:
        """Forget the keys revoked lately; from then on the others are trusted for a while."""
        started = time.monotonic()
        async with asyncio.timeout(TRUST_S):
            keys = await store.revoked_since(self._pool, self._now() - LOOK_BACK)
        if started - self._trusted_until > LOOK_BACK.total_seconds() - TRUST_S:
            # Nothing was read for so long that something may have been missed.
            self._entries.clear()
        for key in keys:
            self._forget(key)
        self._trusted_until = started + TRUST_S

    async def flush_seen(self) -> None:
        """Note in Postgres when keys were last used."""
        seen, self._seen = self._seen, {}
        if seen:
            await store.touch_keys(self._pool, list(seen.items()))

    async def _load(self, keys: list[str]) -> dict[str, ApiKey]:
        found: dict[str, ApiKey] = {}
        for row in await store.find_keys(self._pool, keys):
            entry = self._read(row)
            if entry is not None:
                found[row.key] = entry
                if len(self._entries) >= ENTRIES_MAX:
                    del self._entries[next(iter(self._entries))]
                self._entries[row.key] = entry
                self._seen[row.key] = self._now()
        return found

    def _read(self, row: store.KeyRow) -> ApiKey | None:
        secret, public = b"", None
        if row.kind == "ed25519":
            public = Ed25519PublicKey.from_public_bytes(row.secret)
        else:
            try:
                secret = self._vault.open(row.key, row.secret)
            except InvalidTag:
                # Sealed under another secret of the platform: nobody can use it any more.
                log.error("api_key_unreadable", number=row.id)
                return None
        networks = tuple(ipaddress.ip_network(text) for text in row.networks)
        return ApiKey(row.id, row.user, row.key, frozenset(row.scopes), networks, secret, public)

    def _forget(self, key: str) -> None:
        self._entries.pop(key, None)
        self._seen.pop(key, None)

    async def _listen(self) -> None:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(CHANNEL)
            while True:
                message = await subscription.get_message(timeout=None)
                if message is not None:
                    self._forget(message["data"].decode())

    async def _forever(self, work: Callable[[], object], pause_s: float) -> None:
        while True:
            try:
                await work()  # type: ignore[misc]
            except Exception as error:
                log.warning("api_keys_not_followed", error=repr(error))
            await asyncio.sleep(pause_s)


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A new key. ``secret`` is shown this once; it is empty for an Ed25519 key."""

    id: int
    key: str
    kind: store.KeyKind
    label: str
    scopes: tuple[str, ...]
    networks: tuple[str, ...]
    created_at: datetime
    secret: str = field(default="", repr=False)


async def make_key(
    pool: Pool,
    secret_key: bytes,
    user: int,
    label: str,
    scopes: Sequence[str] = SCOPES,
    networks: Sequence[str] = (),
    public_key: str = "",
    *,
    now: datetime,
) -> MadeKey | Rejection:
    """Make a key; ``networks`` are addresses or networks, none for everywhere.

    ``public_key`` is an Ed25519 public key in PEM; without one the key is an HMAC key and gets a
    secret of 64 characters.
    """
    label = label.strip()
    if not 1 <= len(label) <= LABEL_MAX or not label.isprintable():
        return Rejection("label_invalid", {"field": "label"})
    chosen = tuple(scope for scope in SCOPES if scope in scopes)
    if not chosen or len(chosen) != len(set(scopes)):
        return Rejection("scopes_invalid", {"field": "scopes"})
    places = _networks(networks)
    if places is None:
        return Rejection("networks_invalid", {"field": "networks"})
    key = _random(KEY_LENGTH)
    secret = ""
    kind: store.KeyKind = "hmac"
    if public_key.strip():
        kept = _public(public_key)
        if kept is None:
            return Rejection("public_key_invalid", {"field": "public_key"})
        kind = "ed25519"
    else:
        secret = _random(KEY_LENGTH)
        kept = Vault(secret_key, API_KEYS).seal(key, secret.encode())
    new = store.NewKey(user, key, kind, kept, label, chosen, places, now)
    number = await store.add_key(pool, new)
    if number is None:
        return Rejection("too_many_keys", {"keys_max": str(store.KEYS_MAX)})
    return MadeKey(number, key, kind, label, chosen, tuple(places), now, secret)


async def make(
    services: Services,
    user: int,
    label: str,
    scopes: Sequence[str],
    networks_text: str = "",
    public_key: str = "",
) -> MadeKey | Rejection:
    """Make a key from a form: addresses separated by commas, spaces or lines."""
    networks = networks_text.replace(",", " ").split()
    return await make_key(
        services.pool, services.config.secret_key, user, label, scopes, networks, public_key,
        now=services.now(),
    )  # fmt: skip


async def list_keys(services: Services, user: int) -> list[store.KeyRow]:
    """The user's valid keys, newest first."""
    return await store.keys_of(services.pool, user)


async def revoke(services: Services, user: int, number: int) -> bool:
    """End a key, everywhere; ``False`` when the user has no such key."""
    return await services.api_keys.revoke(user, number)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _networks(texts: Sequence[str]) -> list[str] | None:
    try:
        found = [str(ipaddress.ip_network(text.strip(), strict=False)) for text in texts]
    except ValueError:
        return None
    return found if len(found) <= NETWORKS_MAX else None


def _public(pem: str) -> bytes | None:
    """The 32 bytes of an Ed25519 public key in PEM."""
    try:
        key = serialization.load_pem_public_key(pem.strip().encode())
    except (ValueError, UnicodeEncodeError):
        return None
    if not isinstance(key, Ed25519PublicKey):
        return None
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)

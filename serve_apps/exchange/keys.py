"""API keys: how one is made, and how a replica knows whose request it is.

The secret of an HMAC key is needed to check signatures, so it is kept: encrypted with AES-256-GCM
under a key derived from the platform's secret, bound to the API key that it belongs to. An
Ed25519 key comes from the customer, who keeps the private half. A replica remembers the keys it has
seen (``serve_apps.remembered``). What customers do with theirs is in ``serve_apps.apikeys``.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import secrets
import string
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actors.vault import API_KEYS, InvalidTag, Vault
from domain.durable import Rejection
from persistence import apikeys as store
from persistence.database import Connection, Pool
from serve_apps.remembered import Remembered

log = structlog.get_logger("kontor.apikeys")

READ: Final = "read"
"""May see balances, orders and trades."""

TRADE: Final = "trade"
"""May place, amend and cancel orders, and see what a reader sees."""

SCOPES: Final = (READ, TRADE)
KEY_LENGTH: Final = 64
LABEL_MAX: Final = 80
NETWORKS_MAX: Final = 30

_ALPHABET: Final = string.ascii_letters + string.digits

Database = Pool | Connection
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


class ApiKeys(Remembered[str, ApiKey, ApiKey]):
    """The keys that this replica knows."""

    channel: ClassVar[str] = "kontor:apikeys"
    entries_max: ClassVar[int] = 20_000

    def __init__(self, secret_key: bytes, now: Callable[[], datetime]) -> None:
        super().__init__(now)
        self._vault = Vault(secret_key, API_KEYS)

    def known(self, key: str) -> ApiKey | None:
        """The key, if this replica may still trust what it remembers of it."""
        entry = self._entries.get(key)
        if entry is None or time.monotonic() > self._trusted_until:
            return None
        self._seen[key] = time.time()
        return entry

    async def find(self, key: str) -> ApiKey | None:
        """The key; ``None`` when there is none, or no longer."""
        if len(key) != KEY_LENGTH or not key.isalnum() or not key.isascii():
            return None
        return self.known(key) or await self._loading.get(key)

    async def revoke(self, user: int, number: int) -> bool:
        """End a key of this user, everywhere; ``False`` when there is no such key."""
        row = await store.revoke_key(self._pool, user, number, self._now())
        if row is None:
            return False
        await self.ended([row.key])
        return True

    async def _load(self, keys: list[str]) -> dict[str, ApiKey]:
        found: dict[str, ApiKey] = {}
        for row in await store.find_keys(self._pool, keys):
            entry = self._read(row)
            if entry is not None:
                found[row.key] = entry
                self._remember(row.key, entry)
        return found

    async def _revoked_since(self, since: datetime) -> Iterable[str]:
        return await store.revoked_since(self._pool, since)

    async def _touch(self, seen: Sequence[tuple[str, datetime]]) -> None:
        await store.touch_keys(self._pool, seen)

    def _key(self, message: bytes) -> str:
        return message.decode()

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
    database: Database,
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
    number = await store.add_key(database, new)
    if number is None:
        return Rejection("too_many_keys", {"keys_max": str(store.KEYS_MAX)})
    return MadeKey(number, key, kind, label, chosen, tuple(places), now, secret)


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

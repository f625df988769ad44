"""Keys with which programs trade, in Postgres.

Each function takes a pool or a connection first. Secrets come in encrypted and go out so; nothing
here can read one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection
KeyKind = Literal["hmac", "ed25519"]

KEYS_MAX: Final = 30
"""Valid keys that a user may have, give or take those made at the same moment."""


class NewKey(msgspec.Struct, frozen=True):
    """A key to be stored; ``secret`` is encrypted, or a public key."""

    user: int
    key: str
    kind: KeyKind
    secret: bytes
    label: str
    scopes: Sequence[str]
    networks: Sequence[str]
    created_at: datetime


class KeyRow(msgspec.Struct, frozen=True):
    """A key that is not revoked."""

    id: int
    user: int
    key: str
    kind: KeyKind
    secret: bytes
    label: str
    scopes: list[str]
    networks: list[str]
    created_at: datetime
    last_used_at: datetime | None


_COLUMNS: Final = (
    "id, user_id, key, kind, secret, label, scopes, networks, created_at, last_used_at"
)


async def add_key(database: Database, new: NewKey) -> int | None:
    """Store a key; its number, or ``None`` when the user has as many as one may."""
    number: int | None = await database.fetchval(
        "insert into api_keys (user_id, key, kind, secret, label, scopes, networks, created_at)"
        " select $1, $2, $3, $4, $5, $6, $7, $8"
        " where (select count(*) from api_keys where user_id = $1 and revoked_at is null) < $9"
        " returning id",
        new.user, new.key, new.kind, new.secret, new.label, list(new.scopes), list(new.networks),
        new.created_at, KEYS_MAX,
    )  # fmt: skip
    return number


async def keys_of(database: Database, user: int) -> list[KeyRow]:
    """The user's valid keys, newest first."""
    rows = await database.fetch(
        f"select {_COLUMNS} from api_keys where user_id = $1 and revoked_at is null"
        " order by created_at desc, id desc",
        user,
    )
    return [KeyRow(*row) for row in rows]


async def find_keys(database: Database, keys: Sequence[str]) -> list[KeyRow]:
    """Those of these keys that are valid."""
    rows = await database.fetch(
        f"select {_COLUMNS} from api_keys where key = any($1::text[]) and revoked_at is null",
        list(keys),
    )
    return [KeyRow(*row) for row in rows]


async def revoke_key(database: Database, user: int, number: int, now: datetime) -> KeyRow | None:
    """End a key of this user, and answer it; ``None`` if there is no such valid one."""
    row = await database.fetchrow(
        "update api_keys set revoked_at = $3 where id = $2 and user_id = $1"
        f" and revoked_at is null returning {_COLUMNS}",
        user, number, now,
    )  # fmt: skip
    return None if row is None else KeyRow(*row)


async def revoke_keys(database: Database, user: int, now: datetime) -> list[str]:
    """End all keys of this user; the keys."""
    rows = await database.fetch(
        "update api_keys set revoked_at = $2 where user_id = $1 and revoked_at is null"
        " returning key",
        user, now,
    )  # fmt: skip
    return [row["key"] for row in rows]


async def revoked_since(database: Database, since: datetime) -> list[str]:
    """Keys that were revoked since then."""
    rows = await database.fetch("select key from api_keys where revoked_at >= $1", since)
    return [row["key"] for row in rows]


async def touch_keys(database: Database, seen: Iterable[tuple[str, datetime]]) -> None:
    """Note when keys were last used; never moves a time backwards."""
    keys, times = zip(*seen, strict=True)
    await database.execute(
        "update api_keys k set last_used_at = seen.at"
        " from unnest($1::text[], $2::timestamptz[]) as seen(key, at)"
        " where k.key = seen.key and (k.last_used_at is null or k.last_used_at < seen.at)",
        list(keys), list(times),
    )  # fmt: skip

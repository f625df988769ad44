"""Webhook endpoints of customers in Postgres. Secrets come sealed; nothing here can read them.

Each function takes a pool or a connection first.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from domain.notifications import Kind
from persistence.database import Connection, Pool
from persistence.notifications import TO_SEND, notify

Database = Pool | Connection

ENDPOINTS_MAX: Final = 10
"""Of one customer."""
OVERLAP: Final = timedelta(hours=24)
"""So long the secret before the last rotation still signs."""
FAILING_MAX: Final = timedelta(days=5)
"""An endpoint that has taken nothing for so long is switched off."""
OK_NOTED_EVERY: Final = timedelta(minutes=1)


class EndpointRow(msgspec.Struct, frozen=True):
    """An endpoint as its owner sees it; no ``kinds`` means all."""

    id: int
    label: str
    url: str
    kinds: list[str]
    created_at: datetime
    failing_since: datetime | None
    last_ok_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str
    previous_until: datetime | None


class DeliveryRow(msgspec.Struct, frozen=True):
    """What became of a message to an endpoint; ``kind`` is ``None`` for a test."""

    id: int
    kind: str | None
    state: str
    attempts: int
    next_at: datetime
    last_error: str | None
    last_status: int | None
    created_at: datetime
    done_at: datetime | None


_COLUMNS: Final = (
    "id, label, url, kinds, created_at, failing_since, last_ok_at, disabled_at, disabled_reason,"
    " CASE WHEN previous_until > now() THEN previous_until END AS previous_until"
)
_LIVING: Final = "user_id = $1 AND deleted_at IS NULL"


async def endpoints_of(database: Database, user: int) -> list[EndpointRow]:
    """A customer's endpoints, oldest first."""
    rows = await database.fetch(
        f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_LIVING} ORDER BY id", user
    )
    return [EndpointRow(**row) for row in rows]


async def find_endpoint(database: Database, user: int, number: int) -> EndpointRow | None:
    """One endpoint of this customer."""
    row = await database.fetchrow(
        f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE {_LIVING} AND id = $2", user, number
    )
    return None if row is None else EndpointRow(**row)


async def add_endpoint(
    connection: Connection, user: int, label: str, url: str, kinds: Sequence[str]
) -> int | None:
    """Make an endpoint whose secret ``set_secret`` is to give it in the same transaction.

    ``None`` when the customer has as many as one may.
    """
    await connection.execute("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", user)
    number: int | None = await connection.fetchval(
        "INSERT INTO webhook_endpoints (user_id, label, url, kinds, secret)"
        f" SELECT $1, $2, $3, $4, '' WHERE (SELECT count(*) FROM webhook_endpoints"
        f" WHERE {_LIVING}) < $5 RETURNING id",
        user,
        label,
        url,
        list(kinds),
        ENDPOINTS_MAX,
    )
    return number


async def set_secret(database: Database, user: int, number: int, sealed: bytes) -> bool:
    """Give an endpoint a new secret; the one before goes on signing for a day."""
    done = await database.execute(
        "UPDATE webhook_endpoints SET secret = $3,"
        " previous_secret = CASE WHEN secret <> '' THEN secret END,"
        " previous_until = CASE WHEN secret <> '' THEN now() + $4::interval END"
        f" WHERE {_LIVING} AND id = $2",
        user,
        number,
        sealed,
        OVERLAP,
    )
    return bool(done == "UPDATE 1")


async def delete_endpoint(database: Database, user: int, number: int) -> bool:
    """Send nothing there any more, and forget the secrets."""
    done = await database.execute(
        "UPDATE webhook_endpoints SET deleted_at = now(), secret = '', previous_secret = NULL"
        f" WHERE {_LIVING} AND id = $2",
        user,
        number,
    )
    return bool(done == "UPDATE 1")


async def enable(database: Database, user: int, number: int) -> bool:
    """Send there again after it was switched off; what came meanwhile is not made up for."""
    done = await database.execute(
        "UPDATE webhook_endpoints SET disabled_at = NULL, disabled_reason = '',"
        f" failing_since = NULL WHERE {_LIVING} AND id = $2 AND disabled_at IS NOT NULL",
        user,
        number,
    )
    return bool(done == "UPDATE 1")


async def ping(connection: Connection, user: int, number: int) -> int | None:
    """Have a test sent to an endpoint; the delivery's number, ``None`` if there is no such one."""
    delivery: int | None = await connection.fetchval(
        "INSERT INTO deliveries (user_id, channel, target, urgent)"
        f" SELECT $1, 'webhook', id::text, true FROM webhook_endpoints WHERE {_LIVING} AND id = $2"
        " AND disabled_at IS NULL RETURNING id",
        user,
        number,
    )
    if delivery is not None:
        await connection.execute("SELECT pg_notify($1, 'webhook')", TO_SEND)
    return delivery


async def deliveries_to(
    database: Database, user: int, number: int, limit: int
) -> list[DeliveryRow]:
    """What was sent to an endpoint lately, newest first."""
    rows = await database.fetch(
        "SELECT d.id, n.kind, d.state, d.attempts, d.next_at, d.last_error, d.last_status,"
        " d.created_at, d.done_at FROM deliveries d"
        " LEFT JOIN notifications n ON n.id = d.notification_id"
        " WHERE d.channel = 'webhook' AND d.target = $2 AND d.user_id = $1"
        " ORDER BY d.id DESC LIMIT $3",
        user,
        str(number),
        limit,
    )
    return [DeliveryRow(**row) for row in rows]


async def note_ok(database: Database, number: int) -> None:
    """The endpoint has taken something."""
    await database.execute(
        "UPDATE webhook_endpoints SET failing_since = NULL, last_ok_at = now() WHERE id = $1"
        " AND (failing_since IS NOT NULL OR last_ok_at IS NULL"
        " OR last_ok_at < now() - $2::interval)",
        number,
        OK_NOTED_EVERY,
    )


async def note_failing(
    connection: Connection, number: int, reason: str, *, gone: bool, failing_max: timedelta
) -> bool:
    """The endpoint has failed; whether it is switched off for it, of which its owner is told.

    ``gone`` switches it off at once. What waits to be sent there is given up with it.
    """
    row = await connection.fetchrow(
        "UPDATE webhook_endpoints SET failing_since = coalesce(failing_since, now())"
        " WHERE id = $1 AND disabled_at IS NULL AND deleted_at IS NULL"
        " RETURNING user_id, url, failing_since < now() - $2::interval AS over",
        number,
        failing_max,
    )
    if row is None or not (gone or row["over"]):
        return False
    at: datetime = await connection.fetchval(
        "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = $2 WHERE id = $1"
        " RETURNING disabled_at",
        number,
        reason,
    )
    await connection.execute(
        "UPDATE deliveries SET state = 'dead', done_at = now(), claimed_until = NULL,"
        " claimed_by = NULL, last_error = 'The endpoint was switched off'"
        " WHERE channel = 'webhook' AND target = $1 AND state = 'pending'",
        str(number),
    )
    await notify(
        connection,
        row["user_id"],
        Kind.WEBHOOK_DISABLED,
        {"url": row["url"][:200], "reason": reason},
        key=f"webhook/{number}/{at.isoformat()}",
    )
    return True

"""What is to be sent by mail and to webhooks: claimed, noted, given up, sent again.

A delivery is pending until it is sent or dead. Whoever sends claims it for a while, so that two
who send at once take different ones; a claim that ran out counts no more, and what its holder sent
without noting it is sent again under the same name. Times are the database's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection
Sending = Literal["email", "webhook"]

KEPT_SENT: Final = timedelta(days=30)
KEPT_DEAD: Final = timedelta(days=90)
UNSENT_MAX: Final = timedelta(days=7)
PURGE_MAX: Final = 10_000


class Delivery(msgspec.Struct, frozen=True):
    """A claimed delivery with all that is needed to write and send it.

    ``kind`` is ``None`` for a test of an endpoint; ``endpoint`` is ``None`` for mail and for an
    endpoint that is no more.
    """

    id: int
    channel: str
    user: int
    name: str
    closed: bool
    target: str
    urgent: bool
    secret: dict[str, str]
    attempts: int
    created_at: datetime
    kind: str | None
    values: dict[str, str]
    at: datetime
    endpoint: Endpoint | None = None

    @property
    def key(self) -> str:
        """What makes it this delivery and no other, of this database or another's."""
        return f"{self.id}/{self.user}/{self.created_at.isoformat()}"


class Endpoint(msgspec.Struct, frozen=True):
    """Where a webhook goes; secrets are sealed. ``previous`` is the one before, while it counts."""

    id: int
    url: str
    secret: bytes
    previous: bytes | None
    open: bool


class Dead(msgspec.Struct, frozen=True):
    """A delivery that was given up, for operators: never with what is secret in it."""

    id: int
    channel: str
    user: int
    name: str
    target: str
    kind: str | None
    attempts: int
    last_error: str
    last_status: int | None
    created_at: datetime
    done_at: datetime


class Standing(msgspec.Struct, frozen=True):
    """How many deliveries of a channel wait, are due now, and were given up."""

    pending: int
    due: int
    dead: int
    oldest_due_s: float


_CLAIM: Final = """
WITH due AS (
    SELECT id FROM deliveries
    WHERE channel = $1 AND state = 'pending' AND next_at <= now()
        AND (claimed_until IS NULL OR claimed_until < now()) AND NOT target = ANY($5)
    ORDER BY urgent DESC, next_at LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE deliveries SET claimed_until = now() + $3, claimed_by = $4
    WHERE id IN (SELECT id FROM due) RETURNING *
)
SELECT c.id, c.channel, c.user_id, u.name, u.closed_at IS NOT NULL AS closed, c.target, c.urgent,
    c.secret, c.attempts, c.created_at, n.kind, n.details, coalesce(n.at, c.created_at) AS at,
    e.id AS endpoint, e.url, e.secret AS sealed, e.disabled_at IS NULL AS open,
    CASE WHEN e.previous_until > now() THEN e.previous_secret END AS previous
FROM claimed c JOIN users u ON u.id = c.user_id
LEFT JOIN notifications n ON n.id = c.notification_id
LEFT JOIN webhook_endpoints e ON c.channel = 'webhook' AND e.id::text = c.target
    AND e.user_id = c.user_id AND e.deleted_at IS NULL
ORDER BY c.urgent DESC, c.next_at, c.id"""


async def claim(
    database: Database,
    channel: Sending,
    who: str,
    *,
    limit: int,
    lease_s: float,
    without: Sequence[str] = (),
) -> list[Delivery]:
    """Take what is due, urgent first, for ``lease_s``; none whose target is in ``without``."""
    lease = timedelta(seconds=lease_s)
    rows = await database.fetch(_CLAIM, channel, limit, lease, who, list(without))
    return [_delivery(row) for row in rows]


async def release(database: Database, who: str, ids: Sequence[int]) -> None:
    """Give back what was claimed and not tried."""
    await database.execute(
        "UPDATE deliveries SET claimed_until = NULL, claimed_by = NULL"
        " WHERE id = ANY($1) AND claimed_by = $2 AND state = 'pending'",
        list(ids),
        who,
    )


async def note_sent(database: Database, number: int, status: int) -> None:
    """It is sent: whatever was secret in it is forgotten."""
    await database.execute(
        "UPDATE deliveries SET state = 'sent', attempts = attempts + 1, done_at = now(),"
        " claimed_until = NULL, claimed_by = NULL, secret = NULL, last_error = NULL,"
        " last_status = $2 WHERE id = $1 AND state <> 'sent'",
        number,
        status,
    )


async def note_later(
    database: Database, number: int, error: str, status: int | None, pause_s: float
) -> None:
    """It failed and is due again after a pause."""
    await database.execute(
        "UPDATE deliveries SET attempts = attempts + 1, next_at = now() + $4,"
        " claimed_until = NULL, claimed_by = NULL, last_error = $2, last_status = $3"
        " WHERE id = $1 AND state = 'pending'",
        number,
        error,
        status,
        timedelta(seconds=pause_s),
    )


async def note_dead(database: Database, number: int, error: str, status: int | None) -> None:
    """It failed and is given up."""
    await database.execute(
        "UPDATE deliveries SET state = 'dead', attempts = attempts + 1, done_at = now(),"
        " claimed_until = NULL, claimed_by = NULL, last_error = $2, last_status = $3"
        " WHERE id = $1 AND state = 'pending'",
        number,
        error,
        status,
    )


async def standing(database: Database, channel: Sending) -> Standing:
    """How far behind a channel is."""
    row = await database.fetchrow(
        "SELECT count(*) AS pending, count(*) FILTER (WHERE next_at <= now()) AS due,"
        " (SELECT count(*) FROM deliveries WHERE state = 'dead' AND channel = $1) AS dead,"
        " coalesce(extract(epoch FROM now() - min(next_at)"
        " FILTER (WHERE next_at <= now())), 0)::float8 AS oldest"
        " FROM deliveries WHERE channel = $1 AND state = 'pending'",
        channel,
    )
    assert row is not None
    return Standing(row["pending"], row["due"], row["dead"], row["oldest"])


async def purge(database: Database) -> int:
    """Give up what nobody could send for a week, forget what was done long ago; how much that is.

    Bounded: the next call goes on.
    """
    await database.execute(
        "UPDATE deliveries SET state = 'dead', done_at = now(),"
        " last_error = 'Not sent in seven days: ' || coalesce(last_error, 'nobody could')"
        " WHERE state = 'pending' AND next_at < now() - $1::interval"
        " AND (claimed_until IS NULL OR claimed_until < now())",
        UNSENT_MAX,
    )
    done = await database.execute(
        "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries"
        " WHERE state = 'sent' AND done_at < now() - $1::interval"
        " OR state = 'dead' AND done_at < now() - $2::interval LIMIT $3)",
        KEPT_SENT,
        KEPT_DEAD,
        PURGE_MAX,
    )
    return int(done.removeprefix("DELETE "))


# -- what was given up ------------------------------------------------------------------------

_DEAD: Final = """
SELECT d.id, d.channel, d.user_id AS user, u.name,
    coalesce(CASE WHEN d.channel = 'webhook' THEN e.url END, d.target) AS target, n.kind,
    d.attempts, coalesce(d.last_error, '') AS last_error, d.last_status, d.created_at, d.done_at
FROM deliveries d JOIN users u ON u.id = d.user_id
LEFT JOIN notifications n ON n.id = d.notification_id
LEFT JOIN webhook_endpoints e ON d.channel = 'webhook' AND e.id::text = d.target
WHERE d.state = 'dead'"""


async def dead(
    database: Database, *, before: int | None = None, channel: str = "", limit: int = 50
) -> list[Dead]:
    """What was given up, newest delivery first, those below ``before`` only."""
    rows = await database.fetch(
        f"{_DEAD} AND d.id < $1 AND ($2 = '' OR d.channel = $2) ORDER BY d.id DESC LIMIT $3",
        2**63 - 1 if before is None else before,
        channel,
        limit,
    )
    return [Dead(**row) for row in rows]


async def find_dead(database: Database, number: int) -> Dead | None:
    """One that was given up."""
    row = await database.fetchrow(f"{_DEAD} AND d.id = $1", number)
    return None if row is None else Dead(**row)


async def resend(connection: Connection, number: int) -> bool:
    """Have one that was given up sent again, at once; ``False`` when there is no such one.

    Whoever sends is woken by Postgres at the commit.
    """
    channel = await connection.fetchval(
        "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = now(), done_at = NULL"
        " WHERE id = $1 AND state = 'dead' RETURNING channel",
        number,
    )
    if channel is not None:
        await connection.execute("SELECT pg_notify('kontor_deliveries', $1)", channel)
    return channel is not None


def _delivery(row: Any) -> Delivery:
    endpoint = None
    if row["endpoint"] is not None:
        endpoint = Endpoint(
            row["endpoint"], row["url"], row["sealed"], row["previous"], row["open"]
        )
    return Delivery(
        row["id"], row["channel"], row["user_id"], row["name"], row["closed"], row["target"],
        row["urgent"], _texts(row["secret"]), row["attempts"], row["created_at"], row["kind"],
        _texts(row["details"]), row["at"], endpoint,
    )  # fmt: skip


def _texts(json: str | None) -> dict[str, str]:
    return {} if json is None else msgspec.json.decode(json, type=dict[str, str])

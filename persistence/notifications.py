"""Notifications in Postgres: told once, numbered without gaps, with what is to be sent elsewhere.

``notify`` writes in the caller's transaction, so that whoever caused something has told of it when
it is committed, and not otherwise. Listeners are woken by Postgres at the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from domain.notifications import KINDS, Channel, Choices, Kind, check, may_choose, wanted
from persistence.database import Connection, Pool

Database = Pool | Connection

TOLD: Final = "kontor_notifications"
"""Postgres tells this channel after a commit: the number of whoever has been told something."""
TO_SEND: Final = "kontor_deliveries"
"""And this one: ``email`` or ``webhook``, when there is something to send."""

UNREAD_MAX: Final = 99
"""Nobody counts further."""

_NOTHING: Final[Mapping[str, str]] = {}


class Notice(msgspec.Struct, frozen=True):
    """Something to tell a person. ``to`` is an e-mail address other than the person's own."""

    user: int
    kind: Kind
    values: Mapping[str, str]
    key: str
    secret: Mapping[str, str] = {}
    to: str | None = None


class Notification(msgspec.Struct, frozen=True):
    """What the application shows, as stored: a newer version may have written of other kinds."""

    user: int
    seq: int
    kind: str
    values: dict[str, str]
    at: datetime
    read_at: datetime | None


# -- telling ----------------------------------------------------------------------------------

# Locked in the order of their numbers; without a second version of a row that is there already.
_LOCK: Final = """
INSERT INTO notification_heads AS h (user_id) SELECT id FROM users WHERE id = ANY($1) ORDER BY id
ON CONFLICT (user_id) DO UPDATE SET last = h.last WHERE false"""

_CHOICES: Final = """
SELECT user_id, kind, channel, wanted FROM notification_preferences
WHERE user_id = ANY($1) AND kind = ANY($2)"""

_STORE: Final = """
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[], $5::boolean[],
        $6::boolean[], $7::boolean[], $8::text[], $9::jsonb[], $10::boolean[]) WITH ORDINALITY
        AS g (user_id, kind, key, details, app, email, webhook, target, secret, urgent, place)
), fresh AS (
    SELECT g.*, CASE WHEN app THEN h.last + row_number()
        OVER (PARTITION BY user_id, app ORDER BY place) END AS seq
    FROM given g JOIN notification_heads h USING (user_id)
    WHERE NOT EXISTS (
        SELECT FROM notifications n WHERE n.user_id = g.user_id AND n.key = g.key)
), stored AS (
    INSERT INTO notifications (user_id, seq, kind, key, details)
    SELECT user_id, seq, kind, key, details FROM fresh ORDER BY place
    RETURNING id, user_id, key, seq
), heads AS (
    UPDATE notification_heads h SET last = m.last
    FROM (SELECT user_id, max(seq) AS last FROM fresh WHERE app GROUP BY user_id) AS m
    WHERE h.user_id = m.user_id
), sending AS (
    INSERT INTO deliveries (notification_id, user_id, channel, target, urgent, secret)
    SELECT s.id, s.user_id, 'email', coalesce(f.target, u.email), f.urgent, f.secret
    FROM stored s JOIN fresh f USING (user_id, key) JOIN users u ON u.id = s.user_id
    WHERE f.email
    UNION ALL
    SELECT s.id, s.user_id, 'webhook', e.id::text, f.urgent, NULL
    FROM stored s JOIN fresh f USING (user_id, key) JOIN webhook_endpoints e USING (user_id)
    WHERE f.webhook AND e.disabled_at IS NULL AND e.deleted_at IS NULL
        AND (e.kinds = '{}' OR f.kind = ANY(e.kinds))
    RETURNING channel
), woken AS (
    SELECT pg_notify('kontor_deliveries', channel) FROM (SELECT DISTINCT channel FROM sending) AS c
)
SELECT user_id, max(seq) AS seq, (SELECT count(*) FROM woken) FROM stored GROUP BY user_id"""


async def notify(
    connection: Connection,
    user: int,
    kind: Kind,
    values: Mapping[str, str],
    *,
    key: str,
    secret: Mapping[str, str] = _NOTHING,
    to: str | None = None,
) -> None:
    """Tell a person something, as part of the transaction in which it comes true.

    The same ``key`` for the same person counts once, however often it is told. ``secret`` goes
    into the e-mail alone and is forgotten when that is sent; ``to`` sends the e-mail elsewhere
    than to the person's own address. Raises ``ValueError`` for values that the kind does not have.
    """
    told = await notify_many(connection, [Notice(user, kind, values, key, secret, to)])
    if told:
        await connection.execute("SELECT pg_notify($1, $2)", TOLD, str(user))


async def notify_many(connection: Connection, notices: Iterable[Notice]) -> dict[int, int]:
    """Tell many people at once; by person the last number given, for those with something new.

    Must run in a transaction. Who is not a user (any more) is told nothing. Nobody is woken but
    who sends: publish what comes back, after the commit.
    """
    notices = {(notice.user, notice.key): notice for notice in reversed(list(notices))}.values()
    rows = []
    choices = await _choices(connection, notices)
    for notice in reversed(notices):
        check(notice.kind, notice.values, notice.secret, notice.key)
        channels = wanted(notice.kind, choices.get(notice.user, {}))
        if channels:
            rows.append(_row(notice, channels))
    if not rows:
        return {}
    await connection.execute(_LOCK, sorted({row[0] for row in rows}))
    stored = await connection.fetch(_STORE, *(list(column) for column in zip(*rows, strict=True)))
    return {row["user_id"]: row["seq"] for row in stored if row["seq"] is not None}


def _row(notice: Notice, channels: frozenset[Channel]) -> tuple[Any, ...]:
    return (
        notice.user,
        notice.kind.value,
        notice.key,
        msgspec.json.encode(notice.values).decode(),
        Channel.APP in channels,
        Channel.EMAIL in channels,
        Channel.WEBHOOK in channels,
        notice.to,
        msgspec.json.encode(notice.secret).decode() if notice.secret else None,
        KINDS[notice.kind].urgent,
    )


async def _choices(
    connection: Connection, notices: Iterable[Notice]
) -> dict[int, dict[tuple[Kind, Channel], bool]]:
    """What those who are to be told have chosen for these kinds."""
    users = list({notice.user for notice in notices})
    kinds = list({notice.kind.value for notice in notices})
    found: dict[int, dict[tuple[Kind, Channel], bool]] = {}
    for row in await connection.fetch(_CHOICES, users, kinds):
        chosen = found.setdefault(row["user_id"], {})
        chosen[Kind(row["kind"]), Channel(row["channel"])] = row["wanted"]
    return found


# -- reading ----------------------------------------------------------------------------------

_COLUMNS: Final = "n.user_id, n.seq, n.kind, n.details, n.at, n.read_at"

_AFTER: Final = f"""
SELECT {_COLUMNS} FROM unnest($1::bigint[], $2::bigint[]) AS w (user_id, since)
CROSS JOIN LATERAL (
    SELECT * FROM notifications n WHERE n.user_id = w.user_id AND n.seq > w.since
    ORDER BY n.seq LIMIT $3) AS n
ORDER BY n.user_id, n.seq"""


async def after(database: Database, since: Mapping[int, int], limit: int) -> list[Notification]:
    """What each of these people was told after a number, in order, ``limit`` each at most."""
    return [
        _notification(row)
        for row in await database.fetch(_AFTER, list(since), list(since.values()), limit)
    ]


async def page(
    database: Database,
    user: int,
    *,
    before: int | None = None,
    limit: int = 50,
    unread: bool = False,
) -> list[Notification]:
    """What a person was told, newest first, from ``before`` (exclusive) on."""
    rows = await database.fetch(
        f"SELECT {_COLUMNS} FROM notifications n WHERE user_id = $1 AND seq < $2"
        f"{' AND read_at IS NULL' if unread else ''} ORDER BY seq DESC LIMIT $3",
        user,
        before if before is not None else 2**63 - 1,
        limit,
    )
    return [_notification(row) for row in rows]


async def heads(database: Database, users: Sequence[int]) -> dict[int, int]:
    """The last number given to each of these people; who was never told anything is left out."""
    rows = await database.fetch(
        "SELECT user_id, last FROM notification_heads WHERE user_id = ANY($1)", list(users)
    )
    return {row["user_id"]: row["last"] for row in rows}


async def standing(database: Database, user: int) -> tuple[int, int]:
    """The last number given to a person, and how much is unread, up to one past the maximum."""
    row = await database.fetchrow(
        "SELECT coalesce((SELECT last FROM notification_heads WHERE user_id = $1), 0) AS last,"
        " (SELECT count(*) FROM (SELECT FROM notifications WHERE user_id = $1"
        " AND read_at IS NULL AND seq IS NOT NULL LIMIT $2) AS u) AS unread",
        user,
        UNREAD_MAX + 1,
    )
    assert row is not None
    return row["last"], row["unread"]


def _notification(row: Any) -> Notification:
    return Notification(
        row["user_id"],
        row["seq"],
        row["kind"],
        msgspec.json.decode(row["details"], type=dict[str, str]),
        row["at"],
        row["read_at"],
    )


# -- what people do with it -------------------------------------------------------------------


async def mark_read(database: Database, user: int, seq: int) -> bool:
    """Mark one as read; whether there is such a one."""
    done = await database.execute(
        "UPDATE notifications SET read_at = coalesce(read_at, now())"
        " WHERE user_id = $1 AND seq = $2",
        user,
        seq,
    )
    return bool(done == "UPDATE 1")


async def mark_all_read(database: Database, user: int, until: int) -> int:
    """Mark everything up to a number as read; how much was not."""
    done = await database.execute(
        "UPDATE notifications SET read_at = now()"
        " WHERE user_id = $1 AND seq <= $2 AND read_at IS NULL",
        user,
        until,
    )
    return int(done.removeprefix("UPDATE "))


async def forget(database: Database, before: datetime, limit: int = 1_000) -> int:
    """Delete what was told before a moment, the oldest first, so much at most; how much it was.

    What a delivery that was given up still needs stays.
    """
    done = await database.execute(
        "DELETE FROM notifications n USING"
        " (SELECT id, at FROM notifications ORDER BY id LIMIT $2) AS o"
        " WHERE n.id = o.id AND o.at < $1 AND NOT EXISTS"
        " (SELECT FROM deliveries d WHERE d.notification_id = n.id AND d.state <> 'sent')",
        before,
        limit,
    )
    return int(done.removeprefix("DELETE "))


async def choices_of(database: Database, user: int) -> Choices:
    """What a person has chosen."""
    rows = await database.fetch(
        "SELECT kind, channel, wanted FROM notification_preferences WHERE user_id = $1", user
    )
    return {
        (Kind(row["kind"]), Channel(row["channel"])): row["wanted"]
        for row in rows
        if row["kind"] in KINDS
    }


async def who_chose(database: Database, kind: Kind) -> list[int]:
    """The people who want to hear of a kind, be it over one channel."""
    rows = await database.fetch(
        "SELECT DISTINCT user_id FROM notification_preferences WHERE kind = $1 AND wanted", kind
    )
    return [row["user_id"] for row in rows]


async def choose(database: Database, user: int, choices: Choices) -> None:
    """Store choices; raises ``ValueError`` for what cannot be chosen."""
    for kind, channel in choices:
        if not may_choose(kind, channel):
            raise ValueError(f"{kind} by {channel} cannot be chosen")
    await database.execute(
        "INSERT INTO notification_preferences (user_id, kind, channel, wanted)"
        " SELECT $1, * FROM unnest($2::text[], $3::text[], $4::boolean[])"
        " ON CONFLICT (user_id, kind, channel) DO UPDATE SET wanted = excluded.wanted",
        user,
        [kind.value for kind, _ in choices],
        [channel.value for _, channel in choices],
        list(choices.values()),
    )

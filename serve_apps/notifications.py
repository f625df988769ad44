"""What a person has been told: the list, what is read, and what they want to hear of.

For pages, API and live connections alike. Reads and writes through ``persistence.notifications``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from actors.notifications.rendering import brief
from domain.durable import Rejection
from domain.notifications import KINDS, Channel, Choices, Kind, may_choose
from persistence import notifications as store
from persistence.notifications import UNREAD_MAX, Notification
from serve_apps.services import Services

PAGE_SIZE: Final = 30
PAGE_SIZE_MAX: Final = 100


class Item(msgspec.Struct, frozen=True):
    """A notification in words. ``path`` is below the person's own pages, or empty."""

    seq: int
    kind: str
    at: datetime
    read: bool
    title: str
    text: str
    path: str
    values: dict[str, str]


class Listed(msgspec.Struct, frozen=True):
    """A page of notifications, newest first; ``next`` is where the next one begins, if any.

    ``last`` is the latest number there is, ``unread`` how many are unread, up to 100.
    """

    items: list[Item]
    next: str | None
    last: int
    unread: int


class Preference(msgspec.Struct, frozen=True):
    """Over which channels somebody hears of a kind.

    ``channels`` are those that there are for it, ``fixed`` those of them that cannot be changed.
    """

    kind: str
    group: str
    label: str
    channels: dict[str, bool]
    fixed: list[str]


def item(row: Notification, language: str = "en") -> Item:
    """A stored notification in words."""
    words = brief(row.kind, row.values, language)
    return Item(
        row.seq,
        row.kind,
        row.at,
        row.read_at is not None,
        words.title,
        words.line,
        words.path,
        row.values,
    )


async def listed(
    services: Services,
    user: int,
    *,
    before: int | None = None,
    limit: int = PAGE_SIZE,
    unread: bool = False,
) -> Listed:
    """A page of what a person was told."""
    rows = await store.page(services.pool, user, before=before, limit=limit + 1, unread=unread)
    last, count = await store.standing(services.pool, user)
    more = len(rows) > limit
    rows = rows[:limit]
    return Listed(
        [item(row) for row in rows],
        str(rows[-1].seq) if more else None,
        last,
        count,
    )


async def bell(services: Services, user: int) -> tuple[int, str]:
    """The last number a person was told, and how much is unread, in words for a small badge."""
    last, unread = await store.standing(services.pool, user)
    return last, badge(unread)


def badge(unread: int) -> str:
    """A count that fits on a bell; empty for nothing."""
    if unread == 0:
        return ""
    return str(unread) if unread <= UNREAD_MAX else f"{UNREAD_MAX}+"


async def mark_read(services: Services, user: int, seq: int) -> Rejection | None:
    """Mark one as read."""
    if seq < 2**63 and await store.mark_read(services.pool, user, seq):
        return None
    return Rejection("not_found")


async def mark_all_read(services: Services, user: int, until: int) -> int:
    """Mark everything up to a number as read: what came while the person looked stays unread."""
    return await store.mark_all_read(services.pool, user, min(until, 2**63 - 1))


async def preferences(services: Services, user: int) -> list[Preference]:
    """What a person hears of, by group."""
    choices = await store.choices_of(services.pool, user)
    return [preference(kind, choices) for kind in shown_kinds()]


def shown_kinds() -> list[Kind]:
    """The kinds that somebody may be told of unasked, in the order of their groups."""
    kinds = [kind for kind, rule in KINDS.items() if not rule.secret]
    order = list(dict.fromkeys(KINDS[kind].group for kind in kinds))
    return sorted(kinds, key=lambda kind: order.index(KINDS[kind].group))


def preference(kind: Kind, choices: Choices) -> Preference:
    """A kind with what somebody chose for it."""
    rule = KINDS[kind]
    return Preference(
        kind.value,
        rule.group.value,
        rule.label,
        {
            channel.value: channel in rule.fixed
            or choices.get((kind, channel), channel in rule.default)
            for channel in Channel
            if channel in rule.offered
        },
        [channel.value for channel in Channel if channel in rule.fixed],
    )


async def choose(
    services: Services, user: int, chosen: Mapping[str, Mapping[str, bool]]
) -> Rejection | None:
    """Store choices, by kind and channel; all of them, or none if one cannot be made.

    Saying again what is fixed is no error; saying the opposite is.
    """
    choices: dict[tuple[Kind, Channel], bool] = {}
    for name, channels in chosen.items():
        if name not in KINDS:
            return Rejection("notification_kind_unknown", {"kind": name[:40]})
        kind = Kind(name)
        for of, on in channels.items():
            if of not in {channel.value for channel in KINDS[kind].offered}:
                return Rejection("notification_channel_unknown", {"kind": name, "channel": of[:40]})
            if may_choose(kind, Channel(of)):
                choices[kind, Channel(of)] = on
            elif not on:
                return Rejection("notification_fixed", {"kind": name, "channel": of})
    if choices:
        await store.choose(services.pool, user, choices)
    return None


def live_payload(rows: Iterable[Notification]) -> dict[str, Any]:
    """What an open page is told of new notifications, in order."""
    return {"items": [msgspec.to_builtins(item(row)) for row in rows]}

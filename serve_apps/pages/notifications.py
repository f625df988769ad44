"""The pages of notifications: the list, marking as read, and what somebody wants to hear of."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from domain.notifications import KINDS, Channel, Group, may_choose
from serve_apps import notifications
from serve_apps.pages.visit import Refused, Visit
from serve_apps.paths import read_number

GROUP_WORDS: Final = {
    Group.SECURITY: "Security",
    Group.ACCOUNT: "Your login",
    Group.PAYMENTS: "Payments",
    Group.TRADING: "Trading",
    Group.DEVELOPER: "Programs",
}
CHANNEL_WORDS: Final = {
    Channel.APP: "In Kontor",
    Channel.EMAIL: "E-mail",
    Channel.WEBHOOK: "Webhook",
}


async def show(visit: Visit) -> Response:
    """What the customer was told, newest first."""
    before = read_number(visit.query.get("before", ""))
    unread = visit.query.get("show") == "unread"
    listed = await notifications.listed(visit.services, visit.user, before=before, unread=unread)
    return visit.page("notifications/list.html", listed=listed, unread=unread, before=before)


async def read(visit: Visit) -> Response:
    """Mark one, or everything up to one, as read."""
    form = await visit.form()
    until, one = read_number(form.get("until", "")), read_number(form.get("seq", ""))
    if until is not None:
        await notifications.mark_all_read(visit.services, visit.user, until)
    elif one is not None:
        if await notifications.mark_read(visit.services, visit.user, one) is not None:
            raise Refused(404)
    else:
        raise Refused(400)
    return visit.go(f"{visit.home}notifications/")


async def preferences(visit: Visit) -> Response:
    """What the customer hears of."""
    rows = await notifications.preferences(visit.services, visit.user)
    groups = {
        words: [row for row in rows if row.group == group] for group, words in GROUP_WORDS.items()
    }
    return visit.page(
        "notifications/preferences.html",
        groups={words: rows for words, rows in groups.items() if rows},
        channels={channel.value: words for channel, words in CHANNEL_WORDS.items()},
    )


async def choose(visit: Visit) -> Response:
    """Store what the customer wants to hear of: what has no tick is off."""
    form = await visit.form()
    chosen = {
        kind.value: {
            channel.value: f"{kind}.{channel}" in form
            for channel in KINDS[kind].offered
            if may_choose(kind, channel)
        }
        for kind in notifications.shown_kinds()
    }
    refused = await notifications.choose(visit.services, visit.user, chosen)
    assert refused is None, refused
    return visit.go(f"{visit.home}notifications/preferences", notice="preferences")

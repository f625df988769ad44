"""Operations on notifications: the list, what is read, and what somebody wants to hear of."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.durable import Rejection
from serve_apps import notifications
from serve_apps.api.bodies import DoneBody
from serve_apps.api.forms import Form
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.notifications import PAGE_SIZE, PAGE_SIZE_MAX, Listed, Preference
from serve_apps.paths import read_number


class ReadForm(Form):
    """Up to where notifications have been read."""

    until: Annotated[int, Field(ge=1, lt=2**63, description="The number of the latest one read")]


class ReadBody(msgspec.Struct):
    """How many of them had not been read before."""

    read: int


class PreferencesForm(Form):
    """What to change: kinds, and by channel whether it is wanted."""

    kinds: Annotated[dict[str, dict[str, bool]], Field(max_length=100)]


class PreferencesBody(msgspec.Struct):
    """Every kind with its channels."""

    kinds: list[Preference]


async def show(call: Call) -> Outcome:
    """What the user was told, newest first."""
    query = call.query(("cursor", "limit", "unread"))
    if isinstance(query, Rejection):
        return query
    cursor, limit = query.get("cursor"), query.get("limit", str(PAGE_SIZE))
    if cursor is not None and read_number(cursor) is None:
        return Rejection("cursor_invalid")
    if not 1 <= (read_number(limit) or 0) <= PAGE_SIZE_MAX:
        return Rejection("malformed_query", {"parameter": "limit"})
    if query.get("unread", "false") not in ("true", "false"):
        return Rejection("malformed_query", {"parameter": "unread"})
    return Answer(
        await notifications.listed(
            call.services,
            call.user,
            before=None if cursor is None else int(cursor),
            limit=int(limit),
            unread=query.get("unread") == "true",
        )
    )


async def read(call: Call) -> Outcome:
    """Mark one as read."""
    number = call.number("notification")
    if number is None:
        return Rejection("not_found")
    return await notifications.mark_read(call.services, call.user, number) or Answer(DoneBody())


async def read_all(call: Call) -> Outcome:
    """Mark everything up to a number as read."""
    form: ReadForm = call.body
    count = await notifications.mark_all_read(call.services, call.user, form.until)
    return Answer(ReadBody(count))


async def preferences(call: Call) -> Outcome:
    """What the user wants to hear of."""
    return Answer(PreferencesBody(await notifications.preferences(call.services, call.user)))


async def choose(call: Call) -> Outcome:
    """Change what the user wants to hear of."""
    form: PreferencesForm = call.body
    refused = await notifications.choose(call.services, call.user, form.kinds)
    return refused or await preferences(call)


_ITEM: Final[dict[str, Any]] = {
    "seq": 12,
    "kind": "transfer_received",
    "at": "2026-11-20T09:30:00.000Z",
    "read": False,
    "title": "You received 12.50 USD",
    "text": "From Ben Example, to account 1000 0000 0101 16",
    "path": "transaction/0123456789abcdef0123456789abcdef/",
    "values": {
        "amount": "12.50",
        "currency": "USD",
        "account": "10000000010116",
        "counterparty": "10000000020131",
        "name": "Ben Example",
        "transfer": "0123456789abcdef0123456789abcdef",
    },
}
_PREFERENCES: Final[dict[str, Any]] = {
    "kinds": [
        {
            "kind": "transfer_received",
            "group": "payments",
            "label": "Money received",
            "channels": {"app": True, "email": False, "webhook": True},
            "fixed": [],
        }
    ]
}

OPERATIONS: Final = (
    Operation(
        name="notifications",
        method="GET",
        path="/api/user/{user}/notification/",
        handler=show,
        summary="Notifications, newest first",
        description=(
            "`seq` numbers a user's notifications without gaps. `path` is where it is about, below"
            " `/user/{user}/`. `next` is the cursor of the next page."
        ),
        tag="Notifications",
        answer=Listed,
        answer_example={"items": [_ITEM], "next": None, "last": 12, "unread": 1},
        parameters=(
            Parameter("cursor", "Where to go on: `next` of the page before"),
            Parameter("limit", f"How many, up to {PAGE_SIZE_MAX}", "30"),
            Parameter("unread", "Only what is unread", choices=("true", "false")),
        ),
        codes=("malformed_query", "cursor_invalid"),
    ),
    Operation(
        name="read_notifications",
        method="POST",
        path="/api/user/{user}/notification/read",
        handler=read_all,
        summary="Mark everything up to a number as read",
        tag="Notifications",
        body=ReadForm,
        body_example={"until": 12},
        answer=ReadBody,
        answer_example={"read": 1},
    ),
    Operation(
        name="notification_preferences",
        method="GET",
        path="/api/user/{user}/notification/preferences/",
        handler=preferences,
        summary="What you are told of, and over which channels",
        tag="Notifications",
        answer=PreferencesBody,
        answer_example=_PREFERENCES,
    ),
    Operation(
        name="choose_notifications",
        method="POST",
        path="/api/user/{user}/notification/preferences/",
        handler=choose,
        summary="Change what you are told of",
        description="What is not named stays as it is. `fixed` channels cannot be switched off.",
        tag="Notifications",
        body=PreferencesForm,
        body_example={"kinds": {"transfer_received": {"email": True}}},
        answer=PreferencesBody,
        answer_example=_PREFERENCES,
        codes=(
            "notification_kind_unknown",
            "notification_channel_unknown",
            "notification_fixed",
        ),
    ),
    Operation(
        name="read_notification",
        method="POST",
        path="/api/user/{user}/notification/{notification}/read",
        handler=read,
        summary="Mark a notification as read",
        tag="Notifications",
        answer=DoneBody,
        answer_example={"done": True},
    ),
)

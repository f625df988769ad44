"""Operations on messages that could not be delivered, for operators."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.durable import Rejection
from domain.identity.permissions import Permission
from persistence.deliveries import Dead
from serve_apps import mail
from serve_apps.api.bodies import DoneBody, moment_text
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.paths import read_number

_CHANNELS: Final = ("email", "webhook")


class DeadLetterBody(msgspec.Struct):
    """A message that was given up; never with what is secret in it.

    ``to`` is an e-mail address, or the URL of an endpoint; ``status`` what the other side's last
    answer was, null when there was none.
    """

    id: str
    channel: str
    user: str
    to: str
    kind: str
    attempts: int
    status: int | None
    error: str
    created_at: str
    given_up_at: str


class DeadLettersBody(msgspec.Struct):
    """Messages that were given up, newest first; ask again with ``cursor``, null at the end."""

    messages: list[DeadLetterBody]
    next_cursor: str | None


async def dead_letters(call: Call) -> Outcome:
    """What was given up."""
    asked = call.query(("channel", "cursor"))
    if isinstance(asked, Rejection):
        return asked
    channel, cursor = asked.get("channel", ""), asked.get("cursor", "")
    if channel and channel not in _CHANNELS:
        return Rejection("malformed_query", {"parameter": "channel"})
    before = read_number(cursor)
    if cursor and before is None:
        return Rejection("cursor_invalid")
    rows = await mail.dead_letters(call.services, before=before, channel=channel)
    more = str(rows[-1].id) if len(rows) == mail.PAGE else None
    return Answer(DeadLettersBody([_body(row) for row in rows], more))


async def resend(call: Call) -> Outcome:
    """Have one sent again."""
    number = call.number("message")
    if number is None or not await mail.resend(call.services, call.actor, number):
        return Rejection("not_found")
    return Answer(DoneBody(), 202)


def _body(row: Dead) -> DeadLetterBody:
    return DeadLetterBody(
        str(row.id),
        row.channel,
        str(row.user),
        row.target,
        row.kind or "ping",
        row.attempts,
        row.last_status,
        row.last_error,
        moment_text(row.created_at),
        moment_text(row.done_at),
    )


_DEAD: Final[dict[str, Any]] = {
    "id": "4711",
    "channel": "email",
    "user": "1234567890",
    "to": "ann@example.com",
    "kind": "password_changed",
    "attempts": 1,
    "status": 550,
    "error": "550: 5.1.1 Nobody here",
    "created_at": "2026-11-20T09:30:00.000000Z",
    "given_up_at": "2026-11-20T09:30:00.125000Z",
}

OPERATIONS: Final = (
    Operation(
        name="dead_letters",
        method="GET",
        path="/api/operations/mail/",
        handler=dead_letters,
        summary="Messages that could not be delivered",
        tag="Operations",
        access="user",
        permission=Permission.MAIL_READ,
        parameters=(
            Parameter("channel", "Of one channel alone", "email", choices=_CHANNELS),
            Parameter("cursor", "Where the page before ended"),
        ),
        answer=DeadLettersBody,
        answer_example={"messages": [_DEAD], "next_cursor": None},
        codes=("malformed_query", "cursor_invalid"),
    ),
    Operation(
        name="resend_dead_letter",
        method="POST",
        path="/api/operations/mail/{message}/resend/",
        handler=resend,
        summary="Have a message sent again",
        tag="Operations",
        access="user",
        permission=Permission.MAIL_RESEND,
        status=202,
        answer=DoneBody,
        answer_example={"done": True},
    ),
)

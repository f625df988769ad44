"""Operations on webhook endpoints, to which a customer's programs are told what happens."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.durable import Rejection
from persistence.webhooks import ENDPOINTS_MAX, DeliveryRow, EndpointRow
from serve_apps import webhooks
from serve_apps.api.bodies import DoneBody, moment_text
from serve_apps.api.forms import Form
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.webhooks import MadeEndpoint


class WebhookForm(Form):
    """An endpoint to be made."""

    label: Annotated[str, Field(max_length=1_000, description="1 to 80 characters")]
    url: Annotated[str, Field(max_length=2_000, description="Where to send to, https")]
    kinds: Annotated[
        tuple[str, ...], Field(max_length=100, description="Kinds to be told of; none for all")
    ] = ()


class WebhookBody(msgspec.Struct):
    """An endpoint; ``state`` is ``on``, ``failing`` or ``off``, for the ``reason`` given.

    ``previous_secret_until`` is until when the secret before the last rotation signs, too.
    """

    id: str
    label: str
    url: str
    kinds: list[str]
    state: str
    reason: str
    created_at: str
    last_ok_at: str | None
    failing_since: str | None
    previous_secret_until: str | None


class WebhooksBody(msgspec.Struct):
    """The user's endpoints, and the kinds that there are."""

    webhooks: list[WebhookBody]
    kinds: list[str]


class MadeWebhookBody(msgspec.Struct):
    """An endpoint with its new secret, which is shown this once."""

    webhook: WebhookBody
    secret: str


class MessageBody(msgspec.Struct):
    """A message to an endpoint; ``state`` is ``pending``, ``sent`` or ``dead``.

    ``kind`` is ``ping`` for a test. ``status`` is the HTTP status of the last attempt, null when
    there was no answer; ``next_attempt_at`` is null unless it is pending.
    """

    id: str
    kind: str
    state: str
    attempts: int
    status: int | None
    error: str
    created_at: str
    next_attempt_at: str | None
    done_at: str | None


class WebhookDetailBody(msgspec.Struct):
    """An endpoint, and what was sent there lately, newest first."""

    webhook: WebhookBody
    messages: list[MessageBody]


class PingBody(msgspec.Struct):
    """A test that is being sent."""

    message: str


def state_of(row: EndpointRow) -> str:
    """How an endpoint is."""
    if row.disabled_at is not None:
        return "off"
    return "on" if row.failing_since is None else "failing"


async def show(call: Call) -> Outcome:
    """The user's endpoints."""
    rows = await webhooks.endpoints(call.services, call.user)
    kinds = [kind.value for kind in webhooks.OFFERED]
    return Answer(WebhooksBody([_body(row) for row in rows], kinds))


async def make(call: Call) -> Outcome:
    """Make an endpoint."""
    form: WebhookForm = call.body
    made = await webhooks.add(call.services, call.actor, form.label, form.url, form.kinds)
    return made if isinstance(made, Rejection) else Answer(_made(made), 201)


async def detail(call: Call) -> Outcome:
    """An endpoint with its messages."""
    number = call.number("webhook")
    found = None if number is None else await webhooks.look(call.services, call.user, number)
    if found is None:
        return Rejection("not_found")
    endpoint, rows = found
    return Answer(WebhookDetailBody(_body(endpoint), [_message(row) for row in rows]))


async def delete(call: Call) -> Outcome:
    """Delete an endpoint."""
    number = call.number("webhook")
    if number is None or not await webhooks.delete(call.services, call.actor, number):
        return Rejection("not_found")
    return Answer(DoneBody())


async def rotate(call: Call) -> Outcome:
    """Give an endpoint a new secret."""
    number = call.number("webhook")
    made = None if number is None else await webhooks.rotate(call.services, call.actor, number)
    return Rejection("not_found") if made is None else Answer(_made(made))


async def ping(call: Call) -> Outcome:
    """Send a test."""
    number = call.number("webhook")
    if number is None:
        return Rejection("not_found")
    sent = await webhooks.ping(call.services, call.actor, number)
    return sent if isinstance(sent, Rejection) else Answer(PingBody(str(sent)), 202)


async def enable(call: Call) -> Outcome:
    """Switch an endpoint on again."""
    number = call.number("webhook")
    if number is None:
        return Rejection("not_found")
    refused = await webhooks.enable(call.services, call.actor, number)
    return refused or Answer(DoneBody())


def _body(row: EndpointRow) -> WebhookBody:
    return WebhookBody(
        str(row.id),
        row.label,
        row.url,
        row.kinds,
        state_of(row),
        row.disabled_reason,
        moment_text(row.created_at),
        None if row.last_ok_at is None else moment_text(row.last_ok_at),
        None if row.failing_since is None else moment_text(row.failing_since),
        None if row.previous_until is None else moment_text(row.previous_until),
    )


def _made(made: MadeEndpoint) -> MadeWebhookBody:
    return MadeWebhookBody(_body(made.endpoint), made.secret)


def _message(row: DeliveryRow) -> MessageBody:
    return MessageBody(
        str(row.id),
        row.kind or "ping",
        row.state,
        row.attempts,
        row.last_status,
        row.last_error or "",
        moment_text(row.created_at),
        moment_text(row.next_at) if row.state == "pending" else None,
        None if row.done_at is None else moment_text(row.done_at),
    )


_WEBHOOK: Final[dict[str, Any]] = {
    "id": "7",
    "label": "shop",
    "url": "https://shop.example/hooks",
    "kinds": ["transfer_received"],
    "state": "on",
    "reason": "",
    "created_at": "2026-11-20T09:30:00.000000Z",
    "last_ok_at": None,
    "failing_since": None,
    "previous_secret_until": None,
}
_MADE: Final[dict[str, Any]] = {
    "webhook": _WEBHOOK,
    "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=",
}
_PATH: Final = "/api/user/{user}/webhook/"
_TAG: Final = "Webhooks"

OPERATIONS: Final = (
    Operation(
        name="webhooks",
        method="GET",
        path=_PATH,
        handler=show,
        summary="Webhook endpoints",
        tag=_TAG,
        answer=WebhooksBody,
        answer_example={"webhooks": [_WEBHOOK], "kinds": ["transfer_received"]},
    ),
    Operation(
        name="make_webhook",
        method="POST",
        path=_PATH,
        handler=make,
        summary="Make a webhook endpoint",
        description=(
            f"A user has at most {ENDPOINTS_MAX}. Messages are signed as Standard Webhooks says,"
            " with the secret that is in this answer and nowhere else."
        ),
        tag=_TAG,
        body=WebhookForm,
        body_example={
            "label": "shop",
            "url": "https://shop.example/hooks",
            "kinds": ["transfer_received"],
        },
        status=201,
        answer=MadeWebhookBody,
        answer_example=_MADE,
        codes=("label_invalid", "url_invalid", "kinds_invalid", "too_many_webhooks"),
    ),
    Operation(
        name="webhook",
        method="GET",
        path=_PATH + "{webhook}/",
        handler=detail,
        summary="A webhook endpoint, and what was sent there lately",
        tag=_TAG,
        answer=WebhookDetailBody,
        answer_example={
            "webhook": _WEBHOOK,
            "messages": [
                {
                    "id": "4711",
                    "kind": "transfer_received",
                    "state": "sent",
                    "attempts": 1,
                    "status": 204,
                    "error": "",
                    "created_at": "2026-11-20T09:30:00.000000Z",
                    "next_attempt_at": None,
                    "done_at": "2026-11-20T09:30:00.125000Z",
                }
            ],
        },
    ),
    Operation(
        name="delete_webhook",
        method="DELETE",
        path=_PATH + "{webhook}/",
        handler=delete,
        summary="Delete a webhook endpoint",
        tag=_TAG,
        answer=DoneBody,
        answer_example={"done": True},
    ),
    Operation(
        name="rotate_webhook_secret",
        method="POST",
        path=_PATH + "{webhook}/secret/",
        handler=rotate,
        summary="Give a webhook endpoint a new secret",
        description="For a day messages are signed with both, this one and the one before.",
        tag=_TAG,
        answer=MadeWebhookBody,
        answer_example=_MADE,
    ),
    Operation(
        name="ping_webhook",
        method="POST",
        path=_PATH + "{webhook}/ping/",
        handler=ping,
        summary="Send a test to a webhook endpoint",
        tag=_TAG,
        status=202,
        answer=PingBody,
        answer_example={"message": "4711"},
        codes=("webhook_disabled",),
    ),
    Operation(
        name="enable_webhook",
        method="POST",
        path=_PATH + "{webhook}/enable/",
        handler=enable,
        summary="Switch a webhook endpoint on again",
        description="What happened while it was off is not made up for.",
        tag=_TAG,
        answer=DoneBody,
        answer_example={"done": True},
    ),
)

"""Operations on API keys, with which programs use the trading API."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.durable import Rejection
from persistence.apikeys import KEYS_MAX
from serve_apps import apikeys
from serve_apps.api.bodies import DoneBody, moment_text
from serve_apps.api.forms import Form
from serve_apps.api.routing import Answer, Call, Operation, Outcome


class KeyForm(Form):
    """A key to be made. Without ``public_key`` it is an HMAC key and gets a secret."""

    label: Annotated[str, Field(max_length=1_000, description="1 to 80 characters")]
    scopes: Annotated[list[str], Field(max_length=10, description="`read`, `trade` or both")]
    networks: Annotated[
        tuple[str, ...],
        Field(max_length=100, description="Addresses or networks to use it from; none for all"),
    ] = ()
    public_key: Annotated[
        str, Field(max_length=1_000, description="An Ed25519 public key in PEM")
    ] = ""


class KeyBody(msgspec.Struct):
    """An API key; its secret cannot be seen again."""

    id: str
    key: str
    kind: str
    label: str
    scopes: list[str]
    networks: list[str]
    created_at: str
    last_used_at: str | None


class KeysBody(msgspec.Struct):
    """The user's valid keys, newest first."""

    keys: list[KeyBody]


class MadeKeyBody(msgspec.Struct):
    """A new key with its secret, which is shown this once; empty for an Ed25519 key."""

    id: str
    key: str
    kind: str
    label: str
    scopes: list[str]
    networks: list[str]
    created_at: str
    secret: str


async def show(call: Call) -> Outcome:
    """The user's keys."""
    return Answer(
        KeysBody(
            [
                KeyBody(
                    str(row.id),
                    row.key,
                    row.kind,
                    row.label,
                    row.scopes,
                    row.networks,
                    moment_text(row.created_at),
                    None if row.last_used_at is None else moment_text(row.last_used_at),
                )
                for row in await apikeys.list_keys(call.services, call.user)
            ]
        )
    )


async def make(call: Call) -> Outcome:
    """Make a key."""
    form: KeyForm = call.body
    made = await apikeys.make(
        call.services,
        call.principal,
        call.client,
        form.label,
        form.scopes,
        " ".join(form.networks),
        form.public_key,
    )
    if isinstance(made, Rejection):
        return made
    body = MadeKeyBody(
        str(made.id),
        made.key,
        made.kind,
        made.label,
        list(made.scopes),
        list(made.networks),
        moment_text(made.created_at),
        made.secret,
    )
    return Answer(body, 201)


async def revoke(call: Call) -> Outcome:
    """End a key."""
    number = call.number("key")
    if number is None or not await apikeys.revoke(
        call.services, call.principal, call.client, number
    ):
        return Rejection("not_found")
    return Answer(DoneBody())


_KEY: Final[dict[str, Any]] = {
    "id": "7",
    "key": "vZ0nTnWfYqHb5c2oTqf0kA1sVd3xJm8rEuQyLg6iPpC4wNhK9zRbXt7jGlSaMeDo",
    "kind": "hmac",
    "label": "my bot",
    "scopes": ["read", "trade"],
    "networks": ["192.0.2.0/24"],
    "created_at": "2026-11-20T09:30:00.000000Z",
}

OPERATIONS: Final = (
    Operation(
        name="api_keys",
        method="GET",
        path="/api/user/{user}/api-key/",
        handler=show,
        summary="API keys of the trading API",
        tag="Exchange",
        answer=KeysBody,
        answer_example={"keys": [{**_KEY, "last_used_at": None}]},
    ),
    Operation(
        name="make_api_key",
        method="POST",
        path="/api/user/{user}/api-key/",
        handler=make,
        summary="Make an API key",
        description=(
            f"A user has at most {KEYS_MAX}. The secret is in this answer and nowhere else."
        ),
        tag="Exchange",
        body=KeyForm,
        body_example={"label": "my bot", "scopes": ["read", "trade"], "networks": ["192.0.2.0/24"]},
        status=201,
        answer=MadeKeyBody,
        answer_example={
            **_KEY,
            "secret": "hT5oYxk2Qm9ZbW1nVd7RsLc4JfPa0EuGi8tKy3XvNqBz6jMeOlSwHrCgDpIxTbUf",
        },
        codes=(
            "label_invalid",
            "scopes_invalid",
            "networks_invalid",
            "public_key_invalid",
            "too_many_keys",
        ),
    ),
    Operation(
        name="revoke_api_key",
        method="DELETE",
        path="/api/user/{user}/api-key/{key}/",
        handler=revoke,
        summary="Revoke an API key, at once",
        tag="Exchange",
        answer=DoneBody,
        answer_example={"done": True},
    ),
)

"""From a delivery to what is sent: the mail in the reader's words, the webhook's body, their names.

Pure but for the texts that rendering reads from its templates. A delivery becomes the same mail,
and the same body, however often it is sent.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final
from urllib.parse import urlencode

import jinja2
import msgspec

from actors.mail import Mail
from actors.notifications.rendering import render
from actors.sending import identifier
from domain.notifications import KINDS, Channel, Kind, may_choose
from persistence.deliveries import Delivery

PING: Final = "ping"
"""The type of a webhook that only tests whether it arrives."""

LANGUAGE: Final = "en"

Write = Callable[[Delivery], Mail]


def writer(secret_key: bytes, public_url: str) -> Write:
    """How mails are written. What it returns raises ``ValueError`` for what cannot be."""

    def write(delivery: Delivery) -> Mail:
        kind = delivery.kind or ""
        try:
            rendered = render(
                kind,
                delivery.values,
                LANGUAGE,
                secret=delivery.secret,
                public_url=public_url,
                user=delivery.user,
            )
        except jinja2.TemplateError as error:
            raise ValueError(f"{kind}: {error}") from error
        unsubscribe = ""
        if kind in KINDS and may_choose(Kind(kind), Channel.EMAIL):
            unsubscribe = unsubscribe_url(secret_key, public_url, delivery.user, Kind(kind))
        return Mail(
            key=delivery.key,
            to=delivery.target,
            to_name=delivery.name,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            at=delivery.at,
            language=LANGUAGE,
            unsubscribe=unsubscribe,
        )

    return write


def unsubscribe_url(secret_key: bytes, public_url: str, user: int, kind: Kind) -> str:
    """Where one click ends mails of a kind, for whoever got one of them."""
    query = {"user": user, "kind": kind.value, "token": unsubscribe_token(secret_key, user, kind)}
    return f"{public_url}/unsubscribe?{urlencode(query)}"


def unsubscribe_token(secret_key: bytes, user: int, kind: Kind) -> str:
    """Proves that somebody has a mail of this kind to this user. It never ends, nor need it."""
    digest = hmac.digest(secret_key, f"unsubscribe\0{user}\0{kind.value}".encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:18]).decode()


def message_name(delivery: Delivery) -> str:
    """The ``webhook-id``: by it a receiver knows what it has seen before."""
    return f"msg_{identifier(delivery.key)}"


def webhook_body(delivery: Delivery) -> bytes:
    """What a webhook tells, as JSON."""
    body = {
        "type": delivery.kind or PING,
        "timestamp": delivery.at.isoformat().replace("+00:00", "Z"),
        "data": {"customer": str(delivery.user), **delivery.values},
    }
    return msgspec.json.encode(body)

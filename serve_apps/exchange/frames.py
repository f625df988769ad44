"""Frames of the websocket API: what is read of them, and answers before they are written."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from serve_apps.exchange.calls import Call, Ticket
from serve_apps.exchange.errors import ErrorBody, Refused


class Request(msgspec.Struct):
    """A text frame."""

    method: str
    id: int | str | None = None
    params: dict[str, Any] = {}


class Response(msgspec.Struct, rename="camel"):
    """The answer to a text frame."""

    id: int | str | None
    status: int
    result: Any = UNSET
    error: ErrorBody | UnsetType = UNSET
    rate_limits: Any = UNSET


def _as_text(number: str) -> str:
    return number


read_request: Final = msgspec.json.Decoder(Request, float_hook=_as_text).decode
encode: Final = msgspec.json.Encoder().encode
encode_binary: Final = msgspec.msgpack.Encoder().encode

Id = int | str | None


class Waiting:
    """A request whose command is on its way to the customer's partition."""

    __slots__ = ("binary", "call", "id", "ticket")

    def __init__(self, number: Id, ticket: Ticket, call: Call, binary: bool) -> None:
        self.id = number
        self.ticket = ticket
        self.call = call
        self.binary = binary


def binary_answer(number: Id, result: Any, refused: Refused | None) -> bytes:
    """The answer to a binary frame: ``[id, 200, at, rows]`` or ``[id, status, code, text]``."""
    if refused is not None:
        return encode_binary((number, refused.status, refused.code, refused.msg))
    return encode_binary((number, 200, result.at, result.rows))

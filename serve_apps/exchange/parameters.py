"""Parameters of a request, however they came: query and form of REST, or JSON of the websocket.

Getters raise ``Refused`` with the dialect's code for what is missing or cannot be read. A number
in JSON is kept as its text, so nothing passes through a binary float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from serve_apps.exchange.errors import Refused, bad_symbol, illegal, missing

FIELDS_MAX: Final = 60
CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9\-_.:/]{1,36}", re.ASCII)
CLIENT_ID_LEGAL: Final = "^[a-zA-Z0-9-_.:/]{1,36}$"
INTEGER_LEGAL: Final = "^[0-9]{1,20}$"

_SYMBOL: Final = re.compile(r"[A-Z0-9]{4,20}", re.ASCII)
_INTEGER: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_INTEGER_MAX: Final = 2**62
_MICROSECONDS_FROM: Final = 10**14

Parameters = dict[str, Any]
"""Name to value: text, or what JSON has beside it."""


def from_form(query: bytes, body: bytes) -> Parameters:
    """Read query and form; where both have a name the query counts. Raises ``Refused``."""
    if not body:
        return _pairs(query)
    found = _pairs(body)
    found.update(_pairs(query))
    return found


def _pairs(content: bytes) -> Parameters:
    if not content:
        return {}
    try:
        text = content.decode()
        if "%" in text or "+" in text:
            pairs = parse_qsl(
                text, keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict"
            )
        else:
            pairs = [(p.partition("=")[0], p.partition("=")[2]) for p in text.split("&") if p]
    except ValueError as error:  # too many fields, or not UTF-8
        raise Refused(-1100, "Illegal characters found in a parameter.") from error
    if len(pairs) > FIELDS_MAX:
        raise Refused(-1101, "Too many parameters sent for this endpoint.")
    found: Parameters = dict(pairs)
    if len(found) != len(pairs):
        raise Refused(-1101, "Duplicate values for a parameter detected.")
    return found


def split_signature(query: bytes, body: bytes) -> tuple[bytes, str]:
    """What was signed, and the signature; empty when there is none. Query and body just meet."""
    for part, is_body in ((body, True), (query, False)):
        start = 0 if part.startswith(b"signature=") else part.rfind(b"&signature=") + 1
        if not start and not part.startswith(b"signature="):
            continue
        end = part.find(b"&", start)
        value = part[start + 10 : end if end >= 0 else None]
        rest = part[: max(start - 1, 0)] + (part[end if start else end + 1 :] if end >= 0 else b"")
        payload = query + rest if is_body else rest + body
        return payload, unquote(value.decode("latin-1"))
    return query + body, ""


def canonical(params: Mapping[str, Any]) -> bytes:
    """What is signed on the websocket: all but the signature, by name, booleans as in JSON."""
    return "&".join(
        f"{name}={_plain(value)}" for name, value in sorted(params.items()) if name != "signature"
    ).encode()


def _plain(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    return str(value)


def text(params: Parameters, name: str) -> str:
    """A parameter's text; empty when it was not sent."""
    value = params.get(name)
    if value is None:
        return ""
    if type(value) is str:
        return value
    if isinstance(value, bool | int):
        return _plain(value)
    raise missing(name)


def required(params: Parameters, name: str) -> str:
    """A parameter's text, which must not be empty."""
    value = text(params, name)
    if not value:
        raise missing(name)
    return value


def integer(params: Parameters, name: str, default: int | None = None) -> int | None:
    """A parameter that is a whole number, not negative."""
    value = text(params, name)
    if not value:
        return default
    if _INTEGER.fullmatch(value) is None:
        raise illegal(name, INTEGER_LEGAL)
    return min(int(value), _INTEGER_MAX)  # there is nothing of ours beyond


def limit(params: Parameters, default: int, limit_max: int) -> int:
    """How many are wanted; more than there may be are as many as there may be."""
    value = integer(params, "limit", default)
    if not value:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(value, limit_max)


def moment(params: Parameters, name: str) -> int | None:
    """A time in microseconds; clients send milliseconds or microseconds."""
    value = integer(params, name)
    if value is None:
        return None
    return value if value >= _MICROSECONDS_FROM else value * 1_000


def until(params: Parameters, name: str) -> int | None:
    """A time as ``moment``, as the end of a time that includes its whole millisecond."""
    value = moment(params, name)
    return None if value is None else value + 1_000


def flag(params: Parameters, name: str) -> bool | None:
    """``true`` or ``false``."""
    value = text(params, name).lower()
    if value not in ("", "true", "false"):
        raise illegal(name, "^(true|false)$")
    return None if not value else value == "true"


def symbol(params: Parameters, name: str = "symbol") -> str:
    """An instrument's symbol, well-formed at least."""
    value = required(params, name)
    if _SYMBOL.fullmatch(value) is None:
        raise (
            bad_symbol()
            if value.isascii() and value.isalnum()
            else illegal(name, "^[A-Z0-9-_.]{1,20}$")
        )
    return value


def client_id(params: Parameters, name: str) -> str:
    """An order id that the client has chosen; empty when it has chosen none."""
    value = text(params, name)
    if value and CLIENT_ID.fullmatch(value) is None:
        raise illegal(name, CLIENT_ID_LEGAL)
    return value

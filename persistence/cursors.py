"""Where a page of a sorted list ended, as a text that its next request carries.

It holds the sort and the values of the last row as Postgres writes them. Whoever sends it may have
made it up: each value is read here, since Postgres reads only those that it comes to compare.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec


class CursorInvalid(Exception):
    """The cursor is not one that the same query gave."""


def _text(value: str) -> None:
    if "\0" in value:
        raise ValueError("Postgres stores no such text")


def _whole(bits: int) -> Callable[[str], None]:
    def read(value: str) -> None:
        if not -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1):
            raise ValueError("too large")

    return read


_READ: Final[Mapping[str, Callable[[str], object]]] = {
    "bigint": _whole(64),
    "smallint": _whole(16),
    "text": _text,
    "timestamptz": datetime.fromisoformat,
    "uuid": UUID,
}
"""By type in Postgres, what fails for a text that is no value of it."""


def write_cursor(sort: str, descending: bool, values: Sequence[str]) -> str:
    """A cursor after the row with these values."""
    packed = msgspec.msgpack.encode([sort, descending, *values])
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(cursor: str, sort: str, descending: bool, types: Sequence[str]) -> list[str]:
    """The values of a cursor, which are of these types. Raises ``CursorInvalid``."""
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        given_sort, given_descending, *values = msgspec.msgpack.decode(packed, type=list[Any])
        sound = len(values) == len(types) and all(isinstance(value, str) for value in values)
        if not sound or (given_sort, given_descending) != (sort, descending):
            raise CursorInvalid
        for value, kind in zip(values, types, strict=True):
            _READ[kind](value)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise CursorInvalid from error
    return values

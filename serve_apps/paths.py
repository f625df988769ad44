"""What stands in paths and forms, read: numbers by which people name what is theirs."""

from __future__ import annotations

from typing import Final

NUMBER_DIGITS_MAX: Final = 18
"""More would not fit into what Postgres stores."""


def read_number(text: str) -> int | None:
    """The number of a row, or ``None`` where there can be no such row."""
    plain = text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX
    return int(text) if plain else None

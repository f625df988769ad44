"""Cursors are read whole before Postgres sees anything of them."""

from __future__ import annotations

import pytest

from persistence.cursors import CursorInvalid, read_cursor, write_cursor

TYPES = ("timestamptz", "bigint", "smallint", "uuid", "text")
GOOD = ("2026-01-01 00:00:00.5+00", "-12", "3", "00000000-0000-0000-0000-000000000001", "é")


def test_what_is_written_is_read() -> None:
    assert read_cursor(write_cursor("date", True, GOOD), "date", True, TYPES) == list(GOOD)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "some day"),
        (0, "294277-01-01"),
        (1, "12.5"),
        (1, str(2**63)),
        (2, str(2**15)),
        (3, "no id"),
        (4, "a\0b"),
    ],
)
def test_a_value_of_another_type_is_refused(place: int, value: str) -> None:
    values = [*GOOD]
    values[place] = value
    with pytest.raises(CursorInvalid):
        read_cursor(write_cursor("date", True, values), "date", True, TYPES)


def test_a_cursor_of_another_list_is_refused() -> None:
    cursor = write_cursor("date", True, GOOD)
    for sort, descending, types in (
        ("amount", True, TYPES),
        ("date", False, TYPES),
        ("date", True, TYPES[:-1]),
    ):
        with pytest.raises(CursorInvalid):
            read_cursor(cursor, sort, descending, types)

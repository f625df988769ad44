"""Codes as people type them, and the time steps that may count."""

from __future__ import annotations

import pytest

from domain.identity.rules import Failures, attempt
from domain.identity.secondfactor import (
    CODE_BACK_OFF,
    RECOVERY_ALPHABET,
    read_code,
    read_recovery_code,
    show_recovery_code,
    steps_at,
)

DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("492039", "492039"),
        (" 492 039 ", "492039"),
        ("492-039", "492039"),
        ("49203", None),
        ("4920391", None),
        ("49203a", None),
        ("٤٩٢٠٣٩", None),
        ("", None),
    ],
)
def test_codes_of_the_moment(text: str, code: str | None) -> None:
    assert read_code(text) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("4f7k-9q2m-x0wd", "4f7k9q2mx0wd"),
        ("4F7K 9Q2M X0WD", "4f7k9q2mx0wd"),
        ("4f7k-9q2m-xOwd", "4f7k9q2mx0wd"),  # a letter that looks like a digit
        ("il00-0000-0000", "110000000000"),
        ("4f7k-9q2m-x0w", None),
        ("4f7k-9q2m-x0wdd", None),
        ("4f7k-9q2m-x0wu", None),  # there is no u
        ("492039", None),
    ],
)
def test_recovery_codes(text: str, code: str | None) -> None:
    assert read_recovery_code(text) == code


def test_a_recovery_code_is_read_as_it_is_shown() -> None:
    assert len(RECOVERY_ALPHABET) == len(set(RECOVERY_ALPHABET)) == 32
    shown = show_recovery_code(RECOVERY_ALPHABET[:12])
    assert shown == "0123-4567-89ab"
    assert read_recovery_code(shown) == RECOVERY_ALPHABET[:12]


@pytest.mark.parametrize(
    ("now_s", "steps"), [(3_000, [99, 100, 101]), (3_029, [99, 100, 101]), (3_030, [100, 101, 102])]
)
def test_the_steps_beside_this_one_are_right_too(now_s: int, steps: list[int]) -> None:
    assert list(steps_at(now_s * 1_000_000)) == steps


def test_a_day_has_room_for_few_guesses() -> None:
    past: Failures | None = None
    now, guesses = 0, 0
    while now < DAY_US:
        judged = attempt(past, CODE_BACK_OFF, now)
        if isinstance(judged, int):
            now += judged * 1_000_000
        else:
            past, guesses = judged, guesses + 1
    assert 50 < guesses <= 110

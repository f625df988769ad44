"""Rules for sign-up, one row a rule, and the arithmetic of back-off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.durable import Rejection
from domain.identity.rules import (
    ACCOUNT_BACK_OFF,
    BackOff,
    Failures,
    IdentityCode,
    SignUp,
    attempt,
    check_email,
    check_name,
    check_sign_up,
    email_key,
)

SECOND = 1_000_000
RULE = BackOff(free=3, first_s=2, most_s=20, forget_s=100)


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("ann@example.com", "ann@example.com"),
        (" Ann.B+x@Example.com ", "Ann.B+x@Example.com"),
        ("a@b.c", "a@b.c"),
        ("ann@localhost", None),
        ("ann@@example.com", None),
        ("ann@example..com", None),
        (".ann@example.com", None),
        ("ann.@example.com", None),
        ("ann@-example.com", None),
        ("ann example@example.com", None),
        ("änn@example.com", None),
        ("ann@example.com\n.", None),
        ("ann@example.com\0", None),
        ("x" * 65 + "@example.com", None),
        ("x@" + "e" * 63 + "." + "y" * 63 + "." + "z" * 63 + "." + "w" * 63 + ".com", None),
        ("", None),
    ],
)
def test_email(text: str, email: str | None) -> None:
    assert check_email(text) == email


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann", "Ann"),
        ("  Ann   B.  Example ", "Ann B. Example"),
        ("E\u0301va", "\u00c9va"),
        ("x" * 100, "x" * 100),
        ("x" * 101, None),
        ("   ", None),
        ("Ann\0", None),
        ("Ann\u202eexe", None),
        ("\ud800", None),
    ],
)
def test_name(text: str, name: str | None) -> None:
    assert check_name(text) == name


@pytest.mark.parametrize(
    ("email", "name", "password", "code"),
    [
        ("ann", "", "", IdentityCode.EMAIL_INVALID),
        ("ann@example.com", "", "", IdentityCode.NAME_INVALID),
        ("ann@example.com", "Ann", "1234567", IdentityCode.PASSWORD_TOO_SHORT),
        ("ann@example.com", "Ann", "x" * 257, IdentityCode.PASSWORD_TOO_LONG),
        ("ann@example.com", "Ann", "Password", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann", "aaaaaaaaaa", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann", "12345678", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann", "1234567890", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann", "hgfedcba", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann", "ANN@example.com", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("annabell@example.com", "Ann", "annabell", IdentityCode.PASSWORD_TOO_SIMPLE),
        ("ann@example.com", "Ann Example", "ann example", IdentityCode.PASSWORD_TOO_SIMPLE),
    ],
)
def test_the_first_rule_that_is_broken_answers(
    email: str, name: str, password: str, code: IdentityCode
) -> None:
    refused = check_sign_up(email, name, password)
    assert isinstance(refused, Rejection)
    assert refused.code == code
    assert refused.fields["field"] in code


def test_a_good_form_comes_back_in_the_form_to_be_stored() -> None:
    accepted = check_sign_up(" ann@example.com", " Ann  B ", " eight chars ")
    assert accepted == SignUp("ann@example.com", "Ann B", " eight chars ")


def test_case_does_not_make_another_address() -> None:
    assert email_key(" Ann@Example.COM") == email_key("ann@example.com")


def test_waits_double_up_to_the_most() -> None:
    now, past, waits = 0, None, []
    for _ in range(9):
        judged = attempt(past, RULE, now)
        assert isinstance(judged, Failures)
        waits.append((judged.blocked_until - now) // SECOND)
        past, now = judged, judged.blocked_until
    assert waits == [0, 0, 0, 2, 4, 8, 16, 20, 20]


def test_an_attempt_while_blocked_is_told_to_wait_and_counts_for_nothing() -> None:
    past = Failures(9, 0, 10 * SECOND)
    assert attempt(past, RULE, 0) == 10
    assert attempt(past, RULE, 9 * SECOND + 1) == 1
    assert isinstance(attempt(past, RULE, 10 * SECOND), Failures)


def test_a_clock_that_is_a_little_behind_does_not_block() -> None:
    assert attempt(Failures(1, 10 * SECOND, 10 * SECOND), RULE, 9 * SECOND) == Failures(
        2, 9 * SECOND, 9 * SECOND
    )


def test_after_a_while_all_is_forgotten() -> None:
    past = Failures(9, 0, 10 * SECOND)
    assert attempt(past, RULE, 100 * SECOND + 1) == Failures(1, 100 * SECOND + 1, 100 * SECOND + 1)


@given(st.lists(st.integers(0, 400), max_size=200))
def test_guesses_are_bounded_whatever_the_rhythm(pauses: list[int]) -> None:
    rule, now, past, allowed = ACCOUNT_BACK_OFF, 0, None, 0
    for pause_s in pauses:
        now += pause_s * SECOND
        judged = attempt(past, rule, now)
        if isinstance(judged, int):
            assert 0 < judged <= rule.most_s
            continue
        past, allowed = judged, allowed + 1
    elapsed_s = now / SECOND
    # Free ones, the doubling ones, then one for each full wait (or each time of forgetting).
    doublings = (rule.most_s // rule.first_s).bit_length() + 1
    rounds = 1 + elapsed_s // rule.forget_s
    assert allowed <= rounds * (rule.free + doublings) + elapsed_s / rule.most_s + 1

"""Which intents a confirmation permits, and which codes may still be given for it."""

from __future__ import annotations

import pytest

from domain.identity.confirmation import (
    FAILURES_MAX,
    Confirmation,
    Intent,
    digest_of,
    judge_code,
    judge_use,
)
from domain.identity.rules import IdentityCode

PAYMENT = Intent("payment", {"destination": "12", "amount": "1000", "currency": "USD"})
DIGEST = digest_of(7, PAYMENT)
USE = b"transfer"


def stored(**changes: object) -> Confirmation:
    values: dict[str, object] = {
        "id": b"i" * 16,
        "user": 7,
        "session": 1,
        "kind": "payment",
        "digest": DIGEST,
        "expires_at": 1_000,
        "confirmed": True,
    }
    return Confirmation(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("user", "intent"),
    [
        (8, PAYMENT),
        (7, Intent("hold_payment", PAYMENT.values)),
        (7, Intent("payment", {**PAYMENT.values, "amount": "1001"})),
        (7, Intent("payment", {**PAYMENT.values, "destination": "13"})),
        (7, Intent("payment", {**PAYMENT.values, "currency": "EUR"})),
        (7, Intent("payment", {"amount": "1000", "currency": "USD"})),
        (7, Intent("payment", {**PAYMENT.values, "more": ""})),
        (7, Intent("payment", {"destination": "121000", "amount": "", "currency": "USD"})),
        (7, Intent("payment", {"destinatio": "n12", "amount": "1000", "currency": "USD"})),
    ],
)
def test_another_intent_has_another_digest(user: int, intent: Intent) -> None:
    assert digest_of(user, intent) != DIGEST


def test_the_order_of_values_does_not_matter() -> None:
    turned = dict(reversed(list(PAYMENT.values.items())))
    assert digest_of(7, Intent("payment", turned)) == DIGEST


@pytest.mark.parametrize(
    ("found", "session", "now", "code"),
    [
        (stored(confirmed=False), 1, 999, None),
        (None, 1, 0, IdentityCode.CONFIRMATION_UNKNOWN),
        (stored(), 2, 0, IdentityCode.CONFIRMATION_UNKNOWN),
        (stored(failures=FAILURES_MAX), 1, 0, IdentityCode.CONFIRMATION_LOCKED),
        (stored(failures=FAILURES_MAX - 1), 1, 0, None),
        (stored(), 1, 1_000, IdentityCode.CONFIRMATION_EXPIRED),
    ],
)
def test_codes_are_taken(
    found: Confirmation | None, session: int, now: int, code: str | None
) -> None:
    refused = judge_code(found, session, now)
    assert (refused.code if refused else None) == code


@pytest.mark.parametrize(
    ("found", "session", "digest", "now", "code"),
    [
        (stored(), 1, DIGEST, 999, None),
        (None, 1, DIGEST, 0, IdentityCode.CONFIRMATION_UNKNOWN),
        (stored(), 2, DIGEST, 0, IdentityCode.CONFIRMATION_UNKNOWN),
        (stored(), 1, b"other", 0, IdentityCode.CONFIRMATION_CHANGED),
        (stored(used_for=b"another"), 1, DIGEST, 0, IdentityCode.CONFIRMATION_USED),
        (stored(used_for=USE), 1, DIGEST, 0, None),
        (stored(used_for=USE), 1, DIGEST, 5_000, None),
        (stored(used_for=USE), 1, b"other", 0, IdentityCode.CONFIRMATION_CHANGED),
        (stored(failures=FAILURES_MAX), 1, DIGEST, 0, IdentityCode.CONFIRMATION_LOCKED),
        (stored(), 1, DIGEST, 1_000, IdentityCode.CONFIRMATION_EXPIRED),
        (stored(confirmed=False), 1, DIGEST, 0, IdentityCode.CONFIRMATION_OPEN),
    ],
)
def test_intents_are_permitted(
    found: Confirmation | None, session: int, digest: bytes, now: int, code: str | None
) -> None:
    refused = judge_use(found, session, digest, USE, now)
    assert (refused.code if refused else None) == code

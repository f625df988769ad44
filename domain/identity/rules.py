"""Who a user is: what a valid e-mail, name and password are, and how failed logins are slowed.

Pure rules. Hashing, storage and cookies are elsewhere.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from enum import StrEnum
from typing import Final

import msgspec

from domain.durable import Rejection

EMAIL_LENGTH_MAX: Final = 254
NAME_LENGTH_MAX: Final = 100
PASSWORD_LENGTH_MIN: Final = 8
PASSWORD_LENGTH_MAX: Final = 256

_EMAIL: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
    re.ASCII,
)

_COMMON: Final = frozenset(
    {
        "password", "passw0rd", "password1", "password123", "iloveyou", "sunshine", "princess",
        "football", "baseball", "superman", "qwertyui", "qwertyuiop", "1q2w3e4r", "1qaz2wsx",
        "trustno1", "letmein1", "welcome1", "abcd1234", "admin123", "qwerty123", "asdfghjkl",
    }
)  # fmt: skip


class IdentityCode(StrEnum):
    """Why a sign-up, a login or a request is refused, in order of precedence."""

    TOO_MANY_ATTEMPTS = "too_many_attempts"
    """Too many attempts have failed; ``retry_after`` says how many seconds to wait."""
    BUSY = "busy"
    """More logins are being checked than the platform will queue."""
    EMAIL_INVALID = "email_invalid"
    """The e-mail address is not of the form name@domain, or too long."""
    NAME_INVALID = "name_invalid"
    """A name has 1 to 100 characters and no control characters."""
    PASSWORD_TOO_SHORT = "password_too_short"
    """The password has fewer than 8 characters."""
    PASSWORD_TOO_LONG = "password_too_long"
    """The password has more than 256 characters."""
    PASSWORD_TOO_SIMPLE = "password_too_simple"
    """The password is among the first that anybody would guess."""
    EMAIL_TAKEN = "email_taken"
    """Somebody has signed up with this e-mail address."""
    CREDENTIALS_INVALID = "credentials_invalid"
    """E-mail address and password do not belong together."""
    SECOND_FACTOR_REQUIRED = "second_factor_required"
    """The password is right; ``ticket`` and a code of the second factor complete the login."""
    TICKET_INVALID = "ticket_invalid"
    """The login with this ticket is over, took too long, or had too many wrong codes."""
    PASSWORD_WRONG = "password_wrong"
    """The present password, which is asked for once more, is another."""
    CODE_INVALID = "code_invalid"
    """The code of the second factor is wrong, or too old."""
    CODE_USED = "code_used"
    """The code of the second factor has counted before: the next one is to be waited for."""
    LINK_INVALID = "link_invalid"
    """The link was used, is too old, or was replaced by a newer one."""
    SECOND_FACTOR_ON = "second_factor_on"
    """There is a second factor in use already."""
    SECOND_FACTOR_OFF = "second_factor_off"
    """There is no second factor, or none that waits for its first code."""
    SECOND_FACTOR_MISSING = "second_factor_missing"
    """Whoever works here needs a second factor for this, and has none."""
    CONFIRMATION_REQUIRED = "confirmation_required"
    """A code of the second factor is needed for exactly this; ``confirmation`` names it."""
    CONFIRMATION_UNKNOWN = "confirmation_unknown"
    """This session has begun no such confirmation."""
    CONFIRMATION_CHANGED = "confirmation_changed"
    """What was confirmed is not what is asked for now."""
    CONFIRMATION_USED = "confirmation_used"
    """The confirmation has permitted something already."""
    CONFIRMATION_LOCKED = "confirmation_locked"
    """Five wrong codes were given for it."""
    CONFIRMATION_EXPIRED = "confirmation_expired"
    """It was begun more than ten minutes ago."""
    CONFIRMATION_OPEN = "confirmation_open"
    """Its code has not been given yet."""
    ACCOUNTS_IN_USE = "accounts_in_use"
    """There is money, a hold, an open order or a payment on its way."""
    ROLES_HELD = "roles_held"
    """Whoever works here gives back the roles before leaving."""
    UNAUTHENTICATED = "unauthenticated"
    """There is no valid session or token."""
    FORM_EXPIRED = "form_expired"
    """The form's token is missing or too old, or the request comes from another site."""


class SignUp(msgspec.Struct, frozen=True):
    """A sign-up that passed the rules: ``email`` and ``name`` are in the form to be stored."""

    email: str
    name: str
    password: str


def check_email(text: str) -> str | None:
    """The address trimmed, or ``None`` when it cannot be one (RFC 5321's common subset)."""
    email = text.strip()
    if len(email) > EMAIL_LENGTH_MAX or _EMAIL.fullmatch(email) is None:
        return None
    return email if len(email.partition("@")[0]) <= 64 else None


def email_key(email: str) -> str:
    """What makes two addresses the same account; agrees with ``lower(email)`` in the database."""
    return email.strip().lower()


def check_name(text: str) -> str | None:
    """The name composed (NFC) with single spaces, or ``None``."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(name) <= NAME_LENGTH_MAX:
        return None
    return None if any(unicodedata.category(char)[0] == "C" for char in name) else name


def short_name(name: str) -> str:
    """How a customer is shown to others: first name and initials."""
    first, *others = name.split(" ")
    return " ".join([first, *(f"{other[0]}." for other in others)])


def check_password(password: str, email: str, name: str) -> Rejection | None:
    """Length, and the guesses that come first: common words, one character, runs, one's own name.

    There are no rules about kinds of characters (NIST SP 800-63B).
    """
    if len(password) < PASSWORD_LENGTH_MIN:
        return _rejected(IdentityCode.PASSWORD_TOO_SHORT, "password")
    if len(password) > PASSWORD_LENGTH_MAX:
        return _rejected(IdentityCode.PASSWORD_TOO_LONG, "password")
    lowered = password.lower()
    own = {email_key(email), email_key(email).partition("@")[0], name.lower()}
    if lowered in own or lowered in _COMMON or _is_run(lowered):
        return _rejected(IdentityCode.PASSWORD_TOO_SIMPLE, "password")
    return None


def _is_run(text: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in itertools.pairwise(text)}
    return (len(steps) == 1 and abs(next(iter(steps))) <= 1) or text.rstrip("0") == "123456789"


def check_sign_up(email: str, name: str, password: str) -> SignUp | Rejection:
    """Judge a sign-up form; the first rule that is broken answers."""
    checked_email = check_email(email)
    if checked_email is None:
        return _rejected(IdentityCode.EMAIL_INVALID, "email")
    checked_name = check_name(name)
    if checked_name is None:
        return _rejected(IdentityCode.NAME_INVALID, "name")
    refused = check_password(password, checked_email, checked_name)
    return refused or SignUp(checked_email, checked_name, password)


def _rejected(code: IdentityCode, field: str) -> Rejection:
    return Rejection(code, {"field": field})


class BackOff(msgspec.Struct, frozen=True):
    """How failed attempts are slowed.

    ``free`` attempts cost nothing; each further one waits twice as long as the one before, from
    ``first_s`` up to ``most_s``. After ``forget_s`` without an attempt all is forgotten.
    """

    free: int
    first_s: int
    most_s: int
    forget_s: int


ACCOUNT_BACK_OFF: Final = BackOff(free=5, first_s=2, most_s=300, forget_s=3_600)
"""For one account: the wait is bounded, so that a stranger cannot lock the owner out for long."""

ADDRESS_BACK_OFF: Final = BackOff(free=50, first_s=2, most_s=900, forget_s=3_600)
"""For one address: many people can sit behind it, so more is free."""

LINK_BACK_OFF: Final = BackOff(free=3, first_s=60, most_s=600, forget_s=3_600)
"""For links asked for by e-mail, for one address, whether it is known or not."""


class Failures(msgspec.Struct, frozen=True):
    """What is remembered of failed attempts; times in microseconds since the epoch."""

    count: int
    last_at: int
    blocked_until: int


def attempt(past: Failures | None, rule: BackOff, now: int) -> Failures | int:
    """Judge an attempt at ``now``: what to remember if it fails, or the seconds to wait instead.

    An attempt is counted before it is checked, so that many at once cannot slip through; a
    success forgets it again.
    """
    if past is not None and now - past.last_at > rule.forget_s * 1_000_000:
        past = None
    # Without a wait both times are equal; then a clock that is a little behind must not block.
    if past is not None and past.last_at < past.blocked_until and now < past.blocked_until:
        return -(-(past.blocked_until - now) // 1_000_000)
    count = (past.count if past is not None else 0) + 1
    excess = count - rule.free
    wait_s = 0 if excess <= 0 else min(rule.most_s, rule.first_s << min(excess - 1, 20))
    return Failures(count, now, now + wait_s * 1_000_000)

"""What people are told, over which channels, and what they may switch off.

A kind is one thing that can happen to somebody. The table says what belongs to it: the channels it
takes unless the person says otherwise, those that cannot be switched off, and the values that its
texts need. Knows neither how it is written nor how it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

VALUE_LENGTH_MAX: Final = 1_000
KEY_LENGTH_MAX: Final = 200


class Channel(StrEnum):
    """A way to reach somebody."""

    APP = "app"
    EMAIL = "email"
    WEBHOOK = "webhook"


class Group(StrEnum):
    """What kinds are shown together as."""

    SECURITY = "security"
    PAYMENTS = "payments"
    TRADING = "trading"
    ACCOUNT = "account"
    DEVELOPER = "developer"


class Kind(StrEnum):
    """One thing that can happen to somebody. The name stays: it is stored, and sent to programs."""

    WELCOME = "welcome"
    EMAIL_VERIFY = "email_verify"
    EMAIL_CHANGE = "email_change"
    EMAIL_CHANGED = "email_changed"
    PASSWORD_RESET = "password_reset"
    PASSWORD_CHANGED = "password_changed"
    SECOND_FACTOR_ON = "second_factor_on"
    SECOND_FACTOR_OFF = "second_factor_off"
    SECOND_FACTOR_LOCKED = "second_factor_locked"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"
    LOGIN_NEW_DEVICE = "login_new_device"
    SESSION_ENDED = "session_ended"
    API_KEY_MADE = "api_key_made"
    API_KEY_REVOKED = "api_key_revoked"
    ROLE_GIVEN = "role_given"
    ROLE_TAKEN = "role_taken"
    DATA_EXPORTED = "data_exported"
    ACCOUNT_CLOSED = "account_closed"
    TRANSFER_RECEIVED = "transfer_received"
    TRANSFER_RETURNED = "transfer_returned"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_UNFROZEN = "account_unfrozen"
    ADJUSTMENT_POSTED = "adjustment_posted"
    ORDER_FILLED = "order_filled"
    WEBHOOK_DISABLED = "webhook_disabled"


class Rule(msgspec.Struct, frozen=True):
    """What belongs to a kind.

    ``default`` are the channels it takes when nobody has chosen, ``fixed`` those of them that
    cannot be switched off, ``offered`` all that may be chosen. ``example`` has a value for every
    name that its texts need, ``secret`` those that only the e-mail may carry.
    """

    group: Group
    label: str
    default: frozenset[Channel]
    fixed: frozenset[Channel]
    offered: frozenset[Channel]
    example: Mapping[str, str]
    secret: Mapping[str, str] = MappingProxyType({})

    @property
    def urgent(self) -> bool:
        """Whether it is sent before what is not about somebody's security."""
        return self.group is Group.SECURITY


_NONE: Final = frozenset[Channel]()
_APP: Final = frozenset({Channel.APP})
_MAIL: Final = frozenset({Channel.EMAIL})
_BOTH: Final = frozenset({Channel.APP, Channel.EMAIL})
_ALL: Final = frozenset(Channel)
_MONEY: Final = frozenset({Channel.APP, Channel.WEBHOOK})


def _security(label: str, example: Mapping[str, str]) -> Rule:
    return Rule(Group.SECURITY, label, _BOTH, _BOTH, _ALL, example)


def _letter(label: str, example: Mapping[str, str], secret: Mapping[str, str]) -> Rule:
    """An e-mail that somebody asked for: it is the message, and nothing of it is kept."""
    return Rule(Group.SECURITY, label, _MAIL, _MAIL, _MAIL, example, secret)


_WHEN: Final = "2026-03-01 09:30 UTC"
_WHERE: Final = {"at": _WHEN, "ip": "192.0.2.7", "device": "Firefox on Linux"}

KINDS: Final[Mapping[Kind, Rule]] = MappingProxyType(
    {
        Kind.WELCOME: Rule(
            Group.ACCOUNT, "Welcome to Kontor", _APP, _NONE, _BOTH, {"name": "Ann Example"}
        ),
        Kind.EMAIL_VERIFY: _letter(
            "Confirm an e-mail address",
            {"name": "Ann Example"},
            {"link": "https://kontor.example/verify?token=abc"},
        ),
        Kind.EMAIL_CHANGE: _letter(
            "Confirm a new e-mail address",
            {"name": "Ann Example"},
            {"link": "https://kontor.example/verify?token=abc"},
        ),
        Kind.EMAIL_CHANGED: _security(
            "E-mail address changed", {**_WHERE, "email": "a***@b.example"}
        ),
        Kind.PASSWORD_RESET: _letter(
            "Set a new password",
            {"name": "Ann Example", **_WHERE},
            {"link": "https://kontor.example/reset?token=abc"},
        ),
        Kind.PASSWORD_CHANGED: _security("Password changed", _WHERE),
        Kind.SECOND_FACTOR_ON: _security("Second factor switched on", _WHERE),
        Kind.SECOND_FACTOR_OFF: _security("Second factor switched off", _WHERE),
        Kind.SECOND_FACTOR_LOCKED: _security("Second factor locked", _WHERE),
        Kind.RECOVERY_CODES_RENEWED: _security("Recovery codes renewed", _WHERE),
        Kind.RECOVERY_CODE_USED: _security("Recovery code used", {**_WHERE, "left": "7"}),
        Kind.LOGIN_NEW_DEVICE: _security("Login from a new device", _WHERE),
        # ``what`` is the program of a single session, and empty where there were several.
        Kind.SESSION_ENDED: _security(
            "Session ended", {**_WHERE, "sessions": "1", "what": "Chrome on Android"}
        ),
        Kind.API_KEY_MADE: _security("API key made", {**_WHERE, "label": "My bot"}),
        Kind.API_KEY_REVOKED: _security("API key revoked", {**_WHERE, "label": "My bot"}),
        Kind.ROLE_GIVEN: _security("Role given", {"role": "support", "at": _WHEN}),
        Kind.ROLE_TAKEN: _security("Role taken", {"role": "support", "at": _WHEN}),
        Kind.DATA_EXPORTED: _security("Data exported", _WHERE),
        Kind.ACCOUNT_CLOSED: Rule(
            Group.SECURITY,
            "Login closed",
            _MAIL,
            _MAIL,
            _MAIL,
            {"name": "Ann Example", "at": _WHEN},
        ),
        Kind.TRANSFER_RECEIVED: Rule(
            Group.PAYMENTS,
            "Money received",
            _MONEY,
            _NONE,
            _ALL,
            {
                "amount": "12.50",
                "currency": "USD",
                "account": "10000000010116",
                "counterparty": "10000000020131",
                "name": "Ben Example",
                "transfer": "0123456789abcdef0123456789abcdef",
            },
        ),
        Kind.TRANSFER_RETURNED: Rule(
            Group.PAYMENTS,
            "Payment returned",
            _ALL,
            _NONE,
            _ALL,
            {
                "amount": "12.50",
                "currency": "USD",
                "account": "10000000010116",
                "counterparty": "10000000020131",
                "name": "Ben Example",
                "transfer": "0123456789abcdef0123456789abcdef",
                "reason": "destination_closed",
            },
        ),
        Kind.ACCOUNT_FROZEN: _security("Account frozen", {"account": "10000000010116"}),
        Kind.ACCOUNT_UNFROZEN: _security("Account open again", {"account": "10000000010116"}),
        Kind.ADJUSTMENT_POSTED: Rule(
            Group.PAYMENTS,
            "Balance corrected",
            _ALL,
            _BOTH,
            _ALL,
            {
                "amount": "-3.00",
                "currency": "USD",
                "account": "10000000010116",
                "reason": "A fee was charged twice",
                "adjustment": "0123456789abcdef0123456789abcdef",
            },
        ),
        Kind.ORDER_FILLED: Rule(
            Group.TRADING,
            "Order filled",
            _NONE,
            _NONE,
            _ALL,
            {
                "symbol": "BTCUSD",
                "quantity": "0.50",
                "base": "BTC",
                "value": "31250.00",
                "quote": "USD",
                "order": "4711",
            },
        ),
        Kind.WEBHOOK_DISABLED: Rule(
            Group.DEVELOPER,
            "Webhook switched off",
            _BOTH,
            _BOTH,
            _BOTH,
            {"url": "https://shop.example/hooks", "reason": "It has not answered for five days."},
        ),
    }
)
"""Every kind there is."""

Choices = Mapping[tuple[Kind, Channel], bool]
"""What somebody has chosen; what is not in it is as the table says."""


def wanted(kind: Kind, choices: Choices) -> frozenset[Channel]:
    """The channels over which somebody who chose so is told of a kind."""
    rule = KINDS[kind]
    chosen = {
        channel
        for channel in rule.offered - rule.fixed
        if choices.get((kind, channel), channel in rule.default)
    }
    return rule.fixed | chosen


def may_choose(kind: Kind, channel: Channel) -> bool:
    """Whether the channel may be switched on and off for the kind."""
    rule = KINDS[kind]
    return channel in rule.offered and channel not in rule.fixed


def check(kind: Kind, values: Mapping[str, str], secret: Mapping[str, str], key: str) -> None:
    """Raise ``ValueError`` unless exactly what the kind's texts need is given: a bug otherwise."""
    rule = KINDS[kind]
    if values.keys() != rule.example.keys() or secret.keys() != rule.secret.keys():
        needed = ", ".join(sorted({*rule.example, *rule.secret})) or "nothing"
        raise ValueError(f"{kind} needs {needed}; was given {', '.join({**values, **secret})}")
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise ValueError(f"a key of {len(key)} characters")
    for name, value in values.items():
        if len(value) > VALUE_LENGTH_MAX:
            raise ValueError(f"{name} of {kind} has {len(value)} characters")

"""What comes of trying to send something, and when it is tried again: for mail and webhooks alike.

Pure: chance is passed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

REASON_MAX: Final = 300
JITTER: Final = 0.2

MINUTE: Final = 60.0
HOUR: Final = 3_600.0

MAIL_PAUSES_S: Final = (
    10.0, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Between attempts, for mail: soon at first, as greylisting wants; given up after two days."""

WEBHOOK_PAUSES_S: Final = (
    5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
"""Between attempts, for webhooks: what Standard Webhooks recommends."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The other side has taken it over."""

    status: int


@dataclass(frozen=True, slots=True)
class Later:
    """Not now; or nobody knows, as the answer was lost. To be tried again.

    ``after_s`` is how long the other side asks to be left alone.
    """

    reason: str
    status: int | None = None
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Never:
    """It will not be taken, however often it is tried; ``gone``: nor anything else sent there."""

    reason: str
    status: int | None = None
    gone: bool = False


Outcome = Sent | Later | Never


class Away(Exception):
    """Nothing at all can be sent at the moment; says why in one line."""


def pause(failures: int, pauses_s: Sequence[float], chance: Random) -> float | None:
    """Seconds to wait after so many failures, a little more or less; ``None`` to give up."""
    if failures > len(pauses_s):
        return None
    return pauses_s[failures - 1] * chance.uniform(1 - JITTER, 1 + JITTER)


def identifier(key: str) -> str:
    """The name of a message for the other side: the same each time, unlike any other's."""
    return hashlib.sha256(f"kontor message\0{key}".encode()).hexdigest()[:40]


def reason(what: str, error: object = "") -> str:
    """One line for an operator."""
    text = " ".join(str(error).split()) or (type(error).__name__ if error != "" else "")
    return (f"{what}: {text}" if text else what)[:REASON_MAX]

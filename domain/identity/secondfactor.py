"""The second factor: codes of the moment (RFC 6238) and recovery codes, as far as rules go.

Pure: what a code looks like, which time steps may count, and how many recovery codes there are.
The secret and the arithmetic are elsewhere.
"""

from __future__ import annotations

import re
from typing import Final

from domain.identity.rules import BackOff

STEP_S: Final = 30
DRIFT_STEPS: Final = 1
"""Clocks of people and machines differ: the step before and the one after count, too."""

DIGITS: Final = 6
RECOVERY_CODES: Final = 10
RECOVERY_LENGTH: Final = 12
RECOVERY_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: five bits a character, none that looks like another."""

TICKET_S: Final = 300
"""How long one has to give the code after the password."""

TICKET_FAILURES_MAX: Final = 5

CODE_BACK_OFF: Final = BackOff(free=5, first_s=30, most_s=900, forget_s=86_400)
"""Wrong codes of one user, wherever they were given. At the longest wait a hundred guesses a day
are possible, each right with three chances in a million.
"""

_GAPS: Final = re.compile(r"[\s-]")
_CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)
_RECOVERY: Final = re.compile(f"[{RECOVERY_ALPHABET}]{{{RECOVERY_LENGTH}}}", re.ASCII)
_LOOKALIKES: Final = str.maketrans("oil", "011")


def read_code(text: str) -> str | None:
    """A code of the moment without gaps, or ``None`` when it cannot be one."""
    code = _GAPS.sub("", text)
    return code if _CODE.fullmatch(code) else None


def read_recovery_code(text: str) -> str | None:
    """A recovery code without gaps, what looks alike made equal; ``None`` if it cannot be one."""
    code = _GAPS.sub("", text).lower().translate(_LOOKALIKES)
    return code if _RECOVERY.fullmatch(code) else None


def show_recovery_code(code: str) -> str:
    """A recovery code in groups of four."""
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def steps_at(now: int) -> range:
    """The time steps whose codes are right at ``now`` (microseconds since the epoch).

    Only one that is later than the last that counted may count: a code that was seen is worth
    nothing.
    """
    current = now // (STEP_S * 1_000_000)
    return range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1)

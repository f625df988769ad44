"""Strong confirmation: a code of the second factor that was given for one intent and no other.

Pure rules. The intent is bound by a digest: another amount or payee is another intent. Codes are
checked, and confirmations stored, elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from domain.durable import Rejection
from domain.identity.rules import IdentityCode

FAILURES_MAX: Final = 5
LIFETIME_S: Final = 600


class Intent(msgspec.Struct, frozen=True):
    """What somebody wants to do: its kind, and everything about it that must not change."""

    kind: str
    values: Mapping[str, str]


class Confirmation(msgspec.Struct, frozen=True):
    """A confirmation as stored; ``expires_at`` in microseconds since the epoch."""

    id: bytes
    user: int
    session: int
    kind: str
    digest: bytes
    expires_at: int
    failures: int = 0
    confirmed: bool = False
    used_for: bytes | None = None


def digest_of(user: int, intent: Intent) -> bytes:
    """SHA-256 over the user, the kind, and the values in the order of their names.

    Each part is preceded by its length, so that no two intents give the same bytes.
    """
    hasher = hashlib.sha256()
    parts = [str(user), intent.kind]
    for name in sorted(intent.values):
        parts += (name, intent.values[name])
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(4, "big") + data)
    return hasher.digest()


def judge_code(found: Confirmation | None, session: int, now: int) -> Rejection | None:
    """Whether a code may be given for a confirmation."""
    if found is None or found.session != session:
        return Rejection(IdentityCode.CONFIRMATION_UNKNOWN)
    if found.failures >= FAILURES_MAX:
        return Rejection(IdentityCode.CONFIRMATION_LOCKED)
    if now >= found.expires_at:
        return Rejection(IdentityCode.CONFIRMATION_EXPIRED)
    return None


def judge_use(
    found: Confirmation | None, session: int, digest: bytes, use: bytes, now: int
) -> Rejection | None:
    """Whether a confirmation permits an intent.

    ``use`` names what is done. Once used, it permits the same thing to be asked for again (an
    answer may have been lost), even after its time, and nothing else.
    """
    if found is None or found.session != session:
        return Rejection(IdentityCode.CONFIRMATION_UNKNOWN)
    if found.digest != digest:
        return Rejection(IdentityCode.CONFIRMATION_CHANGED)
    if found.used_for is not None:
        if found.used_for == use:
            return None
        return Rejection(IdentityCode.CONFIRMATION_USED)
    if found.failures >= FAILURES_MAX:
        return Rejection(IdentityCode.CONFIRMATION_LOCKED)
    if now >= found.expires_at:
        return Rejection(IdentityCode.CONFIRMATION_EXPIRED)
    if not found.confirmed:
        return Rejection(IdentityCode.CONFIRMATION_OPEN)
    return None

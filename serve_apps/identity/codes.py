"""Codes of the second factor: set-up, checking, recovery codes.

The secret is kept encrypted under a key derived from the platform's secret, bound to its user;
recovery codes are kept as keyed hashes. May use Postgres.
"""

from __future__ import annotations

import hmac
import secrets
from functools import lru_cache
from typing import Final

import msgspec
import pyotp

from actors.vault import SECOND_FACTORS, Vault
from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from domain.identity.secondfactor import (
    CODE_BACK_OFF,
    DIGITS,
    RECOVERY_ALPHABET,
    RECOVERY_CODES,
    RECOVERY_LENGTH,
    STEP_S,
    read_code,
    read_recovery_code,
    show_recovery_code,
    steps_at,
)
from domain.notifications import Kind
from persistence import identity as store
from persistence.notifications import notify
from serve_apps.identity.telling import Client, tell, transaction, where
from serve_apps.services import Services

ISSUER: Final = "Kontor"


class Enrolment(msgspec.Struct, frozen=True):
    """A second factor that is being set up: the secret in base 32, and what the QR code says."""

    secret: str
    uri: str


async def check_code(services: Services, user: int, text: str, client: Client) -> Rejection | None:
    """Let a code of the moment, or for recovery, count; each counts once.

    Wrong ones are slowed for this user wherever they are given, and the user is told of the first
    that has to wait: somebody has the password, or a session.
    """
    refused = await services.gate.admit("second_factor", client.ip, str(user))
    if refused is not None:
        return refused
    wait_s = await store.count_attempt(
        services.pool, [("code", str(user), CODE_BACK_OFF)], services.now()
    )
    if wait_s:
        await _tell_locked(services, user, client)
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    recovery = read_recovery_code(text)
    if recovery is not None:
        wrong = await _use_recovery(services, user, recovery, client)
    else:
        wrong = await _use_step(services, user, text)
    if wrong is not None:
        return Rejection(wrong, {"field": "code"})
    await store.forgive(services.pool, "code", str(user))
    return None


async def _tell_locked(services: Services, user: int, client: Client) -> None:
    """Tell the user, once a day."""
    async with transaction(services) as connection:
        kind, day = Kind.SECOND_FACTOR_LOCKED, f"{services.now():%Y-%m-%d}"
        await notify(connection, user, kind, where(services, client), key=f"{kind}:{day}")


async def _use_recovery(
    services: Services, user: int, code: str, client: Client
) -> IdentityCode | None:
    """Let a recovery code count, or say why it does not."""
    digest = recovery_hash(services, user, code)
    async with transaction(services) as connection:
        left = await store.use_recovery_code(connection, user, digest, services.now())
        if left is None:
            return IdentityCode.CODE_INVALID
        await tell(connection, services, user, Kind.RECOVERY_CODE_USED, client, left=str(left))
    return None


async def _use_step(services: Services, user: int, text: str) -> IdentityCode | None:
    """Let the code of a time step count, or say why it does not."""
    factor = await store.second_factor(services.pool, user)
    if factor is None or factor.confirmed_at is None:
        return IdentityCode.CODE_INVALID
    step = matching_step(services, user, factor, text)
    if step is None:
        return IdentityCode.CODE_INVALID
    counts = step > factor.last_step and await store.take_step(services.pool, user, step)
    return None if counts else IdentityCode.CODE_USED


def matching_step(services: Services, user: int, factor: store.FactorRow, text: str) -> int | None:
    """The time step of this moment whose code this is; it may have counted before."""
    code = read_code(text)
    if code is None:
        return None
    totp = _totp(_open(services, user, factor.secret))
    now = int(services.now().timestamp() * 1_000_000)
    matching = [
        step for step in steps_at(now) if hmac.compare_digest(totp.generate_otp(step), code)
    ]
    return matching[-1] if matching else None


async def begin_enrolment(services: Services, user: int, email: str) -> Enrolment | Rejection:
    """Make a secret that counts once a first code of it was given."""
    secret = pyotp.random_base32(32)
    sealed = _vault(services.config.secret_key).seal(str(user), secret.encode())
    if not await store.begin_factor(services.pool, user, sealed, services.now()):
        return Rejection(IdentityCode.SECOND_FACTOR_ON)
    return _enrolment(secret, email)


async def open_enrolment(services: Services, user: int, email: str) -> Enrolment | None:
    """What is being set up, to be shown again."""
    factor = await store.second_factor(services.pool, user)
    if factor is None or factor.confirmed_at is not None:
        return None
    return _enrolment(_open(services, user, factor.secret), email)


def new_recovery_codes() -> list[str]:
    """Fresh recovery codes, as they are shown once."""
    return [
        show_recovery_code(
            "".join(secrets.choice(RECOVERY_ALPHABET) for _ in range(RECOVERY_LENGTH))
        )
        for _ in range(RECOVERY_CODES)
    ]


def recovery_hash(services: Services, user: int, code: str) -> bytes:
    """What is stored of a recovery code: keyed, as sixty bits alone could be tried out."""
    text = read_recovery_code(code) or ""
    message = f"recovery\0{user}\0{text}".encode()
    return hmac.digest(services.config.secret_key, message, "sha256")


def _enrolment(secret: str, email: str) -> Enrolment:
    return Enrolment(secret, _totp(secret).provisioning_uri(name=email, issuer_name=ISSUER))


def _totp(secret: str) -> pyotp.TOTP:
    return pyotp.TOTP(secret, digits=DIGITS, interval=STEP_S)


def _open(services: Services, user: int, sealed: bytes) -> str:
    return _vault(services.config.secret_key).open(str(user), sealed).decode()


@lru_cache(maxsize=4)
def _vault(secret_key: bytes) -> Vault:
    return Vault(secret_key, SECOND_FACTORS)

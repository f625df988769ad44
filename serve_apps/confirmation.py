"""Strong confirmation: a code of the second factor, given for one intent and no other.

Whoever is about to do something dangerous for a user calls ``demand`` with the intent. Users
without a second factor pass at no cost. For the others a confirmation is begun and named in the
refusal ``confirmation_required``; once its code was given (``confirm``), the same request is made
again with its id and passes (``consume``), once. A code may also come with the request at once.
May use Postgres.
"""

from __future__ import annotations

import secrets
from typing import Final, cast

import msgspec

from domain.accounts.commands import Transfer
from domain.accounts.numbers import customer_of
from domain.durable import Rejection
from domain.identity.confirmation import (
    FAILURES_MAX,
    LIFETIME_S,
    Confirmation,
    Intent,
    digest_of,
    judge_code,
    judge_use,
)
from domain.identity.rules import IdentityCode
from persistence import identity as store
from persistence.database import Connection
from serve_apps.identity.codes import check_code
from serve_apps.identity.telling import Client
from serve_apps.services import Services
from serve_apps.sessions import Principal

__all__ = [
    "CODES",
    "Confirmation",
    "Intent",
    "Proof",
    "begin",
    "confirm",
    "consume",
    "demand",
    "for_payee",
    "for_payment",
    "give_back",
    "hold_payment",
    "payment",
    "required",
]

CODES: Final = (
    IdentityCode.CONFIRMATION_REQUIRED,
    IdentityCode.CONFIRMATION_UNKNOWN,
    IdentityCode.CONFIRMATION_CHANGED,
    IdentityCode.CONFIRMATION_USED,
    IdentityCode.CONFIRMATION_LOCKED,
    IdentityCode.CONFIRMATION_EXPIRED,
    IdentityCode.CONFIRMATION_OPEN,
)
"""Why something that needs a confirmation can be refused."""

KEPT_MAX: Final = 20
"""So many confirmations of one user are kept; a new one displaces the oldest."""


class Proof(msgspec.Struct, frozen=True):
    """What somebody brings along: a code at once, or the id of a confirmation that has one."""

    code: str = ""
    confirmation: str = ""


async def demand(
    services: Services,
    principal: Principal,
    intent: Intent,
    proof: Proof,
    client: Client,
    *,
    use: bytes = b"",
) -> Rejection | None:
    """Whether the intent may be carried out now; ``use`` as in ``consume``."""
    if not principal.second_factor:
        return None
    if proof.confirmation:
        id_ = proof.confirmation
    else:
        begun = await begin(services, principal, intent)
        if not proof.code:
            return required(begun)
        id_ = begun.id.hex()
    if proof.code:
        refused = await confirm(services, principal, id_, proof.code, client)
        if refused is not None:
            return refused
    return await consume(services, principal, id_, intent, use=use)


def required(confirmation: Confirmation) -> Rejection:
    """The refusal that names a confirmation which has been begun."""
    fields = {"confirmation": confirmation.id.hex(), "expires_in": str(LIFETIME_S)}
    return Rejection(IdentityCode.CONFIRMATION_REQUIRED, fields)


async def begin(services: Services, principal: Principal, intent: Intent) -> Confirmation:
    """A confirmation of the intent that waits for its code; asked again, the same one."""
    digest, now = digest_of(principal.user, intent), services.now()
    waiting = await store.open_confirmation(
        services.pool, principal.user, principal.session_id, digest, FAILURES_MAX, now
    )
    if waiting is not None:
        return waiting
    begun = Confirmation(
        secrets.token_bytes(16),
        principal.user,
        principal.session_id,
        intent.kind,
        digest,
        _microseconds(services) + LIFETIME_S * 1_000_000,
    )
    await store.add_confirmation(services.pool, begun, now, KEPT_MAX)
    return begun


async def confirm(
    services: Services, principal: Principal, confirmation_id: str, code: str, client: Client
) -> Rejection | None:
    """Give the code, of the moment or for recovery. Five wrong ones lock the confirmation."""
    id_, pool = _read_id(confirmation_id), services.pool
    found = await store.find_confirmation(pool, principal.user, id_)
    refused = judge_code(found, principal.session_id, _microseconds(services))
    if refused is not None or found is None or found.confirmed:
        return refused
    # Counted as wrong before it is looked at, so that many at once cannot slip through.
    if not await store.try_confirmation(pool, id_, FAILURES_MAX):
        return Rejection(IdentityCode.CONFIRMATION_LOCKED)
    refused = await check_code(services, principal.user, code, client)
    if refused is None:
        await store.settle_confirmation(pool, id_, services.now())
    elif refused.code != IdentityCode.CODE_INVALID:
        await store.settle_confirmation(pool, id_, None)
    return refused


async def consume(
    services: Services,
    principal: Principal,
    confirmation_id: str,
    intent: Intent,
    *,
    use: bytes = b"",
    connection: Connection | None = None,
) -> Rejection | None:
    """Use a confirmation up for exactly this intent.

    ``use`` is the id of the command that it permits: that command may be asked for again when its
    answer was lost, since an id is carried out once. With ``connection`` it happens in the
    caller's transaction.
    """
    if connection is None:
        async with services.pool.acquire() as proxy, proxy.transaction():
            own = cast(Connection, proxy)
            return await consume(
                services, principal, confirmation_id, intent, use=use, connection=own
            )
    id_, use = _read_id(confirmation_id), use or secrets.token_bytes(16)
    found = await store.lock_confirmation(connection, principal.user, id_)
    digest = digest_of(principal.user, intent)
    refused = judge_use(found, principal.session_id, digest, use, _microseconds(services))
    if refused is None:
        await store.mark_used(connection, id_, use)
    return refused


async def give_back(
    services: Services, principal: Principal, confirmation_id: str, use: bytes
) -> None:
    """Let a confirmation count again, because what it permitted was refused for another reason."""
    await store.unmark_used(services.pool, principal.user, _read_id(confirmation_id), use)


def payment(transfer: Transfer, currency: str) -> Intent:
    """What a payment is, as far as it must not change once it was confirmed."""
    return Intent(
        "payment",
        {
            "source": str(transfer.source),
            "destination": str(transfer.destination),
            "amount": str(transfer.amount),
            "currency": currency,
        },
    )


def hold_payment(hold: bytes, destination: int, amount: int, currency: str) -> Intent:
    """The same of a held amount that is paid out."""
    return Intent(
        "hold_payment",
        {
            "hold": hold.hex(),
            "destination": str(destination),
            "amount": str(amount),
            "currency": currency,
        },
    )


async def for_payment(
    services: Services, principal: Principal, transfer: Transfer, proof: Proof, client: Client
) -> Rejection | None:
    """Whether a transfer may be sent."""
    intent = payment(transfer, services.directory.known(transfer.source) or "")
    return await for_payee(
        services, principal, transfer.destination, intent, proof, client, use=transfer.id
    )


async def for_payee(
    services: Services,
    principal: Principal,
    account: int,
    intent: Intent,
    proof: Proof,
    client: Client,
    *,
    use: bytes,
) -> Rejection | None:
    """Whether money may go to an account: to one that was never paid before, only confirmed."""
    if not principal.second_factor or customer_of(account) == principal.user:
        return None
    if not await store.unpaid(services.pool, principal.user, [account]):
        return None
    return await demand(services, principal, intent, proof, client, use=use)


def _read_id(text: str) -> bytes:
    """The id, or one that no confirmation has."""
    try:
        return bytes.fromhex(text) if len(text) == 32 else b""
    except ValueError:
        return b""


def _microseconds(services: Services) -> int:
    return int(services.now().timestamp() * 1_000_000)

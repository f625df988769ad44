"""Adjustments: one person makes them, another checks them, each with a code of the second factor.

The rules are in the customer's entity (``domain.accounts.adjusting``); here is who asks, what they
confirm, and what the audit log says. May use Postgres and the accounts client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from domain.accounts.adjustment import AdjustmentReply, DecideAdjustment, ProposeAdjustment
from domain.accounts.codes import Code
from domain.accounts.guards import bad_text
from domain.accounts.numbers import parse_account
from domain.durable import Rejection, Unavailable
from domain.money import AmountError, format_amount, parse_amount
from persistence.accounts import AdjustmentRow, adjustment
from serve_apps.accounts import command_id, fingerprint, refuse
from serve_apps.auditing import carry_out
from serve_apps.confirmation import Intent
from serve_apps.services import Services
from serve_apps.staff import Staff, confirmed, not_done

_SIGNS: Final = ("+", "-", "\u2212")


async def propose(
    services: Services, staff: Staff, number: str, amount: str, reason: str, key: str | None
) -> AdjustmentRow | Rejection | Unavailable:
    """Be the maker of an adjustment. ``amount`` is decimal, with a minus to take."""
    user = staff.principal.user
    account = parse_account(number)
    reason = reason.strip()
    currency = None
    if account is not None:
        await services.directory.learn([account])
        currency = services.directory.known(account)
    if account is None or currency is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=number[:40])
    minor = _signed(amount.strip(), currency)
    if isinstance(minor, Rejection):
        return minor
    refused = bad_text(reason)
    if refused is not None:
        return refused
    identity = command_id(user, "adjustment", key)
    told = fingerprint(account, minor, reason)
    said = {
        "account": str(account),
        "amount": format_amount(minor, currency),
        "currency": currency,
        "reason": reason,
    }
    return await _ask(
        services,
        staff,
        Intent("adjustment_proposal", said),
        identity.hex(),
        {},
        said,
        ProposeAdjustment(identity, told, account, minor, reason, user),
    )


async def approve(
    services: Services, staff: Staff, number: str, digest: str, note: str, key: str | None
) -> AdjustmentRow | Rejection | Unavailable:
    """Be the checker who approves: ``digest`` is of what was seen."""
    return await _decide(services, staff, number, digest, note, key, True)


async def refuse_it(
    services: Services, staff: Staff, number: str, digest: str, note: str, key: str | None
) -> AdjustmentRow | Rejection | Unavailable:
    """Be the checker who refuses. Nothing moves, so nothing is confirmed."""
    return await _decide(services, staff, number, digest, note, key, False)


async def find(services: Services, number: str) -> AdjustmentRow | None:
    """An adjustment by its number in hex."""
    try:
        identity = bytes.fromhex(number)
    except ValueError:
        return None
    return await adjustment(services.pool, identity) if len(identity) == 16 else None


async def _decide(
    services: Services,
    staff: Staff,
    number: str,
    digest: str,
    note: str,
    key: str | None,
    approving: bool,
) -> AdjustmentRow | Rejection | Unavailable:
    user, verb = staff.principal.user, "approve" if approving else "refuse"
    row = await find(services, number)
    if row is None:
        return Rejection(Code.ADJUSTMENT_UNKNOWN)
    try:
        seen = bytes.fromhex(digest)
    except ValueError:
        return Rejection(Code.ADJUSTMENT_CHANGED)
    note = note.strip()
    refused = bad_text(note)
    if refused is not None:
        return refused
    identity = command_id(user, f"adjustment/{row.id.hex()}/{verb}", key)
    told = fingerprint(seen.hex(), note)
    said = {
        "account": str(row.account),
        "amount": format_amount(row.amount, row.currency),
        "currency": row.currency,
        "maker": str(row.maker),
        "seen": seen.hex(),
    }
    intent = Intent("adjustment_approval", {"adjustment": row.id.hex(), **said})
    return await _ask(
        services,
        staff,
        intent if approving else None,
        row.id.hex(),
        {"status": row.status.name.lower()},
        {**said, "note": note},
        DecideAdjustment(identity, told, row.customer, row.id, seen, user, approving, note),
    )


def _signed(amount: str, currency: str) -> int | Rejection:
    sign = -1 if amount.startswith(_SIGNS[1:]) else 1
    try:
        return sign * parse_amount(amount[1:] if amount[:1] in _SIGNS else amount, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")


async def _ask(
    services: Services,
    staff: Staff,
    intent: Intent | None,
    number: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    command: ProposeAdjustment | DecideAdjustment,
) -> AdjustmentRow | Rejection | Unavailable:
    """Ask the customer's entity, once it is confirmed and written down."""
    if intent is not None:
        refused = await confirmed(services, staff, intent, use=command.id)
        if refused is not None:
            return refused
    action = "propose"
    if isinstance(command, DecideAdjustment):
        action = "approve" if command.approve else "refuse"
    reply = await carry_out(
        services.pool,
        staff.actor,
        f"adjustments.{action}",
        f"adjustment:{number}",
        before,
        after,
        lambda: services.accounts.call(command),
    )
    if isinstance(reply, Rejection):
        await not_done(services, staff, command.id)
        return reply
    if isinstance(reply, Unavailable):
        return reply
    assert isinstance(reply, AdjustmentReply)
    row = await adjustment(services.pool, reply.id)
    assert row is not None  # written in the turn that has just been answered
    return row

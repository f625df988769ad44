"""Adjustments: made by one, approved or refused by another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.accounts.adjustment import AdjustmentStatus
from domain.accounts.codes import Code
from domain.accounts.numbers import parse_customer
from domain.durable import Rejection
from domain.identity.permissions import Permission
from domain.money import format_amount
from persistence.accounts import AdjustmentRow
from persistence.accounts import adjustments as stored_adjustments
from serve_apps import adjustments
from serve_apps.api.bodies import moment_text
from serve_apps.api.forms import ProofForm
from serve_apps.api.identity.links import STAFF_CODES
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.staff import staff_of

STATUSES: Final = {status.name.lower(): status for status in AdjustmentStatus}


class AdjustmentForm(ProofForm):
    """A balance to be corrected, and a proof where there is a second factor."""

    account: Annotated[str, Field(max_length=40, description="Account number")]
    amount: Annotated[str, Field(max_length=40, description="Decimal string; with a minus to take")]
    reason: Annotated[str, Field(max_length=140, description="The customer sees it")]


class DecisionForm(ProofForm):
    """A decision on what was seen; to approve, a proof where there is a second factor."""

    digest: Annotated[str, Field(max_length=64, description="As shown with the adjustment")]
    note: Annotated[
        str, Field(max_length=140, description="Why; needed to refuse. Staff see it")
    ] = ""


class AdjustmentBody(msgspec.Struct):
    """An adjustment. ``status`` is pending, posted, refused or expired.

    ``amount`` is signed; ``digest`` stands for everything that a checker has to see.
    """

    id: str
    customer: str
    account: str
    amount: str
    currency: str
    reason: str
    status: str
    maker: str
    made_at: str
    expires_at: str
    checker: str | None
    note: str
    decided_at: str | None
    digest: str


class AdjustmentsBody(msgspec.Struct):
    """Adjustments: those that wait oldest first, others newest first."""

    adjustments: list[AdjustmentBody]


def adjustment_body(row: AdjustmentRow) -> AdjustmentBody:
    """An adjustment for staff."""
    return AdjustmentBody(
        row.id.hex(),
        str(row.customer),
        str(row.account),
        format_amount(row.amount, row.currency),
        row.currency,
        row.reason,
        row.status.name.lower(),
        str(row.maker),
        moment_text(row.at),
        moment_text(row.expires_at),
        None if row.checker is None else str(row.checker),
        row.note,
        None if row.decided_at is None else moment_text(row.decided_at),
        row.digest.hex(),
    )


async def listing(call: Call) -> Outcome:
    """Adjustments by status and customer."""
    values = call.query(("status", "customer"))
    if isinstance(values, Rejection):
        return values
    status = values.get("status", "")
    if status and status not in STATUSES:
        return Rejection("malformed_query", {"parameter": "status"})
    text = values.get("customer", "")
    customer = parse_customer(text) if text else None
    if text and customer is None:
        return Rejection("malformed_query", {"parameter": "customer"})
    rows = await stored_adjustments(
        call.services.pool, status=STATUSES.get(status), customer=customer
    )
    return Answer(AdjustmentsBody([adjustment_body(row) for row in rows]))


async def show(call: Call) -> Outcome:
    """One adjustment."""
    row = await adjustments.find(call.services, call.params["adjustment"])
    return Rejection(Code.ADJUSTMENT_UNKNOWN) if row is None else Answer(adjustment_body(row))


async def propose(call: Call) -> Outcome:
    """Make a proposal."""
    form: AdjustmentForm = call.body
    staff = staff_of(call.principal, call.request, form.code, form.confirmation)
    reply = await adjustments.propose(
        call.services, staff, form.account, form.amount, form.reason, call.key
    )
    if not isinstance(reply, AdjustmentRow):
        return reply
    place = f"/api/office/adjustment/{reply.id.hex()}/".encode()
    return Answer(adjustment_body(reply), 201, [(b"location", place)])


async def approve(call: Call) -> Outcome:
    """Approve what was seen."""
    return await _decide(call, adjustments.approve)


async def refuse(call: Call) -> Outcome:
    """Refuse it."""
    return await _decide(call, adjustments.refuse_it)


async def _decide(call: Call, decide: Callable[..., Awaitable[Any]]) -> Outcome:
    form: DecisionForm = call.body
    staff = staff_of(call.principal, call.request, form.code, form.confirmation)
    number = call.params["adjustment"]
    reply = await decide(call.services, staff, number, form.digest, form.note, call.key)
    return Answer(adjustment_body(reply)) if isinstance(reply, AdjustmentRow) else reply


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "7fa4c2d19be0438896a5d3f2e1c0b987",
    "customer": "4820193756",
    "account": "48201937560030",
    "amount": "-3.50",
    "currency": "USD",
    "reason": "Fee credited twice",
    "status": "pending",
    "maker": "1000000001",
    "made_at": "2026-11-20T09:30:00.125000Z",
    "expires_at": "2026-11-27T09:30:00.125000Z",
    "checker": None,
    "note": "",
    "decided_at": None,
    "digest": "0b1c2d3e4f5a69788796a5b4c3d2e1f0",
}
_DECIDED: Final = {
    **_EXAMPLE,
    "checker": "1000000002",
    "note": "Agrees with the statement",
    "decided_at": "2026-11-20T10:00:00.000000Z",
}
_TAG: Final = "Back office"
_DECISION_CODES: Final = (
    Code.ID_REUSED,
    Code.REFERENCE_TOO_LONG,
    Code.TEXT_INVALID,
    Code.ADJUSTMENT_UNKNOWN,
    Code.ADJUSTMENT_OWN,
    Code.ADJUSTMENT_MAKER,
    Code.ADJUSTMENT_CHANGED,
    Code.ADJUSTMENT_EXPIRED,
)


def _decision(name: str, handler: Any, summary: str, status: str, **more: Any) -> Operation:
    return Operation(
        name=f"{name}_adjustment",
        method="POST",
        path=f"/api/office/adjustment/{{adjustment}}/{name}/",
        handler=handler,
        summary=summary,
        tag=_TAG,
        access="user",
        permission=Permission.ADJUSTMENTS_APPROVE,
        body=DecisionForm,
        body_example={"digest": _EXAMPLE["digest"], "note": "Agrees with the statement"},
        answer=AdjustmentBody,
        answer_example={**_DECIDED, "status": status},
        key="required",
        **more,
    )


OPERATIONS: Final = (
    Operation(
        name="list_adjustments",
        method="GET",
        path="/api/office/adjustment/",
        handler=listing,
        summary="Adjustments",
        tag=_TAG,
        access="user",
        permission=Permission.ADJUSTMENTS_READ,
        answer=AdjustmentsBody,
        answer_example={"adjustments": [_EXAMPLE]},
        parameters=(
            Parameter("status", "One of them", "pending", tuple(STATUSES)),
            Parameter("customer", "Customer number", "4820193756"),
        ),
        codes=("malformed_query",),
    ),
    Operation(
        name="propose_adjustment",
        method="POST",
        path="/api/office/adjustment/",
        handler=propose,
        summary="Propose an adjustment",
        description="Nothing moves before somebody else has approved it. With a second factor its"
        " `code` is needed, or a `confirmation`; in production nobody does it without.",
        tag=_TAG,
        access="user",
        permission=Permission.ADJUSTMENTS_PROPOSE,
        body=AdjustmentForm,
        body_example={name: _EXAMPLE[name] for name in ("account", "amount", "reason")},
        status=201,
        answer=AdjustmentBody,
        answer_example=_EXAMPLE,
        key="required",
        codes=(
            Code.ID_REUSED,
            Code.AMOUNT_INVALID,
            Code.TOO_MANY_DECIMALS,
            Code.AMOUNT_NOT_POSITIVE,
            Code.AMOUNT_TOO_LARGE,
            Code.REFERENCE_TOO_LONG,
            Code.TEXT_INVALID,
            Code.REASON_MISSING,
            Code.UNKNOWN_SOURCE_ACCOUNT,
            Code.ADJUSTMENT_OWN,
            Code.ACCOUNT_CLOSED,
            Code.INSUFFICIENT_FUNDS,
            Code.TOO_MANY_ADJUSTMENTS,
            *STAFF_CODES,
        ),
    ),
    Operation(
        name="show_adjustment",
        method="GET",
        path="/api/office/adjustment/{adjustment}/",
        handler=show,
        summary="One adjustment",
        tag=_TAG,
        access="user",
        permission=Permission.ADJUSTMENTS_READ,
        answer=AdjustmentBody,
        answer_example=_EXAMPLE,
        codes=(Code.ADJUSTMENT_UNKNOWN,),
    ),
    _decision(
        "approve",
        approve,
        "Approve an adjustment",
        "posted",
        description="By somebody else than its maker. Posted at once; proved as a proposal is.",
        codes=(*_DECISION_CODES, Code.ACCOUNT_CLOSED, Code.INSUFFICIENT_FUNDS, *STAFF_CODES),
    ),
    _decision(
        "refuse",
        refuse,
        "Refuse an adjustment",
        "refused",
        codes=(*_DECISION_CODES, Code.REASON_MISSING),
    ),
)

"""Customers, their accounts and transfers, as staff find and freeze them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.accounts.codes import Code
from domain.accounts.commands import AccountView, CustomerView
from domain.durable import Rejection
from domain.identity.permissions import Permission
from domain.money import format_amount
from persistence import backoffice as store
from persistence.accounts import TransferRow
from persistence.backoffice import CustomerRow
from serve_apps import backoffice
from serve_apps.api.bodies import (
    STATUS_NAMES,
    AccountBody,
    LimitBody,
    account_body,
    limit_body,
    moment_text,
)
from serve_apps.api.forms import Form
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter

TAG: Final = "Back office"


class FreezeForm(Form):
    """Why an account is frozen, or the freeze taken off."""

    reason: Annotated[str, Field(max_length=140, description="Is in the audit log")]


class LimitForm(Form):
    """A limit of the day for transfers to others."""

    currency: Annotated[str, Field(max_length=10, description="ISO 4217 code")]
    amount: Annotated[str, Field(max_length=40, description="Decimal string")]


class FoundCustomerBody(msgspec.Struct):
    """Somebody who has signed up."""

    id: str
    email: str
    name: str
    created_at: str
    verified_at: str | None
    closed_at: str | None
    second_factor: bool
    roles: list[str]


class FoundCustomersBody(msgspec.Struct):
    """Customers, by name."""

    customers: list[FoundCustomerBody]


class CustomerBody(FoundCustomerBody):
    """A customer with accounts and limits; null while the accounts do not answer."""

    accounts: list[AccountBody] | None = None
    limits: list[LimitBody] | None = None


class FoundTransferBody(msgspec.Struct, rename={"source": "from", "destination": "to"}):
    """A transfer with both its sides; one is null where it was the house's or a brokerage's."""

    id: str
    kind: str
    status: str
    source: str | None
    destination: str | None
    amount: str
    fee: str
    currency: str
    credited: str
    credited_currency: str
    reference: str
    reason: str
    at: str


class FoundTransfersBody(msgspec.Struct):
    """Transfers, newest first."""

    transactions: list[FoundTransferBody]


def asked(call: Call) -> str | Rejection:
    """What is searched for."""
    values = call.query(("q",))
    if isinstance(values, Rejection):
        return values
    text = values.get("q", "").strip()
    if len(text) > backoffice.SEARCH_MAX or not text.isprintable():
        return Rejection("malformed_query", {"parameter": "q"})
    return text


async def search(call: Call) -> Outcome:
    """Customers that fit a text."""
    text = asked(call)
    if isinstance(text, Rejection):
        return text
    found = await store.search_customers(call.services.pool, text)
    return Answer(FoundCustomersBody([FoundCustomerBody(**_plain(row)) for row in found]))


async def show(call: Call) -> Outcome:
    """One customer."""
    found = await backoffice.look(call.services, call.actor, call.params["customer"])
    if found is None:
        return Rejection("not_found")
    return Answer(customer_body(found.row, found.view))


async def transfers(call: Call) -> Outcome:
    """Transfers that fit a text."""
    text = asked(call)
    if isinstance(text, Rejection):
        return text
    found = await store.search_transfers(call.services.pool, text)
    return Answer(FoundTransfersBody([_transfer_body(row) for row in found]))


async def freeze(call: Call) -> Outcome:
    """Freeze an account."""
    return await _freeze(call, True)


async def unfreeze(call: Call) -> Outcome:
    """Take the freeze off."""
    return await _freeze(call, False)


async def _freeze(call: Call, frozen: bool) -> Outcome:
    reply = await backoffice.freeze(
        call.services, call.actor, call.params["account"], call.body.reason, frozen=frozen
    )
    return Answer(account_body(reply)) if isinstance(reply, AccountView) else reply


async def set_limit(call: Call) -> Outcome:
    """Give a customer a limit of the day."""
    form: LimitForm = call.body
    reply = await backoffice.set_limit(
        call.services, call.actor, call.params["customer"], form.currency, form.amount
    )
    if not isinstance(reply, CustomerView):
        return reply
    row = await store.customer(call.services.pool, reply.customer)
    if row is None:
        return Rejection("not_found")
    return Answer(customer_body(row, reply))


def customer_body(row: CustomerRow, view: CustomerView | None) -> CustomerBody:
    """A customer for staff."""
    return CustomerBody(
        **_plain(row),
        accounts=None if view is None else [account_body(each) for each in view.accounts],
        limits=None if view is None else [limit_body(each) for each in view.limits],
    )


def _plain(row: CustomerRow) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "email": row.email,
        "name": row.name,
        "created_at": moment_text(row.created_at),
        "verified_at": None if row.verified_at is None else moment_text(row.verified_at),
        "closed_at": None if row.closed_at is None else moment_text(row.closed_at),
        "second_factor": row.second_factor,
        "roles": row.roles,
    }


def _transfer_body(row: TransferRow) -> FoundTransferBody:
    return FoundTransferBody(
        row.id.hex(),
        row.kind,
        STATUS_NAMES[row.status],
        None if row.source is None else str(row.source),
        None if row.destination is None else str(row.destination),
        format_amount(row.amount, row.currency),
        format_amount(row.fee, row.currency),
        row.currency,
        format_amount(row.credited, row.credited_currency),
        row.credited_currency,
        row.reference,
        row.reason,
        moment_text(row.at),
    )


_ACCOUNT: Final = "48201937560030"
_CUSTOMER: Final[dict[str, Any]] = {
    "id": "4820193756",
    "email": "ann@example.com",
    "name": "Ann Example",
    "created_at": "2026-11-20T09:30:00.125000Z",
    "verified_at": "2026-11-20T09:31:00.000000Z",
    "closed_at": None,
    "second_factor": True,
    "roles": ["support"],
}
_ACCOUNT_EXAMPLE: Final[dict[str, Any]] = {
    "id": _ACCOUNT,
    "name": "US dollar",
    "currency": "USD",
    "status": "frozen",
    "balance": "100.00",
    "held": "0.00",
    "available": "100.00",
    "opened_at": "2026-11-20T09:30:00.125000Z",
}
_DETAIL: Final = {
    **_CUSTOMER,
    "accounts": [_ACCOUNT_EXAMPLE],
    "limits": [{"currency": "USD", "limit": "10000.00", "used": "250.00"}],
}
_FREEZE_CODES: Final = (
    Code.TEXT_INVALID,
    Code.REFERENCE_TOO_LONG,
    Code.REASON_MISSING,
    Code.UNKNOWN_SOURCE_ACCOUNT,
    Code.ACCOUNT_CLOSED,
    "account_own",
)


def _freeze_operation(name: str, handler: Any, summary: str, description: str) -> Operation:
    return Operation(
        name=f"{name}_account",
        method="POST",
        path=f"/api/office/account/{{account}}/{name}/",
        handler=handler,
        summary=summary,
        description=description,
        tag=TAG,
        access="user",
        permission=Permission.ACCOUNTS_FREEZE,
        body=FreezeForm,
        body_example={"reason": "The customer reports a stolen phone"},
        answer=AccountBody,
        answer_example=_ACCOUNT_EXAMPLE,
        codes=_FREEZE_CODES,
    )


OPERATIONS: Final = (
    Operation(
        name="search_customers",
        method="GET",
        path="/api/office/customer/",
        handler=search,
        summary="Search customers",
        description="By customer or account number, or by how the e-mail address or each word of"
        " the name begins; at most 50.",
        tag=TAG,
        access="user",
        permission=Permission.CUSTOMERS_READ,
        answer=FoundCustomersBody,
        answer_example={"customers": [_CUSTOMER]},
        parameters=(Parameter("q", "Text to search for", "ann"),),
        codes=("malformed_query",),
    ),
    Operation(
        name="show_customer",
        method="GET",
        path="/api/office/customer/{customer}/",
        handler=show,
        summary="One customer",
        description="That you have looked is in the audit log.",
        tag=TAG,
        access="user",
        permission=Permission.CUSTOMERS_READ,
        answer=CustomerBody,
        answer_example=_DETAIL,
    ),
    Operation(
        name="set_customer_limit",
        method="PUT",
        path="/api/office/customer/{customer}/limit/",
        handler=set_limit,
        summary="Set a customer's limit of the day",
        tag=TAG,
        access="user",
        permission=Permission.LIMITS_SET,
        body=LimitForm,
        body_example={"currency": "USD", "amount": "250.00"},
        answer=CustomerBody,
        answer_example=_DETAIL,
        codes=(
            Code.AMOUNT_INVALID,
            Code.TOO_MANY_DECIMALS,
            Code.AMOUNT_TOO_LARGE,
            Code.UNKNOWN_CUSTOMER,
            Code.UNKNOWN_CURRENCY,
            "account_own",
        ),
    ),
    Operation(
        name="search_transfers",
        method="GET",
        path="/api/office/transaction/",
        handler=transfers,
        summary="Search transfers",
        description="By the transfer's id, or the newest 50 of a customer or account number.",
        tag=TAG,
        access="user",
        permission=Permission.CUSTOMERS_READ,
        answer=FoundTransfersBody,
        answer_example={
            "transactions": [
                {
                    "id": "7fa4c2d19be0438896a5d3f2e1c0b987",
                    "kind": "transfer",
                    "status": "completed",
                    "from": _ACCOUNT,
                    "to": "73920184560091",
                    "amount": "25.00",
                    "fee": "0.25",
                    "currency": "USD",
                    "credited": "25.00",
                    "credited_currency": "USD",
                    "reference": "Lunch",
                    "reason": "",
                    "at": "2026-11-20T09:30:00.125000Z",
                }
            ]
        },
        parameters=(Parameter("q", "Transfer id, customer or account number", _ACCOUNT),),
        codes=("malformed_query",),
    ),
    _freeze_operation("freeze", freeze, "Freeze an account", "It receives, but nothing leaves it."),
    _freeze_operation(
        "unfreeze", unfreeze, "Take the freeze off an account", "Payments leave it again."
    ),
)

"""Operations on transfers: the busiest of the API. Handlers do as little as they can."""

from __future__ import annotations

from typing import Final

from domain.accounts.codes import Code
from domain.accounts.commands import Receipt
from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from persistence.accounts import HistoryPage, history
from persistence.accounts import transfer as find_transfer
from persistence.cursors import CursorInvalid
from serve_apps import confirmation
from serve_apps.accounts import (
    HISTORY_PARAMETERS,
    PaymentForm,
    history_query,
    transfer,
)
from serve_apps.api.batch import batch
from serve_apps.api.bodies import (
    Batch,
    BatchBody,
    HistoryBody,
    HistoryPageBody,
    TransferBody,
    history_body,
    transfer_body,
)
from serve_apps.api.examples import BATCH, BATCH_RESULT, HISTORY, TRANSFER, TRANSFER_FORM
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.confirmation import Proof
from serve_apps.hot_reads import is_first_page
from serve_apps.identity import Client

BATCH_SIZE_MAX: Final = 4 * 1024 * 1024

TRANSFER_CODES: Final = (
    Code.ID_REUSED,
    Code.AMOUNT_INVALID,
    Code.TOO_MANY_DECIMALS,
    Code.AMOUNT_NOT_POSITIVE,
    Code.AMOUNT_TOO_LARGE,
    Code.TEXT_INVALID,
    Code.REFERENCE_TOO_LONG,
    Code.SAME_ACCOUNT,
    Code.UNKNOWN_SOURCE_ACCOUNT,
    Code.UNKNOWN_DESTINATION_ACCOUNT,
    Code.ACCOUNT_CLOSED,
    Code.ACCOUNT_FROZEN,
    Code.DESTINATION_CLOSED,
    Code.CURRENCY_MISMATCH,
    Code.RATE_REQUIRED,
    Code.QUOTE_INVALID,
    Code.QUOTE_EXPIRED,
    Code.AMOUNT_TOO_SMALL,
    Code.DAILY_LIMIT_EXCEEDED,
    Code.INSUFFICIENT_FUNDS,
)


async def make(call: Call) -> Outcome:
    """Move money."""
    form: PaymentForm = call.body
    proof = Proof(confirmation=form.confirmation)
    reply = await transfer(call.services, call.principal, form, call.key, proof, Client())
    if not isinstance(reply, Receipt):
        return reply
    body = transfer_body(reply)
    location = f"/api/user/{call.params['user']}/transaction/{body.id}/".encode()
    return Answer(body, 201, [(b"location", location)])


async def listed(call: Call) -> Outcome:
    """The user's history."""
    values = call.query(HISTORY_PARAMETERS)
    query = values if isinstance(values, Rejection) else history_query(values)
    if isinstance(query, Rejection):
        return query
    services, user = call.services, call.user
    if is_first_page(query):
        return _answer(await services.hot_reads.page(services, user, query.limit), user)
    try:
        page = await history(
            services.pool,
            user,
            query.filter,
            sort=query.sort,
            descending=query.descending,
            cursor=query.cursor,
            limit=query.limit,
        )
    except CursorInvalid:
        return Rejection("cursor_invalid", {"parameter": "cursor"})
    return _answer(page, user)


def _answer(page: HistoryPage, user: int) -> Answer:
    rows = [history_body(row, user) for row in page.rows]
    return Answer(HistoryPageBody(rows, page.next_cursor))


async def shown(call: Call) -> Outcome:
    """One transfer to which the user is a party."""
    try:
        transfer_id = bytes.fromhex(call.params["transfer"])
    except ValueError:
        return Rejection("not_found")
    if len(transfer_id) != 16:
        return Rejection("not_found")
    row = await find_transfer(call.services.pool, transfer_id, call.user)
    return Rejection("not_found") if row is None else Answer(history_body(row, call.user))


_FILTERS: Final = (
    Parameter("from_date", "First day, or RFC 3339 time", "2026-11-01"),
    Parameter("to_date", "Last day (included), or RFC 3339 time (excluded)", "2026-11-30"),
    Parameter("min", "Smallest amount, at face value", "10.00"),
    Parameter("max", "Largest amount, at face value", "500.00"),
    Parameter("currency", "Either side's currency", "USD", ("USD", "CNY", "EUR")),
    Parameter("account", "Own account number"),
    Parameter("direction", "As the user sees it", "out", ("in", "out", "own")),
    Parameter("counterparty", "The other side's account number"),
    Parameter("status", "Where it stands", "completed", ("pending", "completed", "returned")),
    Parameter("q", "A transfer's id, or a part of the reference", "rent"),
    Parameter(
        "sort",
        "date, amount, currency, direction, counterparty, status or fee; `-` for descending",
        "-date",
    ),
    Parameter("cursor", "`next_cursor` of the page before"),
    Parameter("limit", "Rows on a page, 1 to 500", "50"),
)

OPERATIONS: Final = (
    Operation(
        name="make_transfer",
        method="POST",
        path="/api/user/{user}/transaction/",
        handler=make,
        summary="Transfer money",
        description="Between own accounts free of charge, to others with a fee on top. Where the"
        " currencies differ, the amount is converted at the rate of `quote`, or at today's."
        " When the answer is `outcome_unknown`, ask again with the same `Idempotency-Key`."
        " With a second factor the first payment to somebody is refused with"
        " `confirmation_required`: give the code to the `confirmation` that it names, then ask"
        " again with it.",
        tag="Transfers",
        body=PaymentForm,
        body_example=TRANSFER_FORM,
        status=201,
        answer=TransferBody,
        answer_example=TRANSFER,
        key="optional",
        codes=(*TRANSFER_CODES, *confirmation.CODES),
    ),
    Operation(
        name="list_transfers",
        method="GET",
        path="/api/user/{user}/transaction/",
        handler=listed,
        summary="History",
        tag="Transfers",
        answer=HistoryPageBody,
        answer_example={"transactions": [HISTORY], "next_cursor": None},
        parameters=_FILTERS,
        codes=("malformed_query", "cursor_invalid"),
    ),
    Operation(
        name="batch_transfer",
        method="POST",
        path="/api/user/{user}/transaction/batch/",
        handler=batch,
        summary="Transfer money many times",
        description="Up to 8,190 transfers, each with an `id` of your own that makes it"
        " repeatable, each answered by a status of its own. Those with the same `group` all"
        " happen or none. Also in MessagePack (`application/msgpack`). With a second factor, pay"
        " somebody new by a transfer of its own first: here it is `confirmation_required`.",
        tag="Transfers",
        body=Batch,
        body_example=BATCH,
        body_size_max=BATCH_SIZE_MAX,
        msgpack=True,
        answer=BatchBody,
        answer_example=BATCH_RESULT,
        codes=(*TRANSFER_CODES, Code.LINKED_FAILED, IdentityCode.CONFIRMATION_REQUIRED),
    ),
    Operation(
        name="show_transfer",
        method="GET",
        path="/api/user/{user}/transaction/{transfer}/",
        handler=shown,
        summary="One transfer",
        tag="Transfers",
        answer=HistoryBody,
        answer_example=HISTORY,
    ),
)

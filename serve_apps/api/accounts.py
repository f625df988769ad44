"""Operations on accounts, quotes and holds."""

from __future__ import annotations

from typing import Final

from domain.accounts.codes import Code
from domain.accounts.commands import (
    AccountReply,
    AccountView,
    CustomerView,
    HoldReply,
    PostHold,
    Receipt,
    ReserveHold,
    VoidHold,
)
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES, AmountError, format_amount, parse_amount
from serve_apps.accounts import (
    TransferForm,
    account_of,
    close_account,
    command_id,
    fingerprint,
    make_quote,
    microseconds,
    open_account,
    overview,
    own_account,
    preview,
    rate_text,
    refuse,
    time_text,
)
from serve_apps.accounts import (
    call as carry_out,
)
from serve_apps.api.bodies import (
    AccountBody,
    AccountsBody,
    HoldBody,
    HoldsBody,
    QuoteBody,
    TransferBody,
    account_body,
    hold_body,
    transfer_body,
)
from serve_apps.api.examples import ACCOUNT, HOLD, QUOTE, TRANSFER
from serve_apps.api.forms import AccountForm, HoldForm, HoldPostForm, QuoteForm
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.confirmation import CODES, Proof, for_payee, hold_payment
from serve_apps.identity import Client


async def listed(call: Call) -> Outcome:
    """The user's accounts."""
    view = await overview(call.services, call.user)
    if not isinstance(view, CustomerView):
        return view
    return Answer(AccountsBody([account_body(account) for account in view.accounts]))


async def shown(call: Call) -> Outcome:
    """One of the user's accounts."""
    view = await overview(call.services, call.user)
    if not isinstance(view, CustomerView):
        return view
    account = _own(view, call.params["account"])
    return Rejection("not_found") if account is None else Answer(account_body(account))


def _own(view: CustomerView, text: str) -> AccountView | None:
    number = account_of(text)
    return next((account for account in view.accounts if account.id == number), None)


async def opened(call: Call) -> Outcome:
    """Open an account."""
    form: AccountForm = call.body
    assert call.key is not None
    reply = await open_account(call.services, call.user, form.currency, form.name, call.key)
    if not isinstance(reply, AccountReply):
        return reply
    location = f"/api/user/{call.user}/account/{reply.account.id}/".encode()
    return Answer(account_body(reply.account), 201, [(b"location", location)])


async def closed(call: Call) -> Outcome:
    """Close an account."""
    account = own_account(call.user, call.params["account"])
    if isinstance(account, Rejection):
        return Rejection("not_found")
    reply = await close_account(call.services, call.user, str(account), call.key)
    if not isinstance(reply, AccountReply):
        return reply
    return Answer(account_body(reply.account))


async def quote_by_query(call: Call) -> Outcome:
    """A quote for what the query says."""
    values = call.query(("from", "to", "amount"))
    if isinstance(values, Rejection):
        return values
    for name in ("from", "to"):
        if not values.get(name):
            return refuse("malformed_query", parameter=name)
    return await _quote(call, values["from"], values["to"], values.get("amount", ""))


async def quote_by_form(call: Call) -> Outcome:
    """A quote for what the body says."""
    form: QuoteForm = call.body
    return await _quote(call, form.source, form.destination, form.amount)


async def _quote(call: Call, source: str, destination: str, amount: str) -> Outcome:
    if source not in CURRENCIES or destination not in CURRENCIES:
        return await _quote_accounts(call, source, destination, amount or "1")
    quote = make_quote(call.services, source, destination)
    if isinstance(quote, Rejection):
        return quote
    return Answer(
        QuoteBody(
            source, destination, rate_text(quote.rate.value), quote.token,
            time_text(quote.rate.expires_at),
        )
    )  # fmt: skip


async def _quote_accounts(call: Call, source: str, destination: str, amount: str) -> Outcome:
    form = TransferForm(source, destination, amount)
    seen = await preview(call.services, call.user, form)
    if isinstance(seen, Rejection):
        return seen
    rate = seen.quote.rate if seen.quote is not None else None
    return Answer(
        QuoteBody(
            seen.currency,
            seen.credited_currency,
            "1" if rate is None else rate_text(rate.value),
            "" if seen.quote is None else seen.quote.token,
            "" if rate is None else time_text(rate.expires_at),
            format_amount(seen.amount, seen.currency),
            format_amount(seen.fee, seen.currency),
            format_amount(seen.credited, seen.credited_currency),
        )
    )


async def holds(call: Call) -> Outcome:
    """The user's active holds."""
    view = await overview(call.services, call.user)
    if not isinstance(view, CustomerView):
        return view
    currencies = {account.id: account.currency for account in view.accounts}
    return Answer(HoldsBody([hold_body(hold, currencies[hold.account]) for hold in view.holds]))


async def reserve(call: Call) -> Outcome:
    """Put funds aside."""
    form: HoldForm = call.body
    services = call.services
    account = own_account(call.user, form.account)
    if isinstance(account, Rejection):
        return account
    await services.directory.learn([account])
    currency = services.directory.known(account)
    if currency is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=account)
    amount = _amount(form.amount, currency)
    if isinstance(amount, Rejection):
        return amount
    reply = await carry_out(
        services,
        ReserveHold(
            command_id(call.user, "hold", call.key),
            fingerprint(account, amount, form.expires_in, form.purpose),
            account,
            amount,
            microseconds(services.now()) + form.expires_in * 1_000_000,
            form.purpose,
        ),
    )
    if isinstance(reply, HoldReply):
        location = f"/api/user/{call.user}/hold/{reply.hold.id.hex()}/".encode()
        return Answer(hold_body(reply.hold, currency), 201, [(b"location", location)])
    return _refusal(reply)


async def post(call: Call) -> Outcome:
    """Move a held amount, or a part of it."""
    form: HoldPostForm = call.body
    services = call.services
    hold = _hold_id(call)
    if hold is None:
        return Rejection(Code.HOLD_UNKNOWN)
    destination = account_of(form.to)
    if destination is None:
        return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=form.to[:40])
    await services.directory.learn([destination])
    currency = services.directory.known(destination)
    if currency is None:
        return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=destination)
    # The destination is kept in the hold's currency, or the entity refuses.
    amount = _amount(form.amount, currency)
    if isinstance(amount, Rejection):
        return amount
    number = command_id(call.user, f"hold/{hold.hex()}/post", call.key)
    if call.principal.second_factor:
        intent = hold_payment(hold, destination, amount, currency)
        refused = await for_payee(
            services, call.principal, destination, intent, Proof(confirmation=form.confirmation),
            Client(), use=number,
        )  # fmt: skip
        if refused is not None:
            return refused
    reply = await carry_out(
        services,
        PostHold(
            number,
            fingerprint(amount, destination, form.reference, form.release),
            call.user,
            hold,
            amount,
            destination,
            currency,
            form.reference,
            form.release,
        ),
    )
    if isinstance(reply, Receipt):
        return Answer(transfer_body(reply), 201)
    return _refusal(reply)


async def void(call: Call) -> Outcome:
    """Give held funds back."""
    hold = _hold_id(call)
    if hold is None:
        return Rejection(Code.HOLD_UNKNOWN)
    reply = await carry_out(
        call.services,
        VoidHold(
            command_id(call.user, f"hold/{hold.hex()}/void", call.key), b"void", call.user, hold
        ),
    )
    if not isinstance(reply, HoldReply):
        return _refusal(reply)
    await call.services.directory.learn([reply.hold.account])
    currency = call.services.directory.known(reply.hold.account)
    assert currency is not None
    return Answer(hold_body(reply.hold, currency))


def _hold_id(call: Call) -> bytes | None:
    try:
        hold = bytes.fromhex(call.params["hold"])
    except ValueError:
        return None
    return hold if len(hold) == 16 else None


def _amount(text: str, currency: str) -> int | Rejection:
    try:
        return parse_amount(text, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")


def _refusal(reply: object) -> Rejection | Unavailable:
    if isinstance(reply, Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")


_HOLD_CODES: Final = (
    Code.ID_REUSED,
    Code.AMOUNT_INVALID,
    Code.TOO_MANY_DECIMALS,
    Code.AMOUNT_NOT_POSITIVE,
    Code.AMOUNT_TOO_LARGE,
)
_QUOTE_CODES: Final = (
    Code.UNKNOWN_CURRENCY,
    Code.UNKNOWN_SOURCE_ACCOUNT,
    Code.UNKNOWN_DESTINATION_ACCOUNT,
    Code.RATE_REQUIRED,
    Code.QUOTE_INVALID,
    Code.AMOUNT_TOO_SMALL,
)
_QUOTE_TEXT: Final = (
    "Between two currencies, or between an own account and another with an amount, fee and"
    " result. The rate is kept for 30 seconds for a transfer that brings `quote` along."
)

OPERATIONS: Final = (
    Operation(
        name="list_accounts",
        method="GET",
        path="/api/user/{user}/account/",
        handler=listed,
        summary="Accounts",
        tag="Accounts",
        answer=AccountsBody,
        answer_example={"accounts": [ACCOUNT]},
    ),
    Operation(
        name="open_account",
        method="POST",
        path="/api/user/{user}/account/",
        handler=opened,
        summary="Open an account",
        tag="Accounts",
        body=AccountForm,
        body_example={"currency": "EUR", "name": "Holidays"},
        status=201,
        answer=AccountBody,
        answer_example=ACCOUNT,
        key="required",
        codes=(
            Code.ID_REUSED,
            Code.UNKNOWN_CURRENCY,
            Code.TEXT_INVALID,
            Code.TOO_MANY_ACCOUNTS,
            Code.NAME_INVALID,
        ),
    ),
    Operation(
        name="show_account",
        method="GET",
        path="/api/user/{user}/account/{account}/",
        handler=shown,
        summary="One account",
        tag="Accounts",
        answer=AccountBody,
        answer_example=ACCOUNT,
    ),
    Operation(
        name="close_account",
        method="DELETE",
        path="/api/user/{user}/account/{account}/",
        handler=closed,
        summary="Close an empty account",
        description="Closing a closed account answers with it again.",
        tag="Accounts",
        answer=AccountBody,
        answer_example={**ACCOUNT, "status": "closed"},
        key="optional",
        codes=(
            Code.UNKNOWN_SOURCE_ACCOUNT,
            Code.ACCOUNT_FROZEN,
            Code.ACCOUNT_NOT_EMPTY,
        ),
    ),
    Operation(
        name="get_quote",
        method="GET",
        path="/api/user/{user}/quote/",
        handler=quote_by_query,
        summary="Get a quote",
        description=_QUOTE_TEXT,
        tag="Transfers",
        answer=QuoteBody,
        answer_example=QUOTE,
        parameters=(
            Parameter("from", "Currency, or own account number", "USD"),
            Parameter("to", "Currency, or account number", "EUR"),
            Parameter("amount", "Decimal string of the source's currency", "10.00"),
        ),
        codes=("malformed_query", *_QUOTE_CODES),
    ),
    Operation(
        name="make_quote",
        method="POST",
        path="/api/user/{user}/quote/",
        handler=quote_by_form,
        summary="Get a quote",
        description=_QUOTE_TEXT,
        tag="Transfers",
        body=QuoteForm,
        body_example={"from": "USD", "to": "EUR"},
        answer=QuoteBody,
        answer_example=QUOTE,
        codes=_QUOTE_CODES,
    ),
    Operation(
        name="list_holds",
        method="GET",
        path="/api/user/{user}/hold/",
        handler=holds,
        summary="Active holds",
        tag="Holds",
        answer=HoldsBody,
        answer_example={"holds": [HOLD]},
    ),
    Operation(
        name="reserve_hold",
        method="POST",
        path="/api/user/{user}/hold/",
        handler=reserve,
        summary="Put funds aside",
        description="They count against what is available until posted, voided or expired.",
        tag="Holds",
        body=HoldForm,
        body_example={
            "account": ACCOUNT["id"],
            "amount": "20.00",
            "expires_in": 604_800,
            "purpose": "Deposit for a bicycle",
        },
        status=201,
        answer=HoldBody,
        answer_example=HOLD,
        key="required",
        codes=(
            *_HOLD_CODES,
            Code.TEXT_INVALID,
            Code.UNKNOWN_SOURCE_ACCOUNT,
            Code.ACCOUNT_CLOSED,
            Code.ACCOUNT_FROZEN,
            Code.EXPIRY_INVALID,
            Code.INSUFFICIENT_FUNDS,
            Code.TOO_MANY_HOLDS,
        ),
    ),
    Operation(
        name="post_hold",
        method="POST",
        path="/api/user/{user}/hold/{hold}/post/",
        handler=post,
        summary="Move held funds",
        description="In full or in part, to an account of the same currency. To an account of"
        " another customer it costs the fee of a transfer, which comes out of the hold too, and"
        " counts towards the limit of the day. With a second factor the first payment to somebody"
        " needs a `confirmation`, as a transfer does.",
        tag="Holds",
        body=HoldPostForm,
        body_example={"to": TRANSFER["to"], "amount": "15.00", "release": True},
        status=201,
        answer=TransferBody,
        answer_example=TRANSFER,
        key="required",
        codes=(
            *_HOLD_CODES,
            Code.TEXT_INVALID,
            Code.SAME_ACCOUNT,
            Code.UNKNOWN_DESTINATION_ACCOUNT,
            Code.ACCOUNT_FROZEN,
            Code.DESTINATION_CLOSED,
            Code.CURRENCY_MISMATCH,
            Code.HOLD_UNKNOWN,
            Code.HOLD_EXCEEDED,
            Code.DAILY_LIMIT_EXCEEDED,
            *CODES,
        ),
    ),
    Operation(
        name="void_hold",
        method="POST",
        path="/api/user/{user}/hold/{hold}/void/",
        handler=void,
        summary="Give held funds back",
        tag="Holds",
        answer=HoldBody,
        answer_example={**HOLD, "amount": "0.00"},
        key="required",
        codes=(Code.ID_REUSED, Code.HOLD_UNKNOWN),
    ),
)

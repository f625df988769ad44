"""Sending money: form, review, confirmation.

The form's idempotency key is made with the form and goes with it to the end, so that sending it
twice pays once. A refused attempt gets a new key: the old one belongs to what was refused.
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

import msgspec
from starlette.responses import Response

from actors.rates import RateUnavailable
from domain.accounts.codes import Code
from domain.accounts.commands import AccountView, CustomerView, Receipt
from domain.accounts.numbers import customer_of, parse_account
from domain.accounts.policy import transfer_fee
from domain.durable import Rejection, Unavailable
from domain.identity.rules import IdentityCode
from domain.money import (
    CURRENCIES,
    RATE_SCALE,
    AmountError,
    format_amount,
    parse_amount,
)
from persistence.accounts import HistoryFilter
from persistence.accounts import history as read_history
from serve_apps import accounts
from serve_apps.accounts import Preview, TransferForm
from serve_apps.confirmation import Proof
from serve_apps.identity import client_of, payee_name
from serve_apps.pages.accounts.home import customer
from serve_apps.pages.accounts.views import Entry, entries, open_accounts
from serve_apps.pages.rendering import money
from serve_apps.pages.visit import Visit
from serve_apps.problems import explain, sentence, status_of

ACCOUNT_DIGITS: Final = 14
RECENT_ROWS: Final = 30
RECENT_PAYEES: Final = 4
_SPACES: Final = re.compile(r"[\s'\u2009\u202f]")
_COMMA: Final = re.compile(r"([0-9]+),([0-9]{1,2})", re.ASCII)

_FIELD_OF: Final[dict[str, str]] = {
    Code.SAME_ACCOUNT: "to",
    Code.UNKNOWN_DESTINATION_ACCOUNT: "to",
    Code.DESTINATION_CLOSED: "to",
    Code.CURRENCY_MISMATCH: "to",
    Code.UNKNOWN_SOURCE_ACCOUNT: "from",
    Code.ACCOUNT_CLOSED: "from",
    Code.ACCOUNT_FROZEN: "from",
    Code.AMOUNT_INVALID: "amount",
    Code.TOO_MANY_DECIMALS: "amount",
    Code.AMOUNT_NOT_POSITIVE: "amount",
    Code.AMOUNT_TOO_LARGE: "amount",
    Code.AMOUNT_TOO_SMALL: "amount",
    Code.INSUFFICIENT_FUNDS: "amount",
    Code.DAILY_LIMIT_EXCEEDED: "amount",
    Code.REFERENCE_TOO_LONG: "reference",
    "text_invalid": "reference",
}
"""Beside which field a refusal is shown; what is not here is shown above the form."""


_TO_CONFIRM: Final = (
    IdentityCode.CONFIRMATION_REQUIRED,
    IdentityCode.CONFIRMATION_OPEN,
    IdentityCode.CODE_INVALID,
    IdentityCode.CODE_USED,
    IdentityCode.TOO_MANY_ATTEMPTS,
)


class Draft(msgspec.Struct, frozen=True):
    """A transfer as typed. ``receive`` is what shall arrive, when that side was filled in."""

    source: str
    destination: str
    amount: str
    receive: str
    reference: str
    own: bool
    key: str
    quote: str = ""
    confirmation: str = ""

    def form(self) -> TransferForm:
        """As the use cases take it."""
        return TransferForm(self.source, self.destination, self.amount, self.reference, self.quote)


def _draft(form: dict[str, str]) -> Draft:
    return Draft(
        source=form.get("from", ""),
        destination=form.get("to", "").replace(" ", "").replace("\u00a0", ""),
        amount=_plain(form.get("amount", "")),
        receive=_plain(form.get("receive", "")),
        reference=form.get("reference", ""),
        own=form.get("kind") == "own",
        key=form.get("key", "")[:64] or secrets.token_hex(16),
        quote=form.get("quote", ""),
        confirmation=form.get("confirmation", "")[:32],
    )


def _plain(text: str) -> str:
    """An amount as people type it, without spaces and with a point for the decimals."""
    text = _SPACES.sub("", text)
    match = _COMMA.fullmatch(text)
    return f"{match.group(1)}.{match.group(2)}" if match else text


async def new(visit: Visit) -> Response:
    """The empty form, or filled in by a link; ``kind=own`` moves between own accounts."""
    return await _form_page(visit, _draft(dict(visit.query)), None)


async def edit(visit: Visit) -> Response:
    """Back from the review to the form."""
    draft = _draft(await visit.form())
    return await _form_page(
        visit, msgspec.structs.replace(draft, receive="", confirmation=""), None
    )


async def review(visit: Visit) -> Response:
    """Everything about the transfer before it is sent."""
    draft = _draft(await visit.form())
    return await _review_page(visit, draft, "")


async def quote_fragment(visit: Visit) -> Response:
    """Fee, rate, and what arrives, for the form as it is filled in so far."""
    draft = _draft(await visit.form())
    source, destination = parse_account(draft.source), parse_account(draft.destination)
    result: Preview | Rejection | None = None
    if source and destination and (draft.amount or draft.receive):
        draft, result = await _preview(visit, draft)
    payee = None
    if destination and not draft.own:
        payee = await payee_name(visit.services, destination)
        await visit.services.directory.learn([destination])
        if visit.services.directory.known(destination) is None:
            payee = None
    return visit.page(
        "accounts/_quote.html",
        draft=draft,
        preview=result if isinstance(result, Preview) else None,
        error=sentence(result.code) if isinstance(result, Rejection) else "",
        payee=payee,
        payee_asked=len(draft.destination) >= ACCOUNT_DIGITS and not draft.own,
        payee_currency=visit.services.directory.known(destination) if destination else None,
    )


async def send(visit: Visit) -> Response:
    """Send the money."""
    form = await visit.form()
    draft = _draft(form)
    if not draft.amount and draft.receive:
        return await _review_page(visit, draft, "")
    assert visit.principal is not None
    proof = Proof(form.get("code", ""), draft.confirmation)
    result = await accounts.transfer(
        visit.services, visit.principal, draft.form(), draft.key, proof, client_of(visit.request)
    )
    if isinstance(result, Rejection) and result.code in _TO_CONFIRM:
        return await _confirm_page(visit, draft, result)
    if isinstance(result, Receipt):
        return visit.go(f"{visit.home}transaction/{result.id.hex()}/", done="1")
    if isinstance(result, Unavailable):
        return visit.page("accounts/unknown.html", 503, draft=draft)
    draft = msgspec.structs.replace(draft, key=secrets.token_hex(16), quote="")
    if result.code in (Code.QUOTE_EXPIRED, Code.QUOTE_INVALID):
        return await _review_page(
            visit, draft, "The rate was no longer valid. Here is the rate of now.", 409
        )
    return await _form_page(visit, draft, result)


async def _confirm_page(visit: Visit, draft: Draft, refused: Rejection) -> Response:
    """Ask for a code of the second factor, for this payment and no other."""
    first = refused.code in (
        IdentityCode.CONFIRMATION_REQUIRED,
        IdentityCode.CONFIRMATION_OPEN,
    )
    begun = refused.fields.get("confirmation")
    if begun:
        draft = msgspec.structs.replace(draft, confirmation=begun)
    draft, preview = await _preview(visit, draft)
    if isinstance(preview, Rejection):
        return await _form_page(visit, draft, preview)
    return visit.page(
        "accounts/confirm.html",
        200 if first else status_of(refused.code),
        draft=draft,
        preview=preview,
        error="" if first else explain(refused),
    )


async def _preview(visit: Visit, draft: Draft) -> tuple[Draft, Preview | Rejection]:
    """What the transfer would do; with ``receive`` filled in, from that side."""
    if draft.receive and not draft.amount:
        solved = await _amount_for(visit, draft)
        if isinstance(solved, Rejection):
            return draft, solved
        draft = msgspec.structs.replace(draft, amount=solved)
    return draft, await accounts.preview(visit.services, visit.user, draft.form())


async def _amount_for(visit: Visit, draft: Draft) -> str | Rejection:
    """The smallest amount that lets at least ``receive`` arrive."""
    source, destination = parse_account(draft.source), parse_account(draft.destination)
    if source is None or customer_of(source) != visit.user:
        return Rejection(Code.UNKNOWN_SOURCE_ACCOUNT)
    if destination is None:
        return Rejection(Code.UNKNOWN_DESTINATION_ACCOUNT)
    directory = visit.services.directory
    await directory.learn([source, destination])
    leaves, arrives = directory.known(source), directory.known(destination)
    if leaves is None or arrives is None:
        return Rejection(Code.UNKNOWN_DESTINATION_ACCOUNT)
    try:
        wanted = parse_amount(draft.receive, arrives)
    except AmountError as error:
        return Rejection(error.code)
    if leaves == arrives:
        return format_amount(wanted, leaves)
    now = accounts.microseconds(visit.services.now())
    try:
        rate = visit.services.rates.quote(leaves, arrives, now).value
    except RateUnavailable:
        return Rejection(Code.RATE_REQUIRED)
    numerator = wanted * RATE_SCALE * CURRENCIES[leaves].scale
    return format_amount(-(-numerator // (rate * CURRENCIES[arrives].scale)), leaves)


async def _review_page(visit: Visit, draft: Draft, warning: str, status: int = 200) -> Response:
    view = await customer(visit)
    draft, result = await _preview(visit, draft)
    if isinstance(result, Preview):
        source = _account(view, draft.source)
        refused = _refusal(view, source, result) if source else None
        if source is not None and refused is None:
            quote = result.quote
            return visit.page(
                "accounts/review.html",
                status,
                draft=msgspec.structs.replace(draft, quote=quote.token if quote else ""),
                preview=result,
                source=source,
                destination=_account(view, draft.destination),
                left=source.available - result.amount - result.fee,
                seconds=visit.services.config.quote_s,
                warning=warning,
            )
        result = refused or Rejection(Code.UNKNOWN_SOURCE_ACCOUNT)
    return await _form_page(visit, draft, result, view)


def _refusal(view: CustomerView, source: AccountView, preview: Preview) -> Rejection | None:
    """What would be refused as things stand, told before it is tried."""
    needed = preview.amount + preview.fee
    if not preview.own:
        for limit in view.limits:
            left = limit.limit - limit.used
            if limit.currency == preview.currency and preview.amount > left:
                return accounts.presentable(
                    accounts.refuse(
                        Code.DAILY_LIMIT_EXCEEDED, currency=preview.currency, remaining=left
                    )
                )
    if needed > source.available:
        return accounts.presentable(
            accounts.refuse(
                Code.INSUFFICIENT_FUNDS, currency=source.currency, available=source.available
            )
        )
    return None


async def _form_page(
    visit: Visit, draft: Draft, refused: Rejection | None, view: CustomerView | None = None
) -> Response:
    view = view or await customer(visit)
    own = open_accounts(view.accounts)
    errors: dict[str, str] = {}
    if refused is not None:
        errors[_FIELD_OF.get(refused.code, "")] = _explain(refused)
    policy = visit.services.config.policy
    return visit.page(
        "accounts/transfer.html",
        status_of(refused.code) if refused else 200,
        draft=draft,
        accounts=own,
        recent=[] if draft.own else await _recent_payees(visit),
        errors=errors,
        fees=_fee_texts({a.currency for a in own}, policy),
    )


def _fee_texts(currencies: set[str], policy: Any) -> list[str]:
    return [
        f"{money(transfer_fee(policy, 1, currency), currency)} {currency} or more"
        for currency in sorted(currencies)
    ]


def _explain(refused: Rejection) -> str:
    fields, text = refused.fields, sentence(refused.code)
    currency = fields.get("currency", "")
    if refused.code == Code.INSUFFICIENT_FUNDS and "available" in fields:
        return f"{text} Available: {fields['available']} {currency}."
    if refused.code == Code.DAILY_LIMIT_EXCEEDED and "remaining" in fields:
        return f"{text} Left today: {fields['remaining']} {currency}."
    if refused.code == Code.ID_REUSED:
        return "This form has already sent a transfer. Look at your history before sending another."
    return text


def _account(view: CustomerView, text: str) -> AccountView | None:
    number = parse_account(text)
    return next((account for account in view.accounts if account.id == number), None)


async def _recent_payees(visit: Visit) -> list[Entry]:
    """The latest different accounts of others that money was sent to."""
    page = await read_history(
        visit.services.pool, visit.user, HistoryFilter(direction="out"), limit=RECENT_ROWS
    )
    latest: dict[int | None, Entry] = {}
    for found in await entries(visit.services, visit.user, page.rows):
        latest.setdefault(found.counterparty, found)
    return list(latest.values())[:RECENT_PAYEES]

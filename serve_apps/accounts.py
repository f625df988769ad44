"""Moving money: the use cases that pages and API share, so that the two cannot differ.

From text as people type it to commands for the accounts' entities, and back to text. May use
Postgres for facts that never change, and the accounts client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from actors.rates import RateUnavailable
from domain.accounts.codes import Code
from domain.accounts.commands import (
    AccountReply,
    AccountStatus,
    Command,
    CustomerView,
    OpenAccount,
    Rate,
    ReadCustomer,
    Receipt,
    Reply,
    SetAccountStatus,
    Transfer,
    TransferStatus,
)
from domain.accounts.guards import has_control
from domain.accounts.numbers import customer_of, parse_account
from domain.accounts.policy import transfer_fee
from domain.durable import Rejection, Unavailable
from domain.money import (
    CURRENCIES,
    RATE_SCALE,
    AmountError,
    convert,
    format_amount,
    parse_amount,
)
from persistence.accounts import HistoryFilter
from persistence.accounts.queries import SORTS
from serve_apps.confirmation import Proof, for_payment, give_back
from serve_apps.identity import Client, open_customer, payee_name
from serve_apps.services import Services
from serve_apps.sessions import Principal

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONEY_FIELDS: Final = ("available", "needed", "limit", "remaining")
_QUOTE_TAG_SIZE: Final = 16
TRANSFER_ENDPOINT: Final = "transaction"
HISTORY_LIMIT_MAX: Final = 500


class TransferForm(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    rename={"source": "from", "destination": "to"},
):
    """A transfer as it is asked for. ``quote`` is the token of a quote that was accepted."""

    source: str | int
    destination: str | int
    amount: str
    reference: str = ""
    quote: str = ""


class PaymentForm(TransferForm, frozen=True, gc=False, kw_only=True):
    """A transfer with the id of its confirmation, if it has one."""

    confirmation: str = ""


class Quote(msgspec.Struct, frozen=True):
    """A rate that is kept until ``expires_at`` for whoever brings ``token`` along."""

    source: str
    destination: str
    rate: Rate
    token: str


class Preview(msgspec.Struct, frozen=True):
    """What a transfer would cost and bring; nothing is checked against the balance."""

    amount: int
    fee: int
    currency: str
    credited: int
    credited_currency: str
    payee: str
    own: bool
    quote: Quote | None


def microseconds(at: datetime) -> int:
    """Microseconds since the epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def time_text(at: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC, down to the microsecond."""
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")[:-6] + "Z"


def rate_text(rate: int) -> str:
    """A scaled rate as a plain decimal string without trailing zeros."""
    whole, fraction = divmod(rate, RATE_SCALE)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")


def command_id(user: int, endpoint: str, key: str | None) -> bytes:
    """The id of a command: from the idempotency key, or a new one when there is none."""
    if key is None:
        return secrets.token_bytes(16)
    return hashlib.blake2b(f"{user}\0{endpoint}\0{key}".encode(), digest_size=16).digest()


def fingerprint(*fields: object) -> bytes:
    """A hash of what was asked for, by which another body under the same key is noticed."""
    text = "\0".join(map(str, fields))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def refuse(code: str, **fields: object) -> Rejection:
    """A rejection with its fields as text."""
    return Rejection(code, {name: str(value) for name, value in fields.items()})


def account_of(text: str | int) -> int | None:
    """Read an account number."""
    return parse_account(text if isinstance(text, str) else str(text))


def own_account(user: int, text: str | int) -> int | Rejection:
    """Read an account number that must be the user's own; others' look as if there were none."""
    account = account_of(text)
    if account is None or customer_of(account) != user:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=str(text)[:40])
    return account


async def call(services: Services, command: Command) -> Reply:
    """Carry out a command; amounts in a rejection's fields come back as decimal strings."""
    reply = await services.accounts.call(command)
    return presentable(reply) if isinstance(reply, Rejection) else reply


def presentable(rejection: Rejection) -> Rejection:
    """The rejection with minor units written as amounts."""
    currency = rejection.fields.get("currency", "")
    if currency not in CURRENCIES or not any(name in rejection.fields for name in _MONEY_FIELDS):
        return rejection
    fields = {
        name: format_amount(int(value), currency) if name in _MONEY_FIELDS else value
        for name, value in rejection.fields.items()
    }
    return Rejection(rejection.code, fields)


async def overview(services: Services, user: int) -> CustomerView | Rejection | Unavailable:
    """The user's accounts, holds and limits as they are now."""
    reply = await services.accounts.call(ReadCustomer(user))
    if isinstance(reply, Rejection) and reply.code == Code.UNKNOWN_CUSTOMER:
        # A sign-up was cut short between the user and the accounts.
        if not await open_customer(services, user):
            return Unavailable("the accounts are not open yet")
        reply = await services.accounts.call(ReadCustomer(user))
    if isinstance(reply, CustomerView | Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")


async def transfer(
    services: Services,
    principal: Principal,
    form: TransferForm,
    key: str | None,
    proof: Proof,
    client: Client,
) -> Receipt | Rejection | Unavailable:
    """Move money. The same key with the same form answers the same again.

    Whoever has a second factor proves it once for each payee, for exactly the first payment.
    """
    user = principal.user
    command = await make_transfer(services, user, form, command_id(user, TRANSFER_ENDPOINT, key))
    if isinstance(command, Rejection):
        return command
    if principal.second_factor:
        refused = await for_payment(services, principal, command, proof, client)
        if refused is not None:
            return refused
    reply = await call(services, command)
    if isinstance(reply, Rejection) and proof.confirmation:
        await give_back(services, principal, proof.confirmation, command.id)
    if isinstance(reply, Receipt | Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")


async def make_transfer(
    services: Services, user: int, form: TransferForm, transfer_id: bytes
) -> Transfer | Rejection:
    """The command for a form. What can only be judged by the entity is left to it."""
    source = own_account(user, form.source)
    if isinstance(source, Rejection):
        return source
    destination = account_of(form.destination)
    directory = services.directory
    currency = directory.known(source)
    arrives = directory.known(destination) if destination is not None else None
    if currency is None or (arrives is None and destination is not None):
        await directory.learn([source] if destination is None else [source, destination])
        currency = directory.known(source)
        arrives = directory.known(destination) if destination is not None else None
    return judge_form(services, form, transfer_id, source, currency, destination, arrives)


def judge_form(
    services: Services,
    form: TransferForm,
    transfer_id: bytes,
    source: int,
    currency: str | None,
    destination: int | None,
    arrives: str | None,
) -> Transfer | Rejection:
    """The command for a form whose accounts' currencies are known; without any input or output."""
    if currency is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=source)
    try:
        amount = parse_amount(form.amount, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")
    if destination is None:
        return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=str(form.destination)[:40])
    rate: Rate | None = None
    if form.quote or (arrives is not None and arrives != currency):
        found = _rate_for(services, form.quote, currency, arrives or currency)
        if isinstance(found, Rejection):
            return found
        rate = found
    print_ = hashlib.blake2b(
        f"{source}\0{destination}\0{amount}\0{form.quote}\0{form.reference}".encode(),
        digest_size=16,
    ).digest()
    return Transfer(
        transfer_id, print_, source, destination, amount, arrives or "", form.reference, rate
    )


def _rate_for(
    services: Services, token: str, source: str, destination: str
) -> Rate | Rejection | None:
    if token:
        quote = read_quote(services.config.secret_key, token)
        if quote is None or (quote.source, quote.destination) != (source, destination):
            return refuse(Code.QUOTE_INVALID, field="quote")
        return quote.rate
    try:
        return services.rates.quote(source, destination, microseconds(services.now()))
    except RateUnavailable:
        return None


def make_quote(services: Services, source: str, destination: str) -> Quote | Rejection:
    """A rate for two currencies that is kept for a while."""
    for currency in (source, destination):
        if currency not in CURRENCIES:
            return refuse(Code.UNKNOWN_CURRENCY, currency=currency[:10])
    if source == destination:
        return refuse(Code.QUOTE_INVALID, currency=source)
    try:
        rate = services.rates.quote(source, destination, microseconds(services.now()))
    except RateUnavailable:
        return refuse(Code.RATE_REQUIRED, currency=destination)
    packed = msgspec.msgpack.encode((source, destination, rate.value, rate.expires_at))
    signed = packed + _quote_tag(services.config.secret_key, packed)
    return Quote(source, destination, rate, base64.urlsafe_b64encode(signed).decode().rstrip("="))


def read_quote(secret_key: bytes, token: str) -> Quote | None:
    """A quote that we made, expired or not; ``None`` for anything else."""
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        packed, tag = signed[:-_QUOTE_TAG_SIZE], signed[-_QUOTE_TAG_SIZE:]
        if not hmac.compare_digest(tag, _quote_tag(secret_key, packed)):
            return None
        source, destination, value, expires_at = msgspec.msgpack.decode(
            packed, type=tuple[str, str, int, int]
        )
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return Quote(source, destination, Rate(value, expires_at), token)


def _quote_tag(secret_key: bytes, packed: bytes) -> bytes:
    return hmac.digest(secret_key, b"quote\0" + packed, "sha256")[:_QUOTE_TAG_SIZE]


async def preview(services: Services, user: int, form: TransferForm) -> Preview | Rejection:
    """What a transfer would cost and bring, with a quote when it converts."""
    source = own_account(user, form.source)
    if isinstance(source, Rejection):
        return source
    destination = account_of(form.destination)
    if destination is None:
        return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=str(form.destination)[:40])
    await services.directory.learn((source, destination))
    currency, arrives = services.directory.known(source), services.directory.known(destination)
    if currency is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=source)
    try:
        amount = parse_amount(form.amount, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")
    if amount == 0:
        return refuse(Code.AMOUNT_NOT_POSITIVE, field="amount")
    if source == destination:
        return refuse(Code.SAME_ACCOUNT, account=source)
    if arrives is None:
        return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=destination)
    credited, quote = amount, None
    if arrives != currency:
        made = make_quote(services, currency, arrives)
        if isinstance(made, Rejection):
            return made
        quote, credited = made, convert(amount, currency, arrives, made.rate.value)
        if credited == 0:
            return refuse(Code.AMOUNT_TOO_SMALL, currency=arrives)
    own = customer_of(destination) == user
    fee = 0 if own else transfer_fee(services.config.policy, amount, currency)
    payee = await payee_name(services, destination) or ""
    return Preview(amount, fee, currency, credited, arrives, payee, own, quote)


async def open_account(
    services: Services, user: int, currency: str, name: str, key: str
) -> AccountReply | Rejection | Unavailable:
    """Open one more account; without a name it is called like its currency."""
    if currency not in CURRENCIES:
        return refuse(Code.UNKNOWN_CURRENCY, currency=currency[:10])
    name = name.strip() or CURRENCIES[currency].name
    number = command_id(user, "account", key)
    reply = await call(
        services, OpenAccount(number, fingerprint(currency, name), user, currency, name)
    )
    return _account_reply(reply)


async def close_account(
    services: Services, user: int, account_text: str, key: str | None = None
) -> AccountReply | Rejection | Unavailable:
    """Close an empty account of the user's own."""
    account = own_account(user, account_text)
    if isinstance(account, Rejection):
        return account
    number = command_id(user, "account/close", key)
    print_ = fingerprint(account, "close")
    reply = await call(services, SetAccountStatus(number, print_, account, AccountStatus.CLOSED))
    return _account_reply(reply)


def _account_reply(reply: Reply) -> AccountReply | Rejection | Unavailable:
    if isinstance(reply, AccountReply | Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")


class HistoryQuery(msgspec.Struct, frozen=True):
    """A history as a URL asks for it."""

    filter: HistoryFilter
    sort: str
    descending: bool
    cursor: str | None
    limit: int


HISTORY_PARAMETERS: Final = (
    "from_date", "to_date", "min", "max", "currency", "account", "direction", "counterparty",
    "status", "q", "sort", "cursor", "limit",
)  # fmt: skip
"""What ``history_query`` understands."""


def history_query(query: Mapping[str, str]) -> HistoryQuery | Rejection:
    """Read filters, sorting and paging; empty values filter nothing.

    Dates are days or RFC 3339 times; a day as ``to_date`` is included. ``min`` and ``max`` are
    face values whatever the currency. ``sort`` is a column, with ``-`` for descending.
    """
    given = {name: query[name].strip() for name in HISTORY_PARAMETERS if query.get(name)}
    sort = given.get("sort", "-date")
    column = sort.removeprefix("-")
    if column not in SORTS:
        return refuse("malformed_query", parameter="sort")
    try:
        name = "from_date"
        date_from = _moment(given.get(name), timedelta())
        name = "to_date"
        date_to = _moment(given.get(name), timedelta(days=1))
        name = "min"
        amount_min = _face_value(given.get(name), given.get("currency"))
        name = "max"
        amount_max = _face_value(given.get(name), given.get("currency"))
        name = "currency"
        currency = _one_of(given.get(name), CURRENCIES)
        name = "account"
        account = _number(given.get(name))
        name = "direction"
        direction = _one_of(given.get(name), ("in", "out", "own"))
        name = "counterparty"
        counterparty = _number(given.get(name))
        name = "status"
        status = given.get(name)
        wanted = None if status is None else TransferStatus[status.upper()]
        name = "limit"
        limit = int(given.get(name, "50"))
        if not 1 <= limit <= HISTORY_LIMIT_MAX:
            raise ValueError
        name = "q"
        search = given.get(name)
        if search is not None and (len(search) > 140 or has_control(search)):
            raise ValueError
    except (ValueError, KeyError, OverflowError):
        return refuse("malformed_query", parameter=name)
    flt = HistoryFilter(
        date_from, date_to, amount_min, amount_max, currency, account, direction, counterparty,
        wanted, search,
    )  # fmt: skip
    return HistoryQuery(flt, column, sort.startswith("-"), given.get("cursor"), limit)


def _moment(text: str | None, whole_day: timedelta) -> datetime | None:
    if text is None:
        return None
    if len(text) == 10:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + whole_day
    at = datetime.fromisoformat(text)
    if not 1900 < at.year < 9000:
        raise ValueError
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _face_value(text: str | None, currency: str | None) -> int | None:
    if text is None:
        return None
    return parse_amount(text, currency if currency in CURRENCIES else "EUR")


def _number(text: str | None) -> int | None:
    account = None if text is None else parse_account(text)
    if text is not None and account is None:
        raise ValueError
    return account


def _one_of(text: str | None, choices: Mapping[str, object] | tuple[str, ...]) -> str | None:
    if text is not None and text not in choices:
        raise ValueError
    return text

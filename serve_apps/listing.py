"""Administrators' work on instruments: list, halt, resume, auction, delist; and issue of shares.

From words as people type them to commands for books, in one place for API, pages, command line and
the start of a development platform. Needs a client of books and, to issue, one of accounts.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Final, Protocol

import msgspec

from domain.accounts.trading import BrokerageView, IssueAsset, ReadBrokerage
from domain.durable import Rejection, Unavailable
from domain.orders import RATE_UNIT, UNIT
from domain.trading.commands import (
    Command,
    Delist,
    Halt,
    InstrumentReply,
    ListInstrument,
    Resume,
    StartAuction,
)
from domain.trading.rules import AMOUNT_MAX, About, BookCode, InstrumentType, Rules
from serve_apps.accounts import microseconds
from serve_apps.exchange.numbers import parse

PRICE_ROOM: Final = 100
"""Unless it is said, an instrument's highest price is so many times its reference price."""

_PERCENT: Final = RATE_UNIT // 100
_STEPS_MAX: Final = 10**9

Text = Annotated[str, msgspec.Meta(max_length=2_000)]


class Books(Protocol):
    """What is needed of a client of books."""

    async def call(self, command: Command, *, timeout_s: float = 10.0) -> object:
        """Carry out one command."""


class Accounts(Protocol):
    """What is needed of a client of accounts."""

    async def call(self, command: IssueAsset | ReadBrokerage, *, timeout_s: float = 10.0) -> object:
        """Carry out one command."""


class Listing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An instrument to be listed; numbers are decimal strings, empty for what is usual.

    ``tick`` is the step of prices (in ``quote``), ``lot`` the step of quantities (in ``base``),
    ``notional_min`` the least that an order may be worth, ``reference`` the price to begin with.
    Bands and fees are per cent. ``issued`` is brought into being in the hands of ``issuer`` (a
    customer number).
    """

    base: Text
    quote: Text
    type: Text
    name: Text
    tick: Text
    lot: Text
    description: Text = ""
    reference: Text = ""
    notional_min: Text = ""
    price_max: Text = ""
    quantity_max: Text = ""
    band_up: Text = ""
    band_down: Text = ""
    orders_max: Text = ""
    maker: Text = "0.1"
    taker: Text = "0.1"
    issued: Text = ""
    issuer: Text = ""


Outcome = InstrumentReply | Rejection | Unavailable


class _Unreadable(Exception):
    """A field that is no number of its kind."""


def _number(listing: Listing, field: str, step: int, *, default: int = 0) -> int:
    """Steps of ``step`` units in a field."""
    text = getattr(listing, field).strip()
    if not text or not text.strip("0."):
        return default
    value = parse(text, step)
    if isinstance(value, Rejection):
        raise _Unreadable(field)
    return value


def _whole(listing: Listing, field: str, default: int = 0) -> int:
    text = getattr(listing, field).strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _Unreadable(field)
    return int(text)


def terms_of(listing: Listing) -> tuple[Rules, About] | Rejection:
    """Rules and description; the book judges whether they are sound."""
    try:
        return _rules(listing), _about(listing)
    except _Unreadable as error:
        return Rejection(BookCode.RULES_INVALID, {"field": str(error)})


def _rules(listing: Listing) -> Rules:
    tick, lot = (_number(listing, field, 1) for field in ("tick", "lot"))
    for field, value in (("tick", tick), ("lot", lot)):
        if not value:
            raise _Unreadable(field)
    unit = tick * lot // UNIT
    if not unit:
        raise _Unreadable("tick")
    reference = _number(listing, "reference", tick)
    usual = min(_STEPS_MAX, reference * PRICE_ROOM or _STEPS_MAX)
    price_max = _number(listing, "price_max", tick, default=usual)
    room = min(_STEPS_MAX, AMOUNT_MAX // (price_max * unit), AMOUNT_MAX // lot)
    return Rules(
        listing.base.strip().upper(),
        listing.quote.strip().upper(),
        tick,
        lot,
        notional_min=max(1, -(-_number(listing, "notional_min", 1) // unit)),
        quantity_max=_number(listing, "quantity_max", lot, default=room),
        price_max=price_max,
        band_up=_number(listing, "band_up", UNIT // _PERCENT),
        band_down=_number(listing, "band_down", UNIT // _PERCENT),
        orders_max=_whole(listing, "orders_max", 200),
        reference=reference,
    )


def _about(listing: Listing) -> About:
    try:
        kind = InstrumentType(listing.type.strip().lower())
    except ValueError:
        raise _Unreadable("type") from None
    issued, issuer = _number(listing, "issued", 1), _whole(listing, "issuer")
    if bool(issued) != bool(issuer):
        raise _Unreadable("issuer" if issued else "issued")
    return About(
        kind,
        listing.name.strip(),
        listing.description.strip(),
        maker=_number(listing, "maker", UNIT // _PERCENT),
        taker=_number(listing, "taker", UNIT // _PERCENT),
        issued=issued,
        issuer=issuer,
    )


def listing_id(*parts: str) -> bytes:
    """The id of a command that is to happen once for these words."""
    return hashlib.blake2b("\0".join(("listing", *parts)).encode(), digest_size=16).digest()


def _print(*parts: object) -> bytes:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


async def list_instrument(
    books: Books, accounts: Accounts, listing: Listing, command_id: bytes
) -> Outcome:
    """List an instrument and issue its shares; asked again, it goes on where it was cut short."""
    terms = terms_of(listing)
    if isinstance(terms, Rejection):
        return terms
    rules, about = terms
    if about.issuer:
        known = await accounts.call(ReadBrokerage(about.issuer, orders=False))
        if not isinstance(known, BrokerageView):
            return _refused(known)
    command = ListInstrument(command_id, _print(rules, about), rules.symbol, rules, about)
    reply = await books.call(command)
    if not isinstance(reply, InstrumentReply):
        return _refused(reply)
    if about.issuer:
        issue = IssueAsset(
            listing_id("issue", rules.symbol), _print(about), about.issuer, rules.base, about.issued
        )
        issued = await accounts.call(issue)
        if isinstance(issued, Rejection | Unavailable):
            return issued
    return reply


async def change_status(
    books: Books,
    symbol: str,
    change: str,
    command_id: bytes,
    *,
    reason: str = "",
    until: datetime | None = None,
) -> Outcome:
    """``halt``, ``resume``, ``delist``, or hold an ``auction`` until a time."""
    told = _print(change, symbol, reason, until)
    command: Command
    if change == "halt":
        command = Halt(command_id, told, symbol, reason)
    elif change == "delist":
        command = Delist(command_id, told, symbol, reason)
    elif change == "auction":
        at = 0 if until is None else microseconds(until)
        command = StartAuction(command_id, told, symbol, at)
    else:
        assert change == "resume"
        command = Resume(command_id, told, symbol)
    reply = await books.call(command)
    return reply if isinstance(reply, InstrumentReply) else _refused(reply)


def _refused(reply: object) -> Rejection | Unavailable:
    if isinstance(reply, Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")

"""A customer's brokerage as pages, REST and the trading dialect use it: funds and balances.

From text as people type it to commands for the customer's entity, and back to text. Trading itself
is not here: see ``serve_apps.trading`` and ``serve_apps.exchange``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from domain.accounts.codes import Code
from domain.accounts.trading import (
    BalanceView,
    BrokerageReply,
    BrokerageView,
    FundBrokerage,
    IssueAsset,
    ReadBrokerage,
    TradeAction,
    WithdrawBrokerage,
)
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES, RATE_SCALE, AmountError, parse_amount
from domain.orders import UNIT, UNIT_EXPONENT
from persistence.trading.catalogue import Instrument
from serve_apps.accounts import (
    call,
    command_id,
    fingerprint,
    microseconds,
    overview,
    own_account,
    refuse,
)
from serve_apps.services import Services

_encode: Final = msgspec.msgpack.Encoder().encode


class Holding(msgspec.Struct, frozen=True):
    """An asset that somebody has. ``price`` is the last one, in ticks of ``instrument``.

    ``value`` is in units of the portfolio's currency, ``None`` while there is no price; ``share``
    is in tenths of a per cent.
    """

    balance: BalanceView
    instrument: Instrument | None
    price: int
    value: int | None
    share: int = 0


class Portfolio(msgspec.Struct, frozen=True):
    """What everything is worth in ``base``, in units; ``total`` leaves out what has no price."""

    base: str
    total: int
    holdings: list[Holding]
    unpriced: bool


def units_text(quantity: int) -> str:
    """Units of an asset as a decimal string with all eight decimals."""
    sign = "-" if quantity < 0 else ""
    digits = str(abs(quantity)).rjust(UNIT_EXPONENT + 1, "0")
    return f"{sign}{digits[:-UNIT_EXPONENT]}.{digits[-UNIT_EXPONENT:]}"


def fingerprint_of(actions: Iterable[TradeAction]) -> bytes:
    """A hash of what a trade asks for, by which another body under the same id is noticed."""
    return hashlib.blake2b(_encode(tuple(actions)), digest_size=16).digest()


async def view(
    services: Services, user: int, *, symbol: str = "", orders: bool = True
) -> BrokerageView | Rejection | Unavailable:
    """Balances and, where they are wanted, orders as they are now."""
    command = ReadBrokerage(user, symbol, orders=orders)
    reply = await services.accounts.call(command)
    if isinstance(reply, Rejection) and reply.code == Code.UNKNOWN_CUSTOMER:
        # A sign-up was cut short between the user and the accounts: this opens them.
        opened = await overview(services, user)
        if isinstance(opened, Rejection | Unavailable):
            return opened
        reply = await services.accounts.call(command)
    if isinstance(reply, BrokerageView | Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")


async def portfolio(services: Services, found: BrokerageView, base: str) -> Portfolio:
    """What everything is worth at last prices and middle rates, rounded down; dearest first."""
    now = microseconds(services.now())
    listed = services.catalogue.all()
    holdings = [
        await _holding(services, listed, balance, base, now)
        for balance in found.balances
        if balance.total
    ]
    total = sum(holding.value or 0 for holding in holdings)
    if total:
        holdings = [
            msgspec.structs.replace(each, share=(each.value or 0) * 1_000 // total)
            for each in holdings
        ]
    holdings.sort(key=lambda each: (-(each.value or 0), each.balance.asset))
    return Portfolio(base, total, holdings, any(each.value is None for each in holdings))


async def _holding(
    services: Services, listed: Sequence[Instrument], balance: BalanceView, base: str, now: int
) -> Holding:
    asset = balance.asset
    if asset in CURRENCIES:
        rate = services.rates.mid(asset, base, now)
        worth = None if rate is None else balance.total * rate // RATE_SCALE
        return Holding(balance, None, 0, worth)
    fitting = sorted(
        (each for each in listed if each.base == asset and each.quote in CURRENCIES),
        key=lambda each: (each.quote != base, each.symbol),
    )
    for instrument in fitting:
        ticker = await services.market.ticker(instrument.symbol)
        rate = services.rates.mid(instrument.quote, base, now)
        if ticker is None or not ticker.last or rate is None:
            continue
        worth = balance.total * ticker.last * instrument.tick // UNIT
        return Holding(balance, instrument, ticker.last, worth * rate // RATE_SCALE)
    return Holding(balance, fitting[0] if fitting else None, 0, None)


async def fund(
    services: Services, user: int, account_text: str | int, amount_text: str, key: str | None
) -> BrokerageReply | Rejection | Unavailable:
    """Move money from a current account to the brokerage."""
    return await _move(services, user, FundBrokerage, account_text, amount_text, key)


async def withdraw(
    services: Services, user: int, account_text: str | int, amount_text: str, key: str | None
) -> BrokerageReply | Rejection | Unavailable:
    """Move money from the brokerage to a current account."""
    return await _move(services, user, WithdrawBrokerage, account_text, amount_text, key)


async def _move(
    services: Services,
    user: int,
    kind: type[FundBrokerage | WithdrawBrokerage],
    account_text: str | int,
    amount_text: str,
    key: str | None,
) -> BrokerageReply | Rejection | Unavailable:
    funds = kind is FundBrokerage
    account = own_account(user, account_text)
    if isinstance(account, Rejection):
        return account if funds else _unknown(account_text)
    await services.directory.learn([account])
    currency = services.directory.known(account)
    if currency is None:
        unknown = refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=account)
        return unknown if funds else _unknown(account)
    try:
        amount = parse_amount(amount_text, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")
    endpoint = "brokerage/fund" if funds else "brokerage/withdraw"
    number, print_ = command_id(user, endpoint, key), fingerprint(account, amount)
    return _reply(await call(services, kind(number, print_, account, amount)))


def _unknown(account: str | int) -> Rejection:
    return refuse(Code.UNKNOWN_DESTINATION_ACCOUNT, account=str(account)[:40])


async def issue(
    services: Services, customer: int, asset: str, quantity: int, key: str | None
) -> BrokerageReply | Rejection | Unavailable:
    """Bring units of an asset into being, for the operator: nobody else may ask for it."""
    number = command_id(customer, "brokerage/issue", key)
    print_ = fingerprint(asset, quantity)
    return _reply(await call(services, IssueAsset(number, print_, customer, asset, quantity)))


def _reply(reply: object) -> BrokerageReply | Rejection | Unavailable:
    if isinstance(reply, BrokerageReply | Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")

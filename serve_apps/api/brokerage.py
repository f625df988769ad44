"""Operations on a brokerage's funds. Orders are placed through the trading dialect."""

from __future__ import annotations

from typing import Final

import msgspec

from domain.accounts.codes import Code
from domain.accounts.trading import BalanceView, BrokerageReply, BrokerageView
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES, format_amount
from serve_apps.accounts import refuse, time_text
from serve_apps.api.examples import BROKERAGE, BROKERAGE_MOVE
from serve_apps.api.forms import BrokerageForm
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter
from serve_apps.brokerage import Holding, fund, portfolio, units_text, view, withdraw


class BalanceBody(msgspec.Struct):
    """What there is of an asset; ``held`` of it is put aside for open orders."""

    asset: str
    total: str
    held: str
    available: str


class HoldingBody(msgspec.Struct):
    """What there is of an asset, and what it is worth at the last ``price`` of ``symbol``.

    ``price`` and ``value`` are null while there is no price.
    """

    asset: str
    total: str
    held: str
    available: str
    symbol: str | None
    price: str | None
    value: str | None


class BrokerageBody(msgspec.Struct):
    """A brokerage; ``total`` is what all with a price is worth in ``base``."""

    base: str
    total: str
    open_orders: int
    balances: list[HoldingBody]


class MoveBody(msgspec.Struct):
    """What was moved, and what the brokerage has of the currency since then."""

    id: str
    account: str
    amount: str
    currency: str
    balance: BalanceBody
    at: str


async def shown(call: Call) -> Outcome:
    """Balances, and what they are worth."""
    values = call.query(("base",))
    if isinstance(values, Rejection):
        return values
    base = values.get("base") or call.services.config.bonus_currency
    if base not in CURRENCIES:
        return refuse("malformed_query", parameter="base")
    found = await view(call.services, call.user)
    if not isinstance(found, BrokerageView):
        return found
    worth = await portfolio(call.services, found, base)
    return Answer(
        BrokerageBody(
            base,
            units_text(worth.total),
            len(found.orders),
            [_holding(each) for each in worth.holdings],
        )
    )


async def funded(call: Call) -> Outcome:
    """From a current account to the brokerage."""
    form: BrokerageForm = call.body
    return _moved(await fund(call.services, call.user, form.account, form.amount, call.key))


async def withdrawn(call: Call) -> Outcome:
    """From the brokerage to a current account."""
    form: BrokerageForm = call.body
    return _moved(await withdraw(call.services, call.user, form.account, form.amount, call.key))


def _moved(reply: BrokerageReply | Rejection | Unavailable) -> Outcome:
    if not isinstance(reply, BrokerageReply):
        return reply
    currency = reply.balance.asset
    return Answer(
        MoveBody(
            reply.id.hex(),
            str(reply.account),
            format_amount(reply.amount, currency),
            currency,
            BalanceBody(*_balance(reply.balance)),
            time_text(reply.at),
        ),
        201,
    )


def _balance(balance: BalanceView) -> tuple[str, str, str, str]:
    return (
        balance.asset,
        units_text(balance.total),
        units_text(balance.held),
        units_text(balance.available),
    )


def _holding(holding: Holding) -> HoldingBody:
    instrument = holding.instrument
    priced = instrument is not None and holding.price
    return HoldingBody(
        *_balance(holding.balance),
        None if instrument is None else instrument.symbol,
        units_text(holding.price * instrument.tick) if instrument and priced else None,
        None if holding.value is None else units_text(holding.value),
    )


_CODES: Final = (
    Code.ID_REUSED,
    Code.AMOUNT_INVALID,
    Code.TOO_MANY_DECIMALS,
    Code.AMOUNT_NOT_POSITIVE,
    Code.AMOUNT_TOO_LARGE,
)

OPERATIONS: Final = (
    Operation(
        name="show_brokerage",
        method="GET",
        path="/api/user/{user}/brokerage/",
        handler=shown,
        summary="Balances at the exchange",
        description="Everything that is traded is counted with eight decimals.",
        tag="Brokerage",
        answer=BrokerageBody,
        answer_example=BROKERAGE,
        parameters=(
            Parameter("base", "Currency to value everything in", "USD", tuple(CURRENCIES)),
        ),
        codes=("malformed_query",),
    ),
    Operation(
        name="fund_brokerage",
        method="POST",
        path="/api/user/{user}/brokerage/fund/",
        handler=funded,
        summary="Move money to the exchange",
        description="From a current account; it can be traded with at once.",
        tag="Brokerage",
        body=BrokerageForm,
        body_example={"account": BROKERAGE_MOVE["account"], "amount": "50.00"},
        status=201,
        answer=MoveBody,
        answer_example=BROKERAGE_MOVE,
        key="required",
        codes=(
            *_CODES,
            Code.UNKNOWN_SOURCE_ACCOUNT,
            Code.ACCOUNT_CLOSED,
            Code.ACCOUNT_FROZEN,
            Code.INSUFFICIENT_FUNDS,
        ),
    ),
    Operation(
        name="withdraw_brokerage",
        method="POST",
        path="/api/user/{user}/brokerage/withdraw/",
        handler=withdrawn,
        summary="Move money back from the exchange",
        description="To a current account of the currency; what open orders hold stays.",
        tag="Brokerage",
        body=BrokerageForm,
        body_example={"account": BROKERAGE_MOVE["account"], "amount": "50.00"},
        status=201,
        answer=MoveBody,
        answer_example=BROKERAGE_MOVE,
        key="required",
        codes=(
            *_CODES,
            Code.UNKNOWN_DESTINATION_ACCOUNT,
            Code.DESTINATION_CLOSED,
            Code.INSUFFICIENT_FUNDS,
        ),
    ),
)

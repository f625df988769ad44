"""The state of one customer's accounts, how events change it, and what they post to the books."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from domain.accounts import brokerage as br
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import customer_of
from domain.durable import Posting


class Account(msgspec.Struct, array_like=True, gc=False):
    """One account. ``posted - held`` is available and never negative.

    ``pending`` counts payments on their way out, ``expecting`` credits that were promised to a
    linked group; either keeps the account from being closed.
    """

    id: int
    currency: str
    name: str
    opened_at: int
    status: AccountStatus = AccountStatus.OPEN
    posted: int = 0
    held: int = 0
    pending: int = 0
    expecting: int = 0

    @property
    def available(self) -> int:
        """What can be spent now."""
        return self.posted - self.held


class Hold(msgspec.Struct, array_like=True, gc=False):
    """Funds put aside; ``amount`` is what is still held."""

    account: int
    amount: int
    expires_at: int
    purpose: str


class Group(msgspec.Struct, array_like=True):
    """A linked group between its reservation and its end."""

    fingerprint: bytes
    legs: tuple[ev.TransferSent, ...]
    waiting: list[bytes]
    prepared: list[bytes]


class Adjustment(msgspec.Struct, array_like=True, gc=False):
    """An adjustment that waits for its checker."""

    account: int
    amount: int
    reason: str
    maker: int
    expires_at: int


class Customer(msgspec.Struct, array_like=True, gc=False):
    """All accounts of a customer; ``spent`` is, by currency, a day and what was sent on it.

    Who has never funded a brokerage, nor been issued anything, has none; nor are there
    ``adjustments`` where none was ever proposed.
    """

    accounts: dict[int, Account] = {}
    holds: dict[bytes, Hold] = {}
    spent: dict[str, tuple[int, int]] = {}
    limits: dict[str, int] = {}
    groups: dict[bytes, Group] = {}
    promised: dict[bytes, bytes] = {}
    brokerage: br.Brokerage | None = None
    adjustments: dict[bytes, Adjustment] | None = None


def spent_on(state: Customer, currency: str, day: int) -> int:
    """What counts towards the limit of ``day``: what was sent, and what waits in linked groups."""
    spent_day, spent = state.spent.get(currency, (day, 0))
    waiting = 0
    if state.groups:
        waiting = sum(
            leg.amount
            for group in state.groups.values()
            for leg in group.legs
            if leg.limited and leg.currency == currency and leg.day == day
        )
    return waiting + (spent if spent_day == day else 0)


def _account_opened(state: Customer, event: ev.AccountOpened) -> None:
    state.accounts[event.account] = Account(event.account, event.currency, event.name, event.at)


def _bonus_credited(state: Customer, event: ev.BonusCredited) -> None:
    state.accounts[event.account].posted += event.amount


def _status_changed(state: Customer, event: ev.StatusChanged) -> None:
    state.accounts[event.account].status = event.status


def _limit_changed(state: Customer, event: ev.LimitChanged) -> None:
    state.limits[event.currency] = event.amount


def _transfer_sent(state: Customer, event: ev.TransferSent) -> None:
    account = state.accounts[event.source]
    account.posted -= event.amount + event.fee
    if event.destination not in state.accounts:
        account.pending += 1
    if event.hold is not None:
        _reduce_hold(state, event.hold, event.released)
    if event.limited:
        day, spent = state.spent.get(event.currency, (event.day, 0))
        # A linked group that was judged yesterday must not bring yesterday back.
        if day <= event.day:
            state.spent[event.currency] = (
                event.day,
                event.amount + (spent if day == event.day else 0),
            )


def _reduce_hold(state: Customer, hold_id: bytes, released: int) -> None:
    hold = state.holds[hold_id]
    state.accounts[hold.account].held -= released
    hold.amount -= released
    if not hold.amount:
        del state.holds[hold_id]


def _transfer_received(state: Customer, event: ev.TransferReceived) -> None:
    account = state.accounts[event.destination]
    account.posted += event.amount
    if event.promised:
        account.expecting -= 1
        state.promised.pop(event.transfer)


def _transfer_delivered(state: Customer, event: ev.TransferDelivered) -> None:
    state.accounts[event.source].pending -= 1


def _transfer_returned(state: Customer, event: ev.TransferReturned) -> None:
    account = state.accounts[event.source]
    account.posted += event.amount + event.fee
    account.pending -= 1
    day, spent = state.spent.get(event.currency, (0, 0))
    if day == event.day:
        state.spent[event.currency] = (day, max(0, spent - event.amount))


def _hold_reserved(state: Customer, event: ev.HoldReserved) -> None:
    state.accounts[event.account].held += event.amount
    state.holds[event.hold] = Hold(event.account, event.amount, event.expires_at, event.purpose)


def _hold_ended(state: Customer, event: ev.HoldEnded) -> None:
    _reduce_hold(state, event.hold, state.holds[event.hold].amount)


def _group_reserved(state: Customer, event: ev.GroupReserved) -> None:
    for leg in event.legs:
        state.accounts[leg.source].held += leg.amount + leg.fee
    state.groups[event.group] = Group(event.fingerprint, event.legs, list(event.external), [])


def _group_prepared(state: Customer, event: ev.GroupPrepared) -> None:
    group = state.groups[event.group]
    group.waiting.remove(event.transfer)
    group.prepared.append(event.transfer)


def _group_ended(state: Customer, event: ev.GroupEnded) -> None:
    for leg in state.groups.pop(event.group).legs:
        state.accounts[leg.source].held -= leg.amount + leg.fee


def _credit_prepared(state: Customer, event: ev.CreditPrepared) -> None:
    state.accounts[event.account].expecting += 1
    state.promised[event.transfer] = event.group


def _credit_released(state: Customer, event: ev.CreditReleased) -> None:
    state.accounts[event.account].expecting -= 1
    state.promised.pop(event.transfer)


def _orders_placed(state: Customer, event: ev.OrdersPlaced) -> None:
    br.place_orders(_brokerage(state, event.customer), event)


def _orders_worked(state: Customer, event: ev.OrdersWorked) -> None:
    br.orders_worked(_brokerage(state, event.customer), event)


def _orders_settled(state: Customer, event: ev.OrdersSettled) -> None:
    br.orders_settled(_brokerage(state, event.customer), event)


def _trade_ended(state: Customer, event: ev.TradeEnded) -> None:
    _brokerage(state, event.customer).trades.pop(event.trade, None)


def _brokerage_funded(state: Customer, event: ev.BrokerageFunded) -> None:
    state.accounts[event.account].posted -= event.amount
    brokerage = _brokerage(state, customer_of(event.account))
    br.balance_of(brokerage, event.currency).total += event.quantity


def _brokerage_withdrawn(state: Customer, event: ev.BrokerageWithdrawn) -> None:
    brokerage = _brokerage(state, customer_of(event.account))
    br.balance_of(brokerage, event.currency).total -= event.quantity
    state.accounts[event.account].posted += event.amount


def _asset_issued(state: Customer, event: ev.AssetIssued) -> None:
    br.balance_of(_brokerage(state, event.customer), event.asset).total += event.quantity


def _switch_set(state: Customer, event: ev.SwitchSet) -> None:
    switches = _brokerage(state, event.customer).switches
    if event.at:
        switches[event.symbol] = event.at
    else:
        switches.pop(event.symbol, None)


def _adjustment_proposed(state: Customer, event: ev.AdjustmentProposed) -> None:
    if state.adjustments is None:
        state.adjustments = {}
    state.adjustments[event.adjustment] = Adjustment(
        event.account, event.amount, event.reason, event.maker, event.expires_at
    )


def _adjustment_posted(state: Customer, event: ev.AdjustmentPosted) -> None:
    _adjustment_ended(state, event)
    state.accounts[event.account].posted += event.amount


def _adjustment_ended(
    state: Customer, event: ev.AdjustmentPosted | ev.AdjustmentRefused | ev.AdjustmentExpired
) -> None:
    assert state.adjustments is not None
    del state.adjustments[event.adjustment]


def _brokerage(state: Customer, customer: int) -> br.Brokerage:
    """The customer's brokerage, which begins with what first happens in it."""
    if state.brokerage is None:
        state.brokerage = br.Brokerage(customer)
    return state.brokerage


APPLY: dict[type, Callable[[Customer, Any], None]] = {
    ev.AccountOpened: _account_opened,
    ev.BonusCredited: _bonus_credited,
    ev.StatusChanged: _status_changed,
    ev.LimitChanged: _limit_changed,
    ev.TransferSent: _transfer_sent,
    ev.TransferReceived: _transfer_received,
    ev.TransferDelivered: _transfer_delivered,
    ev.TransferReturned: _transfer_returned,
    ev.HoldReserved: _hold_reserved,
    ev.HoldEnded: _hold_ended,
    ev.GroupReserved: _group_reserved,
    ev.GroupPrepared: _group_prepared,
    ev.GroupEnded: _group_ended,
    ev.CreditPrepared: _credit_prepared,
    ev.CreditReleased: _credit_released,
    ev.OrdersPlaced: _orders_placed,
    ev.OrdersWorked: _orders_worked,
    ev.OrdersSettled: _orders_settled,
    ev.TradeEnded: _trade_ended,
    ev.BrokerageFunded: _brokerage_funded,
    ev.BrokerageWithdrawn: _brokerage_withdrawn,
    ev.AssetIssued: _asset_issued,
    ev.SwitchSet: _switch_set,
    ev.AdjustmentProposed: _adjustment_proposed,
    ev.AdjustmentPosted: _adjustment_posted,
    ev.AdjustmentRefused: _adjustment_ended,
    ev.AdjustmentExpired: _adjustment_ended,
}
"""How each event changes the state."""


def postings(event: ev.Event) -> tuple[Posting, ...]:
    """Double entry: what ``event`` moves, summing to zero for each asset.

    Ledger accounts are customers' accounts by number, and in each partition the house's
    ``bonus``, ``fees``, ``fx`` and ``adjustments`` and the money on its way, ``transit``. A
    customer's brokerage goes by the customer's number; its counterparts are ``brokerage``,
    ``clearing``, ``issued`` and ``trading fees``.
    """
    if type(event) in _BROKERAGE:
        return tuple(Posting(*posting) for posting in _own_brokerage(event)) + tuple(
            Posting(*posting) for posting in _house_brokerage(event)
        )
    match event:
        case ev.TransferSent():
            return _sent(event, 1)
        case ev.TransferReceived():
            return (
                Posting("transit", event.currency, -event.amount),
                Posting(str(event.destination), event.currency, event.amount),
            )
        case ev.TransferReturned():
            return _sent(event, -1)
        case ev.BonusCredited():
            return (
                Posting("bonus", event.currency, -event.amount),
                Posting(str(event.account), event.currency, event.amount),
            )
        case ev.AdjustmentPosted():
            return (
                Posting("adjustments", event.currency, -event.amount),
                Posting(str(event.account), event.currency, event.amount),
            )
        case _:
            return ()


def house_postings(event: ev.Event) -> tuple[tuple[str, str, int], ...]:
    """The part of ``postings`` that is not on customers' accounts, as (account, asset, amount).

    Told apart from ``postings`` because the runtime asks it of every event.
    """
    kind = type(event)
    if kind is ev.TransferReceived:
        return (("transit", event.currency, -event.amount),)  # type: ignore[union-attr]
    if kind is ev.TransferSent:
        return _house_sent(event)  # type: ignore[arg-type]
    if kind in _BROKERAGE:
        return _house_brokerage(event)
    if kind not in _MOVING:
        return ()
    return tuple(
        (posting.account, posting.asset, posting.amount)
        for posting in postings(event)
        if not posting.account.isdecimal()
    )


_MOVING = frozenset({ev.TransferReturned, ev.BonusCredited, ev.AdjustmentPosted})
_BROKERAGE = frozenset(
    {
        ev.OrdersWorked,
        ev.OrdersSettled,
        ev.BrokerageFunded,
        ev.BrokerageWithdrawn,
        ev.AssetIssued,
    }
)


def _own_brokerage(event: Any) -> tuple[tuple[str, str, int], ...]:
    """What an event moves on the customer's accounts and brokerage."""
    kind = type(event)
    if kind is ev.OrdersWorked or kind is ev.OrdersSettled:
        owner = str(event.customer)
        return tuple((owner, br.ledger_asset(asset), change) for asset, change, _ in event.moved)
    if kind is ev.AssetIssued:
        return ((str(event.customer), br.ledger_asset(event.asset), event.quantity),)
    sign = 1 if kind is ev.BrokerageFunded else -1
    owner, asset = str(customer_of(event.account)), br.ledger_asset(event.currency)
    return (
        (str(event.account), event.currency, -sign * event.amount),
        (owner, asset, sign * event.quantity),
    )


def _house_brokerage(event: Any) -> tuple[tuple[str, str, int], ...]:
    """The counterparts of ``_own_brokerage``."""
    kind = type(event)
    if kind is ev.OrdersWorked or kind is ev.OrdersSettled:
        moved: list[tuple[str, str, int]] = []
        for name, change, fee in event.moved:
            asset = br.ledger_asset(name)
            moved.append(("clearing", asset, -change - fee))
            if fee:
                moved.append(("trading fees", asset, fee))
        return tuple(moved)
    if kind is ev.AssetIssued:
        return (("issued", br.ledger_asset(event.asset), -event.quantity),)
    sign = 1 if kind is ev.BrokerageFunded else -1
    return (
        ("brokerage", event.currency, sign * event.amount),
        ("brokerage", br.ledger_asset(event.currency), -sign * event.quantity),
    )


def _house_sent(event: ev.TransferSent) -> tuple[tuple[str, str, int], ...]:
    moved: tuple[tuple[str, str, int], ...] = (
        ("transit", event.credited_currency, event.credited),
    )
    if event.fee:
        moved += (("fees", event.currency, event.fee),)
    if event.currency != event.credited_currency:
        moved += (
            ("fx", event.currency, event.amount),
            ("fx", event.credited_currency, -event.credited),
        )
    return moved


def _sent(event: ev.TransferSent | ev.TransferReturned, sign: int) -> tuple[Posting, ...]:
    total = event.amount + event.fee
    result = [Posting(str(event.source), event.currency, -sign * total)]
    if event.fee:
        result.append(Posting("fees", event.currency, sign * event.fee))
    if event.currency != event.credited_currency:
        result.append(Posting("fx", event.currency, sign * event.amount))
        result.append(Posting("fx", event.credited_currency, -sign * event.credited))
    result.append(Posting("transit", event.credited_currency, sign * event.credited))
    return tuple(result)

"""The state of a customer's brokerage: balances, orders, and how events change them.

Balances are by plain name of the asset; in the ledger an asset of the brokerage is called
``"<NAME>.8"``, for it is counted in units of 10^-8 and not in minor units of a currency. What is
held of an asset is what the open orders can still cost: ``discrepancies`` proves it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec

from domain.accounts import events as ev
from domain.accounts.trading import OrderReport, PlaceOrder, Terms
from domain.orders import UNIT_EXPONENT, OrderStatus, Place, Side, Update

ENDED_MAX: Final = 100
"""So many orders that have ended are kept at hand."""

_BUY: Final = Side.BUY
_NEW: Final = OrderStatus.NEW
_PARTIALLY_FILLED: Final = OrderStatus.PARTIALLY_FILLED
_FILLED: Final = OrderStatus.FILLED


class Balance(msgspec.Struct, array_like=True, gc=False):
    """What the customer has of an asset, in units; ``held`` of it is put aside for orders."""

    total: int = 0
    held: int = 0


class Order(msgspec.Struct, array_like=True, gc=False):
    """An order, from its way to the book until it has ended and all its fills are settled.

    ``filled`` (lots) and ``quote`` (ticks x lots) are what has been settled; ``final_filled`` and
    ``final_quote`` what will have been when all has come, -1 until the book has ended the order.
    ``answered`` is set when the book has answered its ``Place``.
    """

    place: Place
    symbol: str
    terms: Terms
    client: str
    at: int
    quantity: int
    held: int
    status: OrderStatus = OrderStatus.PENDING
    filled: int = 0
    quote: int = 0
    updated_at: int = 0
    final_filled: int = -1
    final_quote: int = -1
    answered: bool = False
    previous: str = ""


class Underway(msgspec.Struct, array_like=True, gc=False):
    """A trade that a book is at work on; see ``events.OrdersPlaced``."""

    fingerprint: bytes
    symbol: str
    terms: Terms
    refused: tuple[tuple[int, OrderReport], ...] = ()
    later: tuple[tuple[int, PlaceOrder, str], ...] = ()
    parts: tuple[tuple[int, bytes], ...] = ()


class Brokerage(msgspec.Struct, array_like=True):
    """A customer's brokerage.

    ``orders`` are open, ``ended`` those that ended last; ``clients`` has the numbers of both by
    the ids that clients chose. ``switches`` are dead man's switches by symbol.
    """

    customer: int
    balances: dict[str, Balance] = {}
    orders: dict[int, Order] = {}
    ended: dict[int, Order] = {}
    clients: dict[str, int] = {}
    trades: dict[bytes, Underway] = {}
    switches: dict[str, int] = {}
    next_ref: int = 1


def ledger_asset(asset: str) -> str:
    """The name under which an asset of the brokerage is in the books."""
    return f"{asset}.{UNIT_EXPONENT}"


def balance_of(brokerage: Brokerage, asset: str) -> Balance:
    """The balance of an asset, which is made when there is none."""
    balance = brokerage.balances.get(asset)
    if balance is None:
        balance = brokerage.balances[asset] = Balance()
    return balance


def still_costs(order: Order) -> int:
    """What the order can still take: units of the quote of a buy, of the base of a sale."""
    place = order.place
    ended = order.final_filled >= 0
    if place.side is not _BUY:
        left = order.final_filled if ended else order.quantity
        return (left - order.filled) * order.terms.lot
    if ended:
        return (order.final_quote - order.quote) * order.terms.unit
    if not place.budget:
        return (order.quantity - order.filled) * place.price * order.terms.unit
    left = place.budget - order.quote
    if place.price and place.quantity:
        left = min(left, (order.quantity - order.filled) * place.price)
    return left * order.terms.unit


# -- events -------------------------------------------------------------------------------


def place_orders(brokerage: Brokerage, event: ev.OrdersPlaced) -> None:
    """Put the funds of new orders aside, and note what is on its way to the book."""
    orders, clients, terms, symbol, at = (
        brokerage.orders,
        brokerage.clients,
        event.terms,
        event.symbol,
        event.at,
    )
    index = bought = sold = ref = 0
    for place in event.actions:
        if type(place) is not Place:
            continue
        ref, held, client = place.ref, event.holds[index], event.clients[index]
        orders[ref] = order = Order(place, symbol, terms, client, at, place.quantity, held)
        if client:
            clients[client] = ref
        if event.previous:
            order.previous = event.previous[index]
        if place.side is _BUY:
            bought += held
        else:
            sold += held
        index += 1
    if index:
        brokerage.next_ref = ref + 1
    if bought:
        balance_of(brokerage, terms.quote).held += bought
    if sold:
        balance_of(brokerage, terms.base).held += sold
    brokerage.trades[event.trade] = Underway(
        event.fingerprint, symbol, terms, event.refused, event.later, event.parts
    )


def orders_worked(brokerage: Brokerage, event: ev.OrdersWorked) -> None:
    """Settle what the book has answered."""
    _settle(brokerage, event.updates, event.moved, event.at, True)
    if not event.waiting:
        brokerage.trades.pop(event.trade, None)


def orders_settled(brokerage: Brokerage, event: ev.OrdersSettled) -> None:
    """Settle what happened in the book without the customer's doing."""
    _settle(brokerage, event.updates, event.moved, event.at, False)


def _settle(
    brokerage: Brokerage,
    updates: Iterable[Update],
    moved: Iterable[tuple[str, int, int]],
    at: int,
    answered: bool,
) -> None:
    """Bring orders up to date, and with them what is held; in whatever order updates come."""
    orders, ended = brokerage.orders, brokerage.ended
    bought = sold = 0
    terms: Terms | None = None
    for update in updates:
        ref = update.ref
        order = orders.get(ref)
        if order is None:
            continue
        filled, quantity, status = order.filled, update.quantity, update.status
        fills = update.fills
        if fills:
            quote = order.quote
            for fill in fills:
                lots = fill.quantity
                filled += lots
                quote += fill.price * lots
            order.filled, order.quote = filled, quote
        # Only ever reduced: the smallest is the newest.
        if 0 < quantity < order.quantity or not order.quantity:
            order.quantity = quantity
        if answered:
            order.answered = True
        if status >= _FILLED:
            order.status = status
            order.final_filled, order.final_quote = update.filled, update.quote
        elif order.final_filled < 0:
            order.status = _PARTIALLY_FILLED if filled else _NEW
        order.updated_at = at
        terms = order.terms
        if order.final_filled == filled:
            held = 0
            if order.answered:
                del orders[ref]
                ended[ref] = order
        else:
            held = still_costs(order)
        change = held - order.held
        if change:
            order.held = held
            if order.place.side is _BUY:
                bought += change
            else:
                sold += change
    if terms is not None:
        if bought:
            balance_of(brokerage, terms.quote).held += bought
        if sold:
            balance_of(brokerage, terms.base).held += sold
    for asset, more, _ in moved:
        balance_of(brokerage, asset).total += more
    if len(ended) > ENDED_MAX:
        _forget(brokerage)


def _forget(brokerage: Brokerage) -> None:
    """Keep only those at hand that ended last."""
    ended, clients = brokerage.ended, brokerage.clients
    for ref in list(islice(ended, len(ended) - ENDED_MAX)):
        client = ended.pop(ref).client
        if client and clients.get(client) == ref:
            del clients[client]


# -- proof --------------------------------------------------------------------------------


def discrepancies(brokerage: Brokerage) -> list[str]:
    """What is wrong in a brokerage, in sentences: holds must equal what open orders can cost."""
    found: list[str] = []
    held: dict[str, int] = {}
    for ref, order in brokerage.orders.items():
        costs = still_costs(order)
        if costs != order.held or costs < 0:
            found.append(f"order {ref} can cost {costs}, held for it is {order.held}")
        asset = order.terms.quote if order.place.side is _BUY else order.terms.base
        held[asset] = held.get(asset, 0) + order.held
    for asset in sorted({*held, *brokerage.balances}):
        balance = brokerage.balances.get(asset, Balance())
        if balance.held != held.get(asset, 0):
            found.append(f"{asset}: held {balance.held}, for open orders {held.get(asset, 0)}")
        if balance.held > balance.total or balance.held < 0:
            found.append(f"{asset}: held {balance.held} of {balance.total}")
    for client, ref in brokerage.clients.items():
        order_of = brokerage.orders.get(ref) or brokerage.ended.get(ref)
        if order_of is None or order_of.client != client:
            found.append(f"the client's id {client!r} stands for order {ref}, which has another")
    return found

"""From the parameters of an order to what the customer's entity is asked, and the order's rules.

What can be judged without the order book or the account is judged here, in the dialect's words:
missing and superfluous parameters first, then precision, then the filters of the instrument.
Without input or output; raises ``Refused``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from domain.accounts.trading import (
    AmendOrder,
    CancelOrder,
    PlaceOrder,
    Terms,
    Trade,
    TradeAction,
)
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from persistence.trading.catalogue import Instrument
from serve_apps.exchange import numbers
from serve_apps.exchange import parameters as p
from serve_apps.exchange.errors import Refused, filter_failure, invalid, missing
from serve_apps.exchange.parameters import Parameters

SIDES: Final = {side.name: side for side in Side}
TYPES: Final = {kind.name: kind for kind in OrderType}
TIMES: Final = {time.name: time for time in TimeInForce}
PREVENTIONS: Final = {mode.name: mode for mode in SelfTrade}

LIMITED: Final = frozenset(
    {
        OrderType.LIMIT,
        OrderType.LIMIT_MAKER,
        OrderType.STOP_LOSS_LIMIT,
        OrderType.TAKE_PROFIT_LIMIT,
    }
)
TIMED: Final = LIMITED - {OrderType.LIMIT_MAKER}
STOPS: Final = frozenset(
    {
        OrderType.STOP_LOSS,
        OrderType.STOP_LOSS_LIMIT,
        OrderType.TAKE_PROFIT,
        OrderType.TAKE_PROFIT_LIMIT,
    }
)
"""Orders that wait until the last price reaches them."""

ORDER_PARAMETERS: Final = frozenset(
    {
        "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "stopPrice",
        "icebergQty", "newClientOrderId", "newOrderRespType", "selfTradePreventionMode",
        "goodTillDate", "recvWindow", "timestamp", "signature", "apiKey", "computeCommissionRates",
        "returnRateLimits", "strategyId", "strategyType",
    }
)  # fmt: skip
"""What an order may have. ``goodTillDate`` is ours, for orders with ``timeInForce`` GTD."""

REPLACE_PARAMETERS: Final = ORDER_PARAMETERS | {
    "cancelReplaceMode", "cancelNewClientOrderId", "cancelOrigClientOrderId", "cancelOrderId",
    "orderRateLimitExceededMode",
}  # fmt: skip

_encode: Final = msgspec.msgpack.Encoder().encode


def digest(*parts: object) -> bytes:
    """16 bytes that stand for something for ever."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).digest()


def order_prefix(customer: int) -> bytes:
    """What is hashed before a client's id for an order."""
    return f"{customer}\0order\0".encode()


def order_id(customer: int, client: str) -> bytes:
    """What stands for an order by its client's own id."""
    return hashlib.blake2b(order_prefix(customer) + client.encode(), digest_size=16).digest()


def make_trade(
    number: bytes,
    customer: int,
    symbol: str,
    terms: Terms,
    actions: Sequence[TradeAction],
) -> Trade:
    """The command; its fingerprint is of what is asked, so that other terms are no conflict."""
    asked = tuple(actions)
    fingerprint = hashlib.blake2b(_encode((symbol, asked)), digest_size=16).digest()
    return Trade(number, fingerprint, customer, symbol, terms, asked)


def unknown(params: Parameters, known: frozenset[str]) -> None:
    """An order with a parameter that nobody would heed is not placed. Raises ``Refused``."""
    if not params.keys() <= known:
        name = next(name for name in params if name not in known)
        raise Refused(-1103, f"An unknown parameter was sent: '{name[:40]}'.")


def place(
    params: Parameters, instrument: Instrument, client: str, after: bool = False
) -> PlaceOrder:
    """Read a new order. Raises ``Refused``."""
    side = SIDES.get(p.required(params, "side"))
    if side is None:
        raise Refused(-1117, "Invalid side.")
    kind = TYPES.get(p.required(params, "type"))
    if kind is None:
        raise Refused(-1116, "Invalid orderType.")
    time_in_force, expires_at = _time(params, kind)
    price = trigger = quantity = display = budget = 0
    if kind in LIMITED:
        price = numbers.ticks("price", p.required(params, "price"), instrument)
    elif p.text(params, "price"):
        raise Refused(-1106, "Parameter 'price' sent when not required.")
    if kind in STOPS:
        trigger = numbers.ticks("stopPrice", p.required(params, "stopPrice"), instrument)
    elif p.text(params, "stopPrice"):
        raise Refused(-1106, "Parameter 'stopPrice' sent when not required.")
    asked, amount = p.text(params, "quantity"), p.text(params, "quoteOrderQty")
    if kind is OrderType.MARKET and amount:
        if asked:
            raise Refused(-1128, "Combination of optional parameters invalid.")
        budget = numbers.units("quoteOrderQty", amount) // instrument.unit
    elif amount:
        raise Refused(-1106, "Parameter 'quoteOrderQty' sent when not required.")
    elif asked:
        quantity = numbers.lots("quantity", asked, instrument)
    else:
        raise missing("quantity")
    visible = p.text(params, "icebergQty")
    if visible and numbers.units("icebergQty", visible):
        if kind not in LIMITED or time_in_force is not TimeInForce.GTC:
            raise Refused(-1014, "Unsupported order combination")
        display = numbers.lots("icebergQty", visible, instrument)
    mode = p.text(params, "selfTradePreventionMode")
    prevention = PREVENTIONS.get(mode or "NONE")
    if prevention is None:
        raise invalid("selfTradePreventionMode")
    order = PlaceOrder(
        client, side, kind, time_in_force, price, quantity, trigger, display, prevention,
        expires_at, budget, b"", after,
    )  # fmt: skip
    check(order, instrument)
    return order


def _time(params: Parameters, kind: OrderType) -> tuple[TimeInForce, int]:
    asked = p.text(params, "timeInForce")
    until = p.moment(params, "goodTillDate")
    if kind not in TIMED:
        if asked and not (kind is OrderType.LIMIT_MAKER and asked == "GTC"):
            raise Refused(-1106, "Parameter 'timeInForce' sent when not required.")
        time_in_force = TimeInForce.GTC if kind in LIMITED or kind in STOPS else TimeInForce.IOC
    elif not asked:
        raise missing("timeInForce")
    else:
        found = TIMES.get(asked)
        if found is None:
            raise Refused(-1115, "Invalid timeInForce.")
        time_in_force = found
    if (time_in_force is TimeInForce.GTD) != (until is not None):
        raise (
            missing("goodTillDate")
            if until is None
            else Refused(-1106, "Parameter 'goodTillDate' sent when not required.")
        )
    return time_in_force, until or 0


def check(order: PlaceOrder, instrument: Instrument) -> None:
    """Hold an order against the filters of its instrument. Raises ``Refused`` (-1013)."""
    price, quantity, trigger = order.price, order.quantity, order.trigger
    if price > instrument.price_max or trigger > instrument.price_max:
        raise filter_failure("PRICE_FILTER")
    if quantity > instrument.quantity_max:
        raise filter_failure("LOT_SIZE")
    if order.display > quantity:
        raise Refused(-2010, "IcebergQty exceeds QTY.")
    worth = order.budget if not quantity else (price or trigger) * quantity
    if worth < instrument.notional_min and (price or trigger or not quantity):
        raise filter_failure("NOTIONAL")


def named(
    params: Parameters, ref_name: str = "orderId", client_name: str = "origClientOrderId"
) -> tuple[int, str]:
    """Which order is meant: its number (0 for none) and its client's id. Raises ``Refused``."""
    ref = p.integer(params, ref_name)
    client = p.text(params, client_name)
    if ref is None and not client:
        raise Refused(
            -1102,
            f"Param '{client_name}' or '{ref_name}' must be sent, but both were empty/null!",
        )
    return ref or 0, client


def cancel(
    params: Parameters, ref_name: str = "orderId", client_name: str = "origClientOrderId"
) -> CancelOrder:
    """Read which order is to be cancelled. Raises ``Refused``."""
    if p.text(params, "cancelRestrictions"):
        raise Refused(-1145, "Invalid cancelRestrictions")
    return CancelOrder(*named(params, ref_name, client_name))


def amend(params: Parameters, instrument: Instrument) -> AmendOrder:
    """Read by how much an order is to be reduced. Raises ``Refused``."""
    ref, client = named(params)
    quantity = numbers.lots("newQty", p.required(params, "newQty"), instrument)
    return AmendOrder(ref, client, quantity)

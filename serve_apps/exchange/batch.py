"""Batches: hundreds of actions on one instrument in one request, ours on top of the dialect.

Rows are in ticks and lots, as ``exchangeInfo`` tells their sizes, so that nothing has to be
converted: this is the path that carries a hundred thousand orders a second. Orders with the
parameters of ``order.place`` work as well, and cost more.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from domain.accounts.trading import (
    AmendOrder,
    CancelAll,
    CancelOrder,
    OrderReport,
    PlaceOrder,
    TradeAction,
    TradeReply,
)
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from persistence.trading.catalogue import Instrument
from serve_apps.exchange import errors, orders
from serve_apps.exchange import parameters as p
from serve_apps.exchange.calls import Call, Ticket, client_from
from serve_apps.exchange.errors import Refused
from serve_apps.exchange.numbers import INTEGER_MAX
from serve_apps.exchange.orders import (
    LIMITED,
    STOPS,
    digest,
    make_trade,
    order_id,
    order_prefix,
)
from serve_apps.exchange.trading import amount_of, placed, response_type

if TYPE_CHECKING:
    from serve_apps.exchange.desk import Desk

ROWS_MAX: Final = 1_000
"""Actions that one batch may have."""

_GTD: Final = TimeInForce.GTD
_MARKET: Final = OrderType.MARKET


class PlaceRow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind", tag=1):
    """A new order: prices in ticks, quantities in lots, ``budget`` in ticks x lots."""

    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    quantity: int
    client: str = ""
    trigger: int = 0
    display: int = 0
    self_trade: SelfTrade = SelfTrade.NONE
    expires_at: int = 0
    budget: int = 0


class CancelRow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind", tag=2):
    """Cancel an order, by its number or its client's id."""

    order: int = 0
    client: str = ""


class AmendRow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind", tag=3):
    """Reduce an order to ``quantity`` lots in all."""

    order: int
    quantity: int
    client: str = ""


class CancelAllRow(msgspec.Struct, frozen=True, array_like=True, gc=False, tag_field="kind", tag=4):
    """Cancel every open order of the instrument. It must be alone in its batch."""


Row = PlaceRow | CancelRow | AmendRow | CancelAllRow


class BatchBody(msgspec.Struct):
    """A batch: rows, or orders with the parameters of ``order.place``."""

    symbol: str
    rows: list[Row] = []
    orders: list[dict[str, Any]] = []


class BatchFrame(msgspec.Struct, array_like=True):
    """A batch as a binary frame of the websocket."""

    id: int | str | None
    symbol: str
    rows: list[Row]


class RowAnswer(msgspec.Struct, array_like=True, gc=False):
    """What became of an action. ``code`` is empty, or says why it was refused."""

    order: int
    client: str
    status: int
    filled: int
    quote: int
    code: str
    fills: Sequence[Any]


class Rows(msgspec.Struct, rename="camel"):
    """What became of the rows of a batch, in their order; times in microseconds."""

    at: int
    rows: list[RowAnswer]


def _no_number(text: str) -> str:
    return text


_json_body: Final = msgspec.json.Decoder(BatchBody, float_hook=_no_number).decode
_msgpack_body: Final = msgspec.msgpack.Decoder(BatchBody).decode
read_frame: Final = msgspec.msgpack.Decoder(BatchFrame).decode


def read_body(content: bytes, content_type: bytes) -> BatchBody:
    """Read a batch. Raises ``Refused`` (-1135)."""
    try:
        if content_type.startswith((b"application/msgpack", b"application/x-msgpack")):
            return _msgpack_body(content)
        return _json_body(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Refused(-1135, f"Invalid JSON Request: {str(error)[:150]}") from error


def place_batch(desk: Desk, call: Call) -> Ticket | Any:
    """``order.placeBatch``; ``call.content`` is a ``BatchBody`` or ``BatchFrame``."""
    body: BatchBody | BatchFrame = call.content
    instrument = desk.instrument(body.symbol)
    if type(body) is BatchBody and body.orders:
        if body.rows:
            raise Refused(-1128, "Combination of optional parameters invalid.")
        return _orders_ticket(desk, call, body.orders, instrument)
    rows = body.rows
    if not 1 <= len(rows) <= ROWS_MAX:
        raise errors.invalid("rows")
    named = [row.client for row in rows if type(row) is PlaceRow]
    mark = _batch_number(call, instrument.symbol, named)
    refused: dict[int, str] = {}
    actions: list[TradeAction] = []
    prefix = order_prefix(call.user)
    count = 0
    for index, row in enumerate(rows):
        if type(row) is PlaceRow:
            count += 1
            code = _flaw(row, instrument)
            if code:
                refused[index] = code
                continue
            actions.append(_order(row, prefix))
        elif type(row) is CancelRow:
            actions.append(CancelOrder(row.order, row.client))
        elif type(row) is AmendRow:
            actions.append(AmendOrder(row.order, row.client, row.quantity))
        elif len(rows) > 1:
            raise errors.invalid("rows")
        else:
            actions.append(CancelAll())
    if count:
        call.count = desk.limits.charge_orders(call.user, count)

    def finish(reply: TradeReply) -> Rows:
        answers = [_row_answer(report) for report in reply.reports]
        for index, code in refused.items():
            answers.insert(index, RowAnswer(0, "", 0, 0, 0, code, ()))
        return Rows(reply.at, answers)

    if not actions:
        return finish(TradeReply(call.now, ()))
    terms = desk.terms(instrument)
    trade = make_trade(mark, call.user, instrument.symbol, terms, actions)
    return Ticket(trade, finish)


def _batch_number(call: Call, symbol: str, named: Sequence[str]) -> bytes:
    """What stands for a batch: the ids of its orders where each has one, or else its signature.

    So a batch that is sent again, on whatever connection, gets its first answer; its time, and
    with it its signature, may be another one then.
    """
    if named and all(named):
        return digest(call.user, "batch", symbol, *named)
    return call.number("batch")


def _flaw(row: PlaceRow, instrument: Instrument) -> str:
    """Why a row cannot be an order of the instrument; empty when it can."""
    kind, price, quantity, budget = row.type, row.price, row.quantity, row.budget
    if not 0 <= price <= instrument.price_max or not 0 <= row.trigger <= instrument.price_max:
        return "filter_price"
    if (price == 0) == (kind in LIMITED) or (row.trigger == 0) == (kind in STOPS):
        return "filter_price"
    if not 0 <= quantity <= instrument.quantity_max or not 0 <= row.display <= quantity:
        return "filter_quantity"
    if not 0 <= budget <= INTEGER_MAX or (budget > 0) == (quantity > 0):
        return "filter_quantity"
    if budget and kind is not _MARKET:
        return "filter_quantity"
    worth = budget or (price or row.trigger) * quantity
    if worth < instrument.notional_min and (price or row.trigger or budget):
        return "filter_notional"
    if (row.expires_at > 0) != (row.time_in_force is _GTD):
        return "expiry_invalid"
    if row.client and p.CLIENT_ID.fullmatch(row.client) is None:
        return "client_id_invalid"
    return ""


def _order(row: PlaceRow, prefix: bytes) -> PlaceOrder:
    client = row.client
    return PlaceOrder(
        client,
        row.side,
        row.type,
        row.time_in_force,
        row.price,
        row.quantity,
        row.trigger,
        row.display,
        row.self_trade,
        row.expires_at,
        row.budget,
        blake2b(prefix + client.encode(), digest_size=16).digest() if client else b"",
    )


def _row_answer(report: OrderReport) -> RowAnswer:
    return RowAnswer(
        report.ref,
        report.client,
        report.status,
        report.filled,
        report.quote,
        report.code,
        report.fills,
    )


def _orders_ticket(
    desk: Desk, call: Call, asked: list[dict[str, Any]], instrument: Instrument
) -> Ticket | Any:
    """A batch of orders with the parameters of ``order.place``; each has an answer like one."""
    if len(asked) > ROWS_MAX:
        raise errors.invalid("orders")
    named = [params.get("newClientOrderId") for params in asked]
    mark = _batch_number(call, instrument.symbol, [n if isinstance(n, str) else "" for n in named])
    refused: dict[int, Refused] = {}
    actions: list[PlaceOrder] = []
    styles: list[tuple[str, int]] = []
    for index, params in enumerate(asked):
        try:
            orders.unknown(params, orders.ORDER_PARAMETERS)
            chosen = p.client_id(params, "newClientOrderId")
            client = chosen or client_from(digest(mark.hex(), index))
            order = orders.place(params, instrument, client)
            styles.append((response_type(params, order), amount_of(order)))
        except Refused as error:
            refused[index] = error
            continue
        if chosen:
            order = msgspec.structs.replace(order, id=order_id(call.user, chosen))
        actions.append(order)

    def finish(reply: TradeReply) -> list[Any]:
        answers: list[Any] = []
        for report, style in zip(reply.reports, styles, strict=True):
            try:
                answers.append(placed(report, instrument, reply.at, *style))
            except Refused as error:
                answers.append(error.body)
        for index, refusal in refused.items():
            answers.insert(index, refusal.body)
        return answers

    if not actions:
        return finish(TradeReply(call.now, ()))
    call.count = desk.limits.charge_orders(call.user, len(actions))
    terms = desk.terms(instrument)
    trade = make_trade(mark, call.user, instrument.symbol, terms, actions)
    return Ticket(trade, finish)

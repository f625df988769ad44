"""The trading page: a market as it is, and the orders of whoever looks at it.

Everything is there with the first answer; scripts then keep it current. A form that is sent
places, amends or cancels; what was wrong with it comes back beside its fields.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import msgspec
from starlette.responses import Response

from domain.accounts.trading import OrderReport
from domain.durable import Unavailable
from domain.orders import OrderStatus
from persistence.trading.catalogue import Instrument
from serve_apps import trading
from serve_apps.pages.exchange import desk as desks
from serve_apps.pages.exchange import figures, market
from serve_apps.pages.visit import Refused, Visit
from serve_apps.trading import Errors, Ticket

UNKNOWN_OUTCOME: Final = (
    "It is not known yet whether this was carried out. Look at your open orders; sending the same"
    " form again places nothing twice."
)
_VIEWS: Final = ("chart", "book", "trades", "ticket")
_TABS: Final = ("open", "history", "fills", "balances")


class Placed(msgspec.Struct, frozen=True):
    """An order that was taken, in words; ``kind`` of the notice."""

    ref: int
    words: str
    kind: str = "success"


async def first(visit: Visit) -> Response:
    """Trading without a choice: the instrument that is traded first."""
    for instrument in visit.services.catalogue.all():
        if instrument.status == "trading":
            return visit.go(f"/trade/{instrument.symbol}")
    return visit.go("/markets")


async def show(visit: Visit) -> Response:
    """The whole page."""
    instrument = await _instrument(visit)
    query = visit.query
    side = query.get("side", "")
    last = visit.services.market.last_price(instrument.symbol)
    ticket = Ticket(
        secrets.token_hex(16),
        side=side if side in trading.SIDES else "buy",
        price=query.get("price", "")[:28]
        or (figures.price(last, instrument, plain=True) if last else ""),
    )
    return await _page(visit, instrument, ticket, {})


def _placed(text: str, instrument: Instrument, desk: desks.Desk | None) -> Placed | None:
    """What became of the order that was placed with the page before."""
    if not text.isdecimal() or len(text) > 9 or desk is None:
        return None
    for row in [*desk.open, *desk.recent]:
        if row.order.ref == int(text) and row.order.symbol == instrument.symbol:
            return _told(row.order, instrument)
    return None


async def place(visit: Visit) -> Response:
    """Place an order."""
    form = await visit.form()
    instrument = await _instrument(visit)
    fields = {name: form.get(name, "") for name in Ticket.__struct_fields__ if form.get(name)}
    fields["key"] = fields.get("key", "")[:64] or secrets.token_hex(16)
    ticket = Ticket(**fields)
    result = await trading.place(visit.services, visit.user, instrument, ticket)
    if isinstance(result, Unavailable):
        return await _again(visit, instrument, ticket, {"": UNKNOWN_OUTCOME}, 503)
    ticket = msgspec.structs.replace(ticket, key=secrets.token_hex(16))
    if isinstance(result, dict):
        return await _again(visit, instrument, ticket, result, 422)
    if not visit.by_htmx:
        return visit.go(f"/trade/{instrument.symbol}", placed=str(result.ref))
    ticket = msgspec.structs.replace(ticket, quantity="", total="", display="", until="")
    placed = _told(result, instrument)
    return visit.page(
        "exchange/_ticket.html", **await _ticket_values(visit, instrument, ticket, {}, placed)
    )


def _told(report: OrderReport, instrument: Instrument) -> Placed:
    """What became of an order."""
    what = figures.SIDE_WORDS[report.side]
    amount = figures.quantity(report.quantity or report.filled, instrument)
    text = f"{what} {amount} {instrument.base}"
    if report.price:
        text += f" at {figures.price(report.price, instrument)}"
    state = figures.ORDER_WORDS[report.status].lower()
    if report.filled:
        average = figures.price(report.quote // report.filled, instrument)
        done = figures.quantity(report.filled, instrument)
        part = "" if report.status == OrderStatus.FILLED else f" {done}"
        state = f"filled{part} at {average}"
        if report.status not in (OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED):
            state += f", the rest {figures.ORDER_WORDS[report.status].lower()}"
    lives = report.status in (OrderStatus.NEW, OrderStatus.PENDING)
    return Placed(report.ref, f"{text}: {state}.", "success" if lives or report.filled else "info")


async def cancel(visit: Visit) -> Response:
    """Cancel one order; on another instrument than the page's where the form says so."""
    form, _, of = await _about(visit)
    ref = int(form["ref"]) if form.get("ref", "").isdecimal() else 0
    return await _desk_answer(visit, await trading.cancel(visit.services, visit.user, of, ref))


async def cancel_all(visit: Visit) -> Response:
    """Cancel every open order, on all instruments that have some."""
    await _about(visit)
    view = await trading.view(visit.services, visit.user)
    if view is None:
        return await _desk_answer(visit, Unavailable("accounts"))
    outcome: Errors | Unavailable | None = None
    for symbol in sorted({order.symbol for order in view.orders}):
        of = await visit.services.catalogue.find(symbol)
        if of is not None:
            outcome = await trading.cancel_all(visit.services, visit.user, of) or outcome
    return await _desk_answer(visit, outcome)


async def amend(visit: Visit) -> Response:
    """Change price or quantity of an open order."""
    form, _, of = await _about(visit)
    view = await trading.view(visit.services, visit.user)
    if view is None:
        return await _desk_answer(visit, Unavailable("accounts"))
    ref = int(form["ref"]) if form.get("ref", "").isdecimal() else 0
    order = desks.order_of(view, of.symbol, ref)
    if order is None:
        return await _desk_answer(visit, {"": trading.explain("unknown_order")})
    outcome = await trading.amend(
        visit.services, visit.user, of, order, form.get("price", ""), form.get("quantity", ""),
        form.get("key", "")[:64] or secrets.token_hex(16),
    )  # fmt: skip
    return await _desk_answer(visit, outcome)


async def desk_fragment(visit: Visit) -> Response:
    """Orders, fills and balances as they are now."""
    return await _desk_page(visit, await _instrument(visit), "", 200)


async def _about(visit: Visit) -> tuple[dict[str, str], Instrument, Instrument]:
    """The form, the page's instrument, and the one that the form is about."""
    form = await visit.form()
    here = await _instrument(visit)
    of = await visit.services.catalogue.find(form["of"]) if form.get("of") else here
    if of is None:
        raise Refused(404)
    return form, here, of


async def _desk_answer(visit: Visit, outcome: Errors | Unavailable | None) -> Response:
    instrument = await _instrument(visit)
    error, status = "", 200
    if isinstance(outcome, Unavailable):
        error, status = UNKNOWN_OUTCOME, 503
    elif outcome:
        error, status = " ".join(outcome.values()), 422
    if visit.by_htmx:
        return await _desk_page(visit, instrument, error, status)
    if not error:
        return visit.go(f"/trade/{instrument.symbol}")
    ticket = Ticket(secrets.token_hex(16))
    return await _page(visit, instrument, ticket, {}, desk_error=error, http_status=status)


async def _desk_page(visit: Visit, instrument: Instrument, error: str, status: int) -> Response:
    desk = await desks.read(visit.services, visit.user)
    return visit.page(
        "exchange/_desk.html",
        503 if desk is None else status,
        instrument=instrument,
        desk=desk,
        desk_error=error,
        available=desks.available(desk, instrument),
    )


async def _instrument(visit: Visit) -> Instrument:
    symbol = visit.request.path_params["symbol"]
    if len(symbol) > 20:
        raise Refused(404)
    found = await visit.services.catalogue.find(symbol)
    if found is None:
        raise Refused(404)
    return found


async def _again(
    visit: Visit, instrument: Instrument, ticket: Ticket, errors: Errors, status: int
) -> Response:
    """The form once more, with what is wrong: alone, or in its page where no script runs."""
    if visit.by_htmx:
        values = await _ticket_values(visit, instrument, ticket, errors, None)
        return visit.page("exchange/_ticket.html", status, **values)
    return await _page(visit, instrument, ticket, errors, http_status=status, view="ticket")


async def _ticket_values(
    visit: Visit, instrument: Instrument, ticket: Ticket, errors: Errors, placed: Placed | None
) -> dict[str, Any]:
    word, _ = await market.state(visit.services, instrument)
    desk = await desks.read(visit.services, visit.user) if visit.principal else None
    return {
        "instrument": instrument,
        "ticket": ticket,
        "errors": errors,
        "placed": placed,
        "state": word,
        "available": desks.available(desk, instrument),
        "types": figures.TICKET_TYPES,
        "forces": figures.TICKET_FORCES,
        "self_trades": figures.TICKET_SELF_TRADES,
    }


async def _page(
    visit: Visit,
    instrument: Instrument,
    ticket: Ticket,
    errors: Errors,
    *,
    desk_error: str = "",
    http_status: int = 200,
    view: str = "",
) -> Response:
    services, symbol = visit.services, instrument.symbol
    listed = [each for each in services.catalogue.all() if each.status != "delisted"]
    listing, book, prints, (interval, drawing), (word, reason) = await asyncio.gather(
        market.rows(services, listed),
        market.depth(services, symbol),
        market.prints(services, symbol),
        market.chart(services, symbol, visit.query.get("interval", "")),
        market.state(services, instrument),
    )
    ticker = next((row.ticker for row in listing if row.instrument.symbol == symbol), None)
    desk = await desks.read(services, visit.user) if visit.principal else None
    view = view or visit.query.get("view", "")
    tab = visit.query.get("tab", "")
    values = {
        "instrument": instrument,
        "ticker": ticker,
        "listing": listing,
        "book": book,
        "trades": prints,
        "drawing": drawing,
        "interval": interval,
        "intervals": market.CHOICES,
        "state": word,
        "banner": await market.banner(services, instrument, word, reason)
        if word != "trading"
        else "",
        "view": view if view in _VIEWS else "ticket" if visit.query.get("price") else "chart",
        "desk_tab": tab if tab in _TABS else "open",
        "desk": desk,
        "desk_error": desk_error,
        "ticket": ticket,
        "errors": errors,
        "placed": None if errors else _placed(visit.query.get("placed", ""), instrument, desk),
        "available": desks.available(desk, instrument),
        "types": figures.TICKET_TYPES,
        "forces": figures.TICKET_FORCES,
        "self_trades": figures.TICKET_SELF_TRADES,
    }
    return visit.page("exchange/trade.html", http_status, **values)

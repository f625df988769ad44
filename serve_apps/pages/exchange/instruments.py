"""Instruments, for administrators: list new ones, halt, resume, hold an auction, delist."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.responses import Response

from domain.durable import Rejection, Unavailable
from domain.trading.commands import InstrumentReply
from persistence.trading.catalogue import Instrument
from serve_apps import instruments
from serve_apps.accounts import command_id
from serve_apps.listing import Listing, Outcome
from serve_apps.pages.exchange import figures, market
from serve_apps.pages.visit import Refused, Visit
from serve_apps.problems import sentence, status_of

PLACE: Final = "/operations/instruments/"
CHANGES: Final = ("halt", "resume", "auction", "delist")
AUCTION_MINUTES_MAX: Final = 24 * 60
_USUAL: Final = {
    "quote": "USD",
    "type": "stock",
    "tick": "0.01",
    "lot": "1",
    "maker": "0.1",
    "taker": "0.1",
}
_NAMES: Final = {
    "base": "The symbol",
    "quote": "The quote",
    "tick": "The price step",
    "lot": "The quantity step",
    "reference": "The first price",
    "notional_min": "The smallest order",
    "band_up": "The band",
    "band_down": "The band",
    "issued": "What is issued",
    "issuer": "The issuer",
    "maker": "The maker's fee",
    "taker": "The taker's fee",
}


async def show(visit: Visit) -> Response:
    """All instruments, and the form for a new one."""
    return await _page(visit, _USUAL, {}, "", 200)


async def add(visit: Visit) -> Response:
    """List an instrument."""
    form = await visit.form()
    fields = {name: form[name] for name in Listing.__struct_fields__ if name in form}
    needed = {"base", "quote", "type", "name", "tick", "lot"} - fields.keys()
    if needed:
        raise Refused(400)
    key = form.get("key", "")[:64] or secrets.token_hex(16)
    number = command_id(visit.user, "instrument", key)
    result = await instruments.enlist(visit.services, visit.actor, Listing(**fields), number)
    if isinstance(result, InstrumentReply):
        return visit.go(PLACE, notice="listed")
    return await _refused(visit, result, form)


async def change(visit: Visit) -> Response:
    """Halt, resume, hold an auction, or delist."""
    form = await visit.form()
    what, symbol = form.get("change", ""), visit.request.path_params["symbol"]
    if what not in CHANGES or await visit.services.catalogue.find(symbol) is None:
        raise Refused(404)
    key = form.get("key", "")[:64] or secrets.token_hex(16)
    number = command_id(visit.user, f"instrument/{symbol}/{what}", key)
    until = None
    if what == "auction":
        minutes = form.get("minutes", "")
        if not minutes.isdecimal() or not 0 < int(minutes[:6]) <= AUCTION_MINUTES_MAX:
            return await _page(visit, _USUAL, {}, "An auction lasts 1 to 1,440 minutes.", 422)
        until = datetime.now(UTC) + timedelta(minutes=int(minutes))
    result = await instruments.change(
        visit.services,
        visit.actor,
        symbol,
        what,
        number,
        reason=form.get("reason", ""),
        until=until,
    )
    if isinstance(result, InstrumentReply):
        return visit.go(PLACE, notice="instrument-changed")
    return await _refused(visit, result, {})


async def _refused(visit: Visit, result: Outcome, form: Mapping[str, str]) -> Response:
    if isinstance(result, Unavailable):
        raise Refused(503)
    assert isinstance(result, Rejection)
    field = result.fields.get("field", "")
    text = sentence(result.code)
    if form and field in _NAMES:
        words = f"{_NAMES[field]} cannot be so."
        return await _page(visit, form, {field: words}, "", status_of(result.code))
    return await _page(visit, form or _USUAL, {}, text, status_of(result.code))


def _by_name(each: Instrument) -> tuple[bool, str]:
    return each.status == "delisted", each.symbol


async def _page(
    visit: Visit, form: Mapping[str, str], errors: Mapping[str, str], error: str, status: int
) -> Response:
    services = visit.services
    await services.catalogue.refresh()
    listed = sorted(services.catalogue.all(), key=_by_name)
    return visit.page(
        "exchange/instruments.html",
        status,
        rows=await market.rows(services, listed),
        kinds=list(figures.KIND_WORDS.items()),
        form=form,
        errors=errors,
        error=error,
        key=secrets.token_hex(16),
    )

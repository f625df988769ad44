"""Instruments, for everybody: the list with search, and a page for each."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from persistence.cursors import CursorInvalid
from persistence.trading.catalogue import SEARCH_MAX
from serve_apps.pages.exchange import figures, market
from serve_apps.pages.visit import Refused, Visit

PAGE_ROWS: Final = 50
_WIDTHS: Final = {"1h": "an hour", "15m": "15 minutes", "1m": "a minute", "1s": "a second"}


async def listing(visit: Visit) -> Response:
    """All instruments, or those that fit a search, with their prices."""
    services, query = visit.services, visit.query
    text = query.get("q", "").strip()[:SEARCH_MAX]
    kind = query.get("type", "")
    kind = kind if kind in figures.KIND_WORDS else ""
    given = {name: value for name, value in (("q", text), ("type", kind)) if value}
    try:
        page = await services.catalogue.search(
            text,
            types=(kind,) if kind else None,
            cursor=query.get("cursor") or None,
            limit=PAGE_ROWS,
        )
    except CursorInvalid:
        return visit.go("/markets", **given)
    rows = await market.with_sparks(services, await market.rows(services, page.rows))
    return visit.page(
        "exchange/markets.html",
        rows=rows,
        text=text,
        kind=kind,
        kinds=[("", "All"), *((name, word + "s") for name, word in _plurals().items())],
        next_url=_url(given, cursor=page.next_cursor) if page.next_cursor else "",
        first_url=_url(given) if query.get("cursor") else "",
        kind_url=lambda name: _url({**given, "type": name} if name else {"q": text}),
    )


def _plurals() -> dict[str, str]:
    words = dict(figures.KIND_WORDS)
    words["crypto"] = "Crypto pair"
    return words


def _url(given: dict[str, str], **more: str) -> str:
    values = {name: value for name, value in {**given, **more}.items() if value}
    return f"/markets?{urlencode(values)}" if values else "/markets"


async def instrument(visit: Visit) -> Response:
    """What an instrument is, how it has moved, and under which rules it trades."""
    symbol = visit.request.path_params["symbol"]
    found = await visit.services.catalogue.find(symbol) if len(symbol) <= 20 else None
    if found is None:
        raise Refused(404)
    services = visit.services
    ticker = await market.quote(services, symbol)
    word, reason = await market.state(services, found)
    interval, drawing = await market.chart(services, symbol, "", ("1h", *market.USUAL))
    return visit.page(
        "exchange/instrument.html",
        instrument=found,
        ticker=ticker,
        state=word,
        banner=await market.banner(services, found, word, reason) if word != "trading" else "",
        drawing=drawing,
        width=_WIDTHS[interval],
        trades=(await market.prints(services, symbol))[:10],
        worth=ticker.last * found.tick * found.issued // 10**8 if ticker and found.issued else 0,
    )

"""A customer's own events in the words of the dialect: execution reports, balances, funds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import msgspec

from actors.userdata import AMENDED, CANCELLED, PLACED, Moved, Reported
from domain.accounts.trading import BalanceView, OrderReport
from domain.orders import Fill, OrderStatus, Side
from serve_apps.exchange import reports
from serve_apps.exchange.numbers import asset_text

_json: Final = msgspec.json.Encoder().encode

_ENDS: Final = {
    OrderStatus.CANCELED: "CANCELED",
    OrderStatus.EXPIRED: "EXPIRED",
    OrderStatus.EXPIRED_IN_MATCH: "TRADE_PREVENTION",
}


class Terms(Protocol):
    """What of an instrument is needed here."""

    @property
    def base(self) -> str:
        """What is bought."""

    @property
    def quote(self) -> str:
        """What it is bought with."""

    @property
    def tick(self) -> int:
        """Size of a tick in units."""

    @property
    def lot(self) -> int:
        """Size of a lot in units."""

    @property
    def unit(self) -> int:
        """Units of the quote in one tick x lot."""


def executions(item: Reported, terms: Terms, now: int) -> Iterator[bytes]:
    """The reports of what happened to one order: new, each trade of it, its end.

    What was refused and has changed nothing is told in the answer to the request alone.
    """
    report = item.report
    if report.code:
        if item.action == PLACED and report.ref:
            yield _report(item, terms, now, "REJECTED", report.status, 0, 0)
        return
    filled = report.filled - sum(fill.quantity for fill in report.fills)
    quote = report.quote - sum(fill.quantity * fill.price for fill in report.fills)
    if item.action == AMENDED:
        yield _report(item, terms, now, "REPLACED", report.status, filled, quote)
        return
    fresh = item.action == PLACED
    if fresh or not (report.fills or report.status in _ENDS):
        first = OrderStatus.NEW if not filled else OrderStatus.PARTIALLY_FILLED
        yield _report(item, terms, now, "NEW", first, filled, quote)
    for fill in report.fills:
        filled += fill.quantity
        quote += fill.quantity * fill.price
        done = report.status is OrderStatus.FILLED and filled == report.filled
        status = OrderStatus.FILLED if done else OrderStatus.PARTIALLY_FILLED
        yield _report(item, terms, now, "TRADE", status, filled, quote, fill)
    if report.status in _ENDS:
        kind = "CANCELED" if item.action == CANCELLED else _ENDS[report.status]
        yield _report(item, terms, now, kind, report.status, filled, quote)


def _report(
    item: Reported,
    terms: Terms,
    now: int,
    kind: str,
    status: OrderStatus,
    filled: int,
    quote: int,
    fill: Fill | None = None,
) -> bytes:
    report = item.report
    tick, lot, unit = terms.tick, terms.lot, terms.unit
    on_book = status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
    cancelled = kind == "CANCELED"
    event: dict[str, Any] = {
        "e": "executionReport",
        "E": now // 1_000,
        "s": report.symbol,
        "c": report.client,
        "S": reports.SIDE[report.side],
        "o": reports.TYPE[report.type],
        "f": reports.time_in_force(report),
        "q": asset_text(report.quantity * lot),
        "p": asset_text(report.price * tick),
        "P": asset_text(report.trigger * tick),
        "F": asset_text(report.display * lot),
        "g": reports.NO_LIST,
        "C": report.client if cancelled else report.previous,
        "x": kind,
        "X": reports.STATUS[status],
        "r": report.code.upper() or "NONE",
        "i": report.ref,
        "l": asset_text(fill.quantity * lot if fill else 0),
        "z": asset_text(filled * lot),
        "L": asset_text(fill.price * tick if fill else 0),
        "n": asset_text(fill.fee) if fill else "0",
        "N": _received(report, terms) if fill else None,
        "T": item.at // 1_000,
        "t": fill.trade if fill else -1,
        "I": report.ref,
        "w": on_book and reports.working(report),
        "m": bool(fill and fill.maker),
        "M": False,
        "O": report.placed_at // 1_000,
        "Z": asset_text(quote * unit),
        "Y": asset_text(fill.quantity * fill.price * unit if fill else 0),
        "Q": asset_text(0 if report.quantity else report.budget * unit),
        "W": report.placed_at // 1_000,
        "V": report.self_trade.name,
    }
    return _json(event)


def _received(report: OrderReport, terms: Terms) -> str:
    return terms.base if report.side is Side.BUY else terms.quote


def funds(item: Moved, now: int) -> bytes:
    """Funds that came or left."""
    return _json(
        {
            "e": "balanceUpdate",
            "E": now // 1_000,
            "a": item.asset,
            "d": asset_text(item.quantity),
            "T": item.at // 1_000,
        }
    )


def position(balances: Iterable[BalanceView], at: int, now: int) -> bytes:
    """Balances that may have changed."""
    return _json(
        {
            "e": "outboundAccountPosition",
            "E": now // 1_000,
            "u": at // 1_000,
            "B": [
                {
                    "a": balance.asset,
                    "f": asset_text(balance.available),
                    "l": asset_text(balance.held),
                }
                for balance in balances
            ],
        }
    )

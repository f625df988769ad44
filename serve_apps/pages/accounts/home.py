"""The home page, and opening, showing and closing accounts."""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from starlette.responses import Response

from domain.accounts.commands import AccountStatus, AccountView, CustomerView
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES
from domain.orders import UNIT
from persistence.accounts import HistoryFilter
from persistence.accounts import history as read_history
from serve_apps import accounts, brokerage, trading
from serve_apps.brokerage import Portfolio
from serve_apps.pages.accounts.views import Total, entries, open_accounts, total
from serve_apps.pages.visit import Refused, Visit
from serve_apps.problems import sentence, status_of

ACTIVITY_ROWS: Final = 8
_YEAR_S: Final = 365 * 86_400


async def home(visit: Visit) -> Response:
    """Total, a card for each account, and what happened lately."""
    values = await _overview(visit)
    response = visit.page("accounts/home.html", 200 if values["accounts"] else 503, **values)
    wanted = visit.query.get("base")
    if wanted in CURRENCIES:
        response.set_cookie("base", wanted, max_age=_YEAR_S, samesite="lax", httponly=True)
    return response


async def overview_fragment(visit: Visit) -> Response:
    """The part of the home page that a transfer changes."""
    values = await _overview(visit)
    return visit.page("accounts/_overview.html", 200 if values["accounts"] else 503, **values)


async def _overview(visit: Visit) -> dict[str, Any]:
    view = await accounts.overview(visit.services, visit.user)
    page = await visit.services.hot_reads.page(visit.services, visit.user, ACTIVITY_ROWS)
    base = visit.query.get("base") or visit.request.cookies.get("base", "")
    if base not in CURRENCIES:
        base = visit.services.config.bonus_currency
    activity = await entries(visit.services, visit.user, page.rows)
    exchange = await trading.view(visit.services, visit.user)
    worth = await brokerage.portfolio(visit.services, exchange, base) if exchange else None
    if not isinstance(view, CustomerView):
        return {
            "exchange": worth,
            "accounts": [],
            "closed": [],
            "total": None,
            "base": base,
            "activity": activity,
        }
    kept = open_accounts(view.accounts)
    return {
        "exchange": worth,
        "accounts": kept,
        "closed": [a for a in view.accounts if a.status == AccountStatus.CLOSED],
        "total": _with(total(visit.services, kept, base), worth),
        "base": base,
        "activity": activity,
    }


def _with(accounts_: Total, exchange: Portfolio | None) -> Total:
    """The total with what is at the exchange, in minor units and rounded down."""
    if accounts_.amount is None or exchange is None:
        return accounts_
    more = exchange.total * CURRENCIES[exchange.base].scale // UNIT
    return msgspec.structs.replace(accounts_, amount=accounts_.amount + more)


async def customer(visit: Visit) -> CustomerView:
    """The customer's accounts; raises ``Refused`` while they cannot be read."""
    view = await accounts.overview(visit.services, visit.user)
    if isinstance(view, CustomerView):
        return view
    raise Refused(503)


async def open_form(visit: Visit) -> Response:
    """Choose currency and name of a new account."""
    return _open_page(visit, {}, None)


async def open_account(visit: Visit) -> Response:
    """Open an account."""
    form = await visit.form()
    result = await accounts.open_account(
        visit.services,
        visit.user,
        form.get("currency", ""),
        form.get("name", ""),
        form.get("key") or secrets.token_hex(16),
    )
    if isinstance(result, Unavailable):
        raise Refused(503)
    if isinstance(result, Rejection):
        return _open_page(visit, form, result)
    return visit.go(visit.home, notice="opened")


def _open_page(visit: Visit, form: dict[str, str], refused: Rejection | None) -> Response:
    return visit.page(
        "accounts/open.html",
        status_of(refused.code) if refused else 200,
        currencies=[CURRENCIES[code] for code in visit.services.config.currencies],
        currency=form.get("currency", ""),
        name=form.get("name", ""),
        key=secrets.token_hex(16),
        error=sentence(refused.code) if refused else "",
    )


async def account(visit: Visit) -> Response:
    """One account: number, balance, holds, what happened on it."""
    view = await customer(visit)
    return await _account_page(visit, view, _find(visit, view), 200, "")


async def close_account(visit: Visit) -> Response:
    """Close an empty account."""
    form = await visit.form()
    view = await customer(visit)
    found = _find(visit, view)
    result = await accounts.close_account(
        visit.services, visit.user, str(found.id), form.get("key") or None
    )
    if isinstance(result, Unavailable):
        raise Refused(503)
    if isinstance(result, Rejection):
        return await _account_page(
            visit, view, found, status_of(result.code), sentence(result.code)
        )
    return visit.go(visit.home, notice="closed")


def _find(visit: Visit, view: CustomerView) -> AccountView:
    for found in view.accounts:
        if str(found.id) == visit.request.path_params["account"]:
            return found
    raise Refused(404)


async def _account_page(
    visit: Visit, view: CustomerView, found: AccountView, status: int, error: str
) -> Response:
    page = await read_history(
        visit.services.pool, visit.user, HistoryFilter(account=found.id), limit=ACTIVITY_ROWS
    )
    return visit.page(
        "accounts/account.html",
        status,
        account=found,
        holds=[hold for hold in view.holds if hold.account == found.id],
        activity=await entries(visit.services, visit.user, page.rows),
        closable=found.status == AccountStatus.OPEN and not found.posted and not found.held,
        key=secrets.token_hex(16),
        error=error,
    )

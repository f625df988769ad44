"""The portfolio: what a customer has at the exchange, what it is worth, and moving money there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from domain.accounts.commands import CustomerView
from domain.accounts.trading import BrokerageReply
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES
from serve_apps import accounts, brokerage, trading
from serve_apps.pages.accounts.views import open_accounts
from serve_apps.pages.visit import Refused, Visit
from serve_apps.problems import sentence, status_of

_FIELDS: Final = {
    "unknown_source_account": "account",
    "unknown_destination_account": "account",
    "account_closed": "account",
    "account_frozen": "account",
    "destination_closed": "account",
}


async def show(visit: Visit) -> Response:
    """The portfolio."""
    return await _page(visit, {}, {}, 200)


async def fund(visit: Visit) -> Response:
    """Move money from a current account to the exchange."""
    return await _move(visit, "fund")


async def withdraw(visit: Visit) -> Response:
    """Move money back to a current account."""
    return await _move(visit, "withdraw")


async def _move(visit: Visit, way: str) -> Response:
    form = await visit.form()
    ask = brokerage.fund if way == "fund" else brokerage.withdraw
    result = await ask(
        visit.services,
        visit.user,
        form.get("account", ""),
        form.get("amount", "").replace(",", "").replace(" ", ""),
        form.get("key", "")[:64] or secrets.token_hex(16),
    )
    if isinstance(result, BrokerageReply):
        notice = "funded" if way == "fund" else "withdrawn"
        return visit.go(f"{visit.home}portfolio/", notice=notice)
    if isinstance(result, Unavailable):
        raise Refused(503)
    assert isinstance(result, Rejection)
    field = _FIELDS.get(result.code, "amount")
    errors = {f"{way}-{field}": sentence(result.code)}
    return await _page(visit, {**form, "way": way}, errors, status_of(result.code))


async def _page(
    visit: Visit, form: Mapping[str, str], errors: Mapping[str, str], status: int
) -> Response:
    services = visit.services
    view, customer = await asyncio.gather(
        trading.view(services, visit.user), accounts.overview(services, visit.user)
    )
    base = visit.query.get("base") or visit.request.cookies.get("base", "")
    if base not in CURRENCIES:
        base = services.config.bonus_currency
    values: dict[str, Any] = {
        "portfolio": await brokerage.portfolio(services, view, base) if view is not None else None,
        "orders": len(view.orders) if view is not None else 0,
        "base": base,
        "accounts": open_accounts(customer.accounts) if isinstance(customer, CustomerView) else [],
        "form": form,
        "errors": errors,
        "key": secrets.token_hex(16),
    }
    response = visit.page("exchange/portfolio.html", 503 if view is None else status, **values)
    if visit.query.get("base") in CURRENCIES:
        response.set_cookie("base", base, max_age=365 * 86_400, samesite="lax", httponly=True)
    return response

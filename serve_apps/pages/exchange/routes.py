"""Which page of the exchange answers which address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.routing import BaseRoute, Route

from domain.identity.permissions import Permission
from serve_apps.pages.exchange import instruments, keys, markets, past, portfolio, trade
from serve_apps.pages.visit import Endpoint, Page, Pages

Guard = Callable[[Page], Endpoint]

_MEMBER: Final = "/user/{user}/"
_MARKET: Final = "/trade/{symbol}"


def routes(pages: Pages) -> list[BaseRoute]:
    """Pages for everybody, for the customer in the path, and for administrators."""

    def at(path: str, guard: Guard, get: Page | None, post: Page | None = None) -> list[BaseRoute]:
        found: list[BaseRoute] = []
        if get is not None:
            found.append(Route(path, guard(get), methods=["GET"]))
        if post is not None:
            found.append(Route(path, guard(post), methods=["POST"]))
        return found

    def user(page: Page) -> Endpoint:
        return pages.permitted(Permission.OWN, page)

    def administrator(page: Page) -> Endpoint:
        return pages.permitted(Permission.MARKET_ADMINISTER, page)

    return [
        *at("/markets", pages.open, markets.listing),
        *at("/markets/{symbol}", pages.open, markets.instrument),
        *at("/trade", pages.open, trade.first),
        *at(_MARKET, pages.open, trade.show),
        *at(_MARKET, user, None, trade.place),
        *at(_MARKET + "/fragments/desk", user, trade.desk_fragment),
        *at(_MARKET + "/cancel", user, None, trade.cancel),
        *at(_MARKET + "/cancel-all", user, None, trade.cancel_all),
        *at(_MARKET + "/amend", user, None, trade.amend),
        *at(_MEMBER + "portfolio/", pages.member, portfolio.show),
        *at(_MEMBER + "portfolio/fund", pages.member, None, portfolio.fund),
        *at(_MEMBER + "portfolio/withdraw", pages.member, None, portfolio.withdraw),
        *at(_MEMBER + "orders/", pages.member, past.orders),
        *at(_MEMBER + "orders/export.csv", pages.member, past.export_orders),
        *at(_MEMBER + "fills/", pages.member, past.fills),
        *at(_MEMBER + "fills/export.csv", pages.member, past.export_fills),
        *at(_MEMBER + "keys/", pages.member, keys.show, keys.make),
        *at(_MEMBER + "keys/revoke", pages.member, None, keys.revoke),
        *at(instruments.PLACE, administrator, instruments.show, instruments.add),
        *at(instruments.PLACE + "{symbol}", administrator, None, instruments.change),
    ]

"""The table of all operations, and the routes made from it."""

from __future__ import annotations

from functools import cache
from typing import Final

from starlette.routing import BaseRoute, Route

from serve_apps.api import (
    accounts,
    backoffice,
    brokerage,
    canary,
    identity,
    instruments,
    keys,
    mail,
    notifications,
    operations,
    trading,
    transfers,
    webhooks,
)
from serve_apps.api.openapi import Documentation, description
from serve_apps.api.routing import Operation, make_routes
from serve_apps.services import Services

OPERATIONS: Final[tuple[Operation, ...]] = (
    *transfers.OPERATIONS,
    *identity.OPERATIONS,
    *accounts.OPERATIONS,
    *brokerage.OPERATIONS,
    *instruments.OPERATIONS,
    *trading.OPERATIONS,
    *keys.OPERATIONS,
    *notifications.OPERATIONS,
    *webhooks.OPERATIONS,
    *operations.OPERATIONS,
    *canary.OPERATIONS,
    *mail.OPERATIONS,
    *backoffice.OPERATIONS,
)
"""The busiest first, as routes are tried in this order."""


@cache
def _documentation() -> Documentation:
    """Made once in a process: it takes longer than everything else that makes an application."""
    return Documentation(description(OPERATIONS))


def routes(services: Services) -> list[BaseRoute]:
    """All of ``/api/``."""
    documentation = _documentation()
    return [
        *make_routes(services, OPERATIONS),
        Route("/api/docs", documentation.page),
        Route("/api/docs/init.js", documentation.script),
        Route("/api/openapi.json", documentation.document),
    ]

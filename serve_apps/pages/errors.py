"""Error pages for what no page answers: unknown addresses, outages, bugs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from persistence.database import OUTAGES
from serve_apps.pages.visit import Pages
from serve_apps.services import Services


async def error_page(services: Services, request: Request, status: int) -> Response:
    """The page for an HTTP status; shows the login if it can be looked up, and never raises."""
    pages = Pages(services)
    visit = pages.anonymous_visit(request)
    if status < 500:
        try:
            visit = await pages.visit(request)
        except OUTAGES:
            status = 503
    return visit.error(status)

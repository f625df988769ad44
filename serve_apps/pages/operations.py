"""The operations page: how the platform runs, for those who hold the role of an operator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from serve_apps import operations
from serve_apps.pages.visit import Visit


async def show(visit: Visit) -> Response:
    """The whole page."""
    return visit.page("operations/operations.html", **await _values(visit))


async def fragment(visit: Visit) -> Response:
    """What changes all the time."""
    return visit.page("operations/_overview.html", **await _values(visit))


async def _values(visit: Visit) -> dict[str, Any]:
    services = visit.services
    condition = await operations.condition(services)
    return {
        "condition": condition,
        "as_of": f"{datetime.fromtimestamp(condition.overview.at, UTC):%H:%M:%S} UTC",
        "books": condition.books,
        "partitions": condition.partitions,
        "drawings": {
            kind: operations.draw(runs)
            for kind, runs in (await services.operations.slots()).items()
        },
        "incidents": await operations.incidents(services),
        "colour_of": operations.colour_of,
        "dashboard_url": services.config.dashboard_url,
    }

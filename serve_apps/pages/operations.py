"""The operations page: how the platform runs, for those who hold the role of an operator."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import RedirectResponse, Response

from domain.identity.permissions import Permission
from persistence import releases
from serve_apps import operations
from serve_apps.api.canary import STATES
from serve_apps.pages.visit import Refused, Visit


async def show(visit: Visit) -> Response:
    """The whole page."""
    return visit.page("operations/operations.html", **await _values(visit))


async def fragment(visit: Visit) -> Response:
    """What changes all the time."""
    return visit.page("operations/_overview.html", **await _values(visit))


async def canary(visit: Visit) -> Response:
    """Promote the canary, or roll it back."""
    action = (await visit.form()).get("action", "")
    if action not in ("promote", "rollback"):
        raise Refused(400)
    try:
        await releases.steer(visit.services.pool, visit.actor, state=STATES[action])
    except releases.Refused as error:
        raise Refused(422, str(error)) from None
    return RedirectResponse("/operations/", 303)


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
        "release": await releases.latest(services.pool),
        "may_steer": visit.may(Permission.CANARY_RUN),
        "dashboard_url": services.config.dashboard_url,
    }

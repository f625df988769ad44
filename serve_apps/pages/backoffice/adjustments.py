"""The queue of adjustments: what waits for a checker, and what became of the last ones."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from domain.accounts.adjustment import AdjustmentStatus
from domain.durable import Rejection
from persistence.accounts import AdjustmentRow
from persistence.accounts import adjustments as stored_adjustments
from serve_apps import adjustments
from serve_apps.pages.visit import Refused, Visit
from serve_apps.problems import sentence, status_of

PLACE: Final = "/office/adjustments/"
DECIDED_SHOWN: Final = 50


async def queue(visit: Visit) -> Response:
    """Those that wait, oldest first, then those that were decided."""
    return await _page(visit, "", 200, {})


async def decide(visit: Visit) -> Response:
    """Approve or refuse one, as it was shown."""
    form = await visit.form()
    verdict = form.get("verdict", "")
    if verdict not in ("approve", "refuse"):
        raise Refused(400)
    decided = adjustments.approve if verdict == "approve" else adjustments.refuse_it
    reply = await decided(
        visit.services,
        visit.staff(form),
        visit.request.path_params["adjustment"],
        form.get("digest", ""),
        form.get("note", ""),
        form.get("key", "")[:64] or secrets.token_hex(16),
    )
    if isinstance(reply, AdjustmentRow):
        return visit.go(PLACE, notice="adjusted" if verdict == "approve" else "not-adjusted")
    code = reply.code if isinstance(reply, Rejection) else "outcome_unknown"
    return await _page(visit, sentence(code), status_of(code), form)


async def _page(visit: Visit, error: str, status: int, form: Mapping[str, str]) -> Response:
    pool = visit.services.pool
    waiting = await stored_adjustments(pool, status=AdjustmentStatus.PENDING)
    newest = await stored_adjustments(pool, limit=DECIDED_SHOWN)
    return visit.page(
        "backoffice/adjustments.html",
        status,
        waiting=waiting,
        decided=[row for row in newest if row.status != AdjustmentStatus.PENDING],
        error=error,
        form=form,
        key=secrets.token_hex(16),
    )

"""The audit log: searched, taken away as CSV, and its chain followed."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from domain.durable import Rejection
from persistence import audit
from serve_apps import backoffice
from serve_apps.pages.visit import Refused, Visit

PLACE: Final = "/office/audit/"
PAGE_ROWS: Final = 50


async def search(visit: Visit) -> Response:
    """Entries, newest first; with ``verify`` also whether the chain holds."""
    given = _given(visit)
    flt = backoffice.audit_filter(given)
    pool = visit.services.pool
    error, rows, more = "", [], False
    if isinstance(flt, Rejection):
        error = "One of the filters cannot be read. Correct it to see the entries."
    else:
        rows = await audit.search(pool, flt, PAGE_ROWS + 1)
        more, rows = len(rows) > PAGE_ROWS, rows[:PAGE_ROWS]
    kept = {name: value for name, value in given.items() if name != "before"}
    values: dict[str, Any] = {
        "given": given,
        "rows": rows,
        "error": error,
        "actions": await audit.actions(pool),
        "next_url": _url(kept, before=str(rows[-1].seq)) if more else "",
        "first_url": _url(kept) if "before" in given else "",
        "export_url": f"{PLACE}export.csv" + _url(kept).removeprefix(PLACE),
        "verify_url": _url(kept, verify="1"),
        "verdict": await audit.verify(pool) if visit.query.get("verify") == "1" else None,
    }
    return visit.page("backoffice/audit.html", 422 if error else 200, **values)


async def export(visit: Visit) -> Response:
    """What the filters keep, as CSV."""
    flt = backoffice.audit_filter(_given(visit))
    if isinstance(flt, Rejection):
        raise Refused(422)
    return StreamingResponse(
        backoffice.audit_csv(visit.services, visit.actor, flt),
        media_type="text/csv; charset=utf-8",
        headers={
            "content-disposition": 'attachment; filename="audit.csv"',
            "cache-control": "no-store",
        },
    )


def _given(visit: Visit) -> dict[str, str]:
    return {
        name: text for name in backoffice.AUDIT_PARAMETERS if (text := visit.query.get(name, ""))
    }


def _url(given: dict[str, str], **more: str) -> str:
    values = {**given, **more}
    return f"{PLACE}?{urlencode(values)}" if values else PLACE

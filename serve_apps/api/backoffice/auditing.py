"""The audit log: searched, exported, verified."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.durable import Rejection
from domain.identity.permissions import Permission
from persistence import audit
from persistence.audit import COLUMNS, Row
from serve_apps import backoffice
from serve_apps.api.bodies import moment_text
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Parameter

PAGE_ROWS: Final = 50


class AuditEntryBody(msgspec.Struct):
    """Something that was done. ``before`` and ``after`` are JSON in a string, as it is hashed.

    ``actor`` is a customer number; null where the platform or the command line did it.
    """

    number: int
    at: str
    actor: str | None
    by: str
    origin: str
    ip: str
    session: int | None
    request: str
    action: str
    subject: str
    before: str
    after: str
    hash: str


class AuditBody(msgspec.Struct):
    """Entries, newest first; ask again with ``before`` for older ones, null at the end."""

    entries: list[AuditEntryBody]
    next_before: int | None


class VerdictBody(msgspec.Struct):
    """Whether the chain holds. ``head`` is worth noting elsewhere: it stands for all entries."""

    ok: bool
    entries: int
    head: str
    broken_at: int | None
    reason: str


async def search(call: Call) -> Outcome:
    """Entries that a filter keeps."""
    flt = _filter(call)
    if isinstance(flt, Rejection):
        return flt
    rows = await audit.search(call.services.pool, flt, PAGE_ROWS + 1)
    shown = rows[:PAGE_ROWS]
    following = shown[-1].seq if len(rows) > PAGE_ROWS else None
    return Answer(AuditBody([_body(row) for row in shown], following))


async def export(call: Call) -> Outcome:
    """Entries as CSV."""
    flt = _filter(call)
    if isinstance(flt, Rejection):
        return flt
    lines = [part async for part in backoffice.audit_csv(call.services, call.actor, flt)]
    name = b'attachment; filename="audit.csv"'
    return Answer(
        "".join(lines).encode(), 200, [(b"content-disposition", name)], b"text/csv; charset=utf-8"
    )


async def verify(call: Call) -> Outcome:
    """Follow the chain."""
    verdict = await audit.verify(call.services.pool)
    return Answer(
        VerdictBody(verdict.ok, verdict.rows, verdict.head, verdict.broken_at, verdict.reason)
    )


def _filter(call: Call) -> audit.Filter | Rejection:
    values = call.query(backoffice.AUDIT_PARAMETERS)
    return values if isinstance(values, Rejection) else backoffice.audit_filter(values)


def _body(row: Row) -> AuditEntryBody:
    return AuditEntryBody(
        row.seq,
        moment_text(row.at),
        None if row.actor is None else str(row.actor),
        row.by,
        row.origin,
        row.ip,
        row.session,
        row.request,
        row.action,
        row.subject,
        row.before,
        row.after,
        row.hash.hex(),
    )


_ENTRY: Final[dict[str, Any]] = {
    "number": 17,
    "at": "2026-11-20T09:30:00.125000Z",
    "actor": "4820193756",
    "by": "sam@example.com",
    "origin": "page",
    "ip": "192.0.2.7",
    "session": 12,
    "request": "f3a1c2d49be04388",
    "action": "accounts.freeze",
    "subject": "account:48201937560030",
    "before": '{"status":"open"}',
    "after": '{"reason":"Stolen phone","status":"frozen"}',
    "hash": "00" * 32,
}
_TAG: Final = "Back office"
_PARAMETERS: Final = (
    Parameter("q", "Text in any column", "192.0.2.7"),
    Parameter("action", "What was done", "roles.give"),
    Parameter("subject", "To what", "customer:4820193756"),
    Parameter("actor", "Customer number of who did it", "4820193756"),
    Parameter("from_date", "First day (UTC)", "2026-11-01"),
    Parameter("to_date", "Last day (UTC)", "2026-11-30"),
    Parameter("before", "Entries before this number", "1200"),
)

OPERATIONS: Final = (
    Operation(
        name="search_audit",
        method="GET",
        path="/api/office/audit/",
        handler=search,
        summary="Search the audit log",
        tag=_TAG,
        access="user",
        permission=Permission.AUDIT_READ,
        answer=AuditBody,
        answer_example={"entries": [_ENTRY], "next_before": None},
        parameters=_PARAMETERS,
        codes=("malformed_query",),
    ),
    Operation(
        name="export_audit",
        method="GET",
        path="/api/office/audit/export.csv",
        handler=export,
        summary="The audit log as CSV",
        description=f"The newest {backoffice.EXPORT_MAX:,} entries that the filters keep. That you"
        " have taken them is an entry, too.",
        tag=_TAG,
        access="user",
        permission=Permission.AUDIT_EXPORT,
        answer=str,
        answer_example=f"{','.join(COLUMNS)}\r\n",
        answer_type="text/csv",
        parameters=_PARAMETERS,
        codes=("malformed_query",),
    ),
    Operation(
        name="verify_audit",
        method="GET",
        path="/api/office/audit/verify/",
        handler=verify,
        summary="Verify the audit log",
        description="Follows the hash chain from the first entry to its head.",
        tag=_TAG,
        access="user",
        permission=Permission.AUDIT_READ,
        answer=VerdictBody,
        answer_example={
            "ok": True,
            "entries": 1200,
            "head": "00" * 32,
            "broken_at": None,
            "reason": "",
        },
    ),
)

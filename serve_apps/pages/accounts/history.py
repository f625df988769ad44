"""The history of transfers: filters in the URL, export, and one transfer in full."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from starlette.responses import Response, StreamingResponse

from domain.accounts.commands import CustomerView, TransferStatus
from domain.accounts.numbers import customer_of
from domain.durable import Rejection
from domain.money import CURRENCIES, format_amount
from persistence.accounts import HistoryPage
from persistence.accounts import history as read_history
from persistence.accounts import transfer as read_transfer
from persistence.cursors import CursorInvalid
from serve_apps import accounts
from serve_apps.accounts import HistoryQuery, history_query, rate_text
from serve_apps.hot_reads import ROWS_MAX, is_first_page
from serve_apps.pages.accounts.views import Entry, booked, entries
from serve_apps.pages.sorted_list import Column, address, headings, orders
from serve_apps.pages.visit import Refused, Visit

PAGE_ROWS: Final = 25
EXPORT_CHUNK: Final = 500
EXPORT_CHUNKS_MAX: Final = 400
FILTERS: Final = (
    "q", "from_date", "to_date", "min", "max", "currency", "account", "direction",
    "counterparty", "status",
)  # fmt: skip
COLUMNS: Final[tuple[Column, ...]] = (
    ("date", "Date", "start"),
    ("counterparty", "Counterparty", "start"),
    ("direction", "Direction", "start"),
    ("status", "Status", "start"),
    ("fee", "Fee", "end"),
    ("amount", "Amount", "end"),
    ("currency", "Currency", "start"),
)

_CHOICES: Final = {
    "in": "Received",
    "out": "Sent",
    "own": "Between own",
    "pending": "On its way",
    "completed": "Completed",
    "returned": "Returned",
}
_ORDERS: Final = {
    "-date": "Newest first",
    "date": "Oldest first",
    "-amount": "Largest first",
    "amount": "Smallest first",
    "counterparty": "By counterparty",
    "currency": "By currency",
    "direction": "By direction",
    "status": "By status",
    "-fee": "Highest fee first",
}
_CSV_HEADER: Final = (
    "id", "time", "kind", "direction", "status", "account", "counterparty", "counterparty_name",
    "amount", "currency", "fee", "credited", "credited_currency", "rate", "reference",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_WORDS: Final = {
    "from_date": "The first day",
    "to_date": "The last day",
    "min": "The smallest amount",
    "max": "The largest amount",
    "currency": "The currency",
    "account": "The account",
    "direction": "The direction",
    "counterparty": "The counterparty's account number",
    "status": "The status",
    "q": "The search",
    "sort": "The order",
}


def _given(query: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name in FILTERS if (text := _spaced(query.get(name, "")))}


def _spaced(text: str) -> str:
    """Without spaces around it, and with plain ones within: numbers are copied from our pages."""
    return text.replace("\u00a0", " ").strip()


def _wanted(query: Mapping[str, str]) -> HistoryQuery | Rejection:
    return history_query({name: _spaced(text) for name, text in query.items()})


async def _read(visit: Visit, wanted: HistoryQuery, cursor: str | None, limit: int) -> HistoryPage:
    if cursor is None and is_first_page(wanted) and limit <= ROWS_MAX:
        return await visit.services.hot_reads.page(visit.services, visit.user, limit)
    return await read_history(
        visit.services.pool, visit.user, wanted.filter,
        sort=wanted.sort, descending=wanted.descending, cursor=cursor, limit=limit,
    )  # fmt: skip


async def history(visit: Visit) -> Response:
    """A page of the history."""
    given = _given(visit.query)
    base = f"{visit.home}transaction/"
    wanted = _wanted(visit.query)
    rows: list[Entry] = []
    following: str | None = None
    error = ""
    sort, descending = "date", True
    if isinstance(wanted, Rejection):
        word = _WORDS.get(wanted.fields.get("parameter", ""), "A filter")
        error = f"{word} cannot be read. Correct it to see your transfers."
    else:
        sort, descending = wanted.sort, wanted.descending
        try:
            page = await _read(visit, wanted, wanted.cursor, PAGE_ROWS)
        except CursorInvalid:
            return visit.go(base, **given)
        rows = await entries(visit.services, visit.user, page.rows)
        following = page.next_cursor
    order = ("-" if descending else "") + sort
    view = await accounts.overview(visit.services, visit.user)
    current = address(base, given, sort=order, cursor=visit.query.get("cursor", ""))
    response = visit.page(
        "accounts/history.html",
        422 if error else 200,
        given=given,
        order=order,
        rows=rows,
        error=error,
        pending=any(item.status == TransferStatus.PENDING for item in rows),
        accounts=view.accounts if isinstance(view, CustomerView) else (),
        currencies=list(CURRENCIES),
        chips=_chips(base, given, order),
        columns=headings(COLUMNS, base, given, sort, descending),
        orders=orders(_ORDERS, order),
        current_url=current,
        next_url=address(base, given, sort=order, cursor=following) if following else "",
        first_url=address(base, given, sort=order) if visit.query.get("cursor") else "",
        export_url=address(f"{base}export.csv", given, sort=order),
    )
    asked = visit.request.url
    if visit.by_htmx and current != (f"{asked.path}?{asked.query}" if asked.query else asked.path):
        response.headers["HX-Push-Url"] = current  # without the fields that were left empty
    return response


def _chips(base: str, given: Mapping[str, str], order: str) -> list[tuple[str, str]]:
    """Each filter in words, with the address that leaves it out."""
    words = {
        "q": "\u201c{}\u201d", "from_date": "From {}", "to_date": "Until {}", "min": "At least {}",
        "max": "At most {}", "currency": "{}", "account": "Account \u2026{}",
        "counterparty": "With \u2026{}", "direction": "{}", "status": "{}",
    }  # fmt: skip
    result = []
    for name, value in given.items():
        shown = _CHOICES.get(value, value) if name in ("direction", "status") else value
        if name in ("account", "counterparty"):
            shown = value.replace(" ", "")[-4:]
        rest = {other: text for other, text in given.items() if other != name}
        result.append((words[name].format(shown), address(base, rest, sort=order)))
    return result


async def export(visit: Visit) -> Response:
    """Everything that the filters keep, as CSV."""
    wanted = _wanted(visit.query)
    if isinstance(wanted, Rejection):
        raise Refused(422)
    first = await _read(visit, wanted, None, EXPORT_CHUNK)
    name = f"kontor-{visit.services.now():%Y-%m-%d}.csv"
    return StreamingResponse(
        _csv_lines(visit, wanted, first),
        media_type="text/csv; charset=utf-8",
        headers={
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        },
    )


async def _csv_lines(visit: Visit, wanted: HistoryQuery, page: HistoryPage) -> AsyncIterator[str]:
    yield _csv([_CSV_HEADER])
    for _ in range(EXPORT_CHUNKS_MAX):
        found = await entries(visit.services, visit.user, page.rows)
        yield _csv([_csv_row(item) for item in found])
        if page.next_cursor is None:
            return
        page = await _read(visit, wanted, page.next_cursor, EXPORT_CHUNK)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _csv_row(item: Entry) -> list[str]:
    row = item.row
    sign = "-" if item.direction == "out" else ""
    if item.direction == "in":
        amount, fee = format_amount(row.credited, row.credited_currency), 0
    else:
        amount, fee = sign + format_amount(row.amount, row.currency), row.fee
    return [
        item.id,
        row.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        row.kind,
        item.direction,
        row.status.name.lower(),
        str(item.account),
        str(item.counterparty or ""),
        _harmless(item.title),
        amount,
        item.currency,
        format_amount(fee, row.currency),
        format_amount(row.credited, row.credited_currency),
        row.credited_currency,
        rate_text(row.rate) if row.rate is not None else "",
        _harmless(row.reference),
    ]


def _harmless(text: str) -> str:
    """Text that a spreadsheet will not take for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


async def detail(visit: Visit) -> Response:
    """One transfer: time line, fee, rate, postings."""
    try:
        number = bytes.fromhex(visit.request.path_params["transfer"])
    except ValueError:
        raise Refused(404) from None
    if len(number) != 16:
        raise Refused(404)
    row = await read_transfer(visit.services.pool, number, visit.user)
    if row is None:
        raise Refused(404)
    (found,) = await entries(visit.services, visit.user, [row])
    return visit.page(
        "accounts/detail.html",
        item=found,
        row=row,
        done=visit.query.get("done") == "1",
        pending=row.status == TransferStatus.PENDING,
        own=[str(account) for account in (row.source, row.destination) if _is_own(visit, account)],
        postings=booked(row, visit.user),
    )


def _is_own(visit: Visit, account: int | None) -> bool:
    return account is not None and customer_of(account) == visit.user

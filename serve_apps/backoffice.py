"""The back office: what staff do to customers, for pages and REST alike.

Who may do what has been asked before (``permissions``). Everything that changes something is in the
audit log before it is asked of a customer's entity, and again when that refused it, so that
nothing happens that nobody wrote down. May use Postgres and the accounts client.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol, cast

import msgspec

from domain.accounts.codes import Code
from domain.accounts.commands import (
    AccountReply,
    AccountStatus,
    AccountView,
    Command,
    CustomerView,
    Done,
    ReadCustomer,
    Reply,
    SetAccountStatus,
    SetDailyLimit,
)
from domain.accounts.guards import bad_text
from domain.accounts.numbers import customer_of, parse_account, parse_customer
from domain.durable import Rejection, Unavailable
from domain.identity.permissions import GIVEN, RoleCode
from domain.identity.rules import check_email
from domain.money import CURRENCIES, AmountError, format_amount, parse_amount
from persistence import audit, backoffice, roles
from persistence import identity as users
from persistence.accounts import AdjustmentRow, adjustments
from persistence.audit import COLUMNS, Actor, Filter, Row
from persistence.backoffice import CustomerRow
from persistence.database import Connection, Pool
from serve_apps.accounts import refuse
from serve_apps.auditing import carry_out
from serve_apps.confirmation import Intent
from serve_apps.directory import Directory
from serve_apps.services import Accounts, Services
from serve_apps.staff import Staff, confirmed

ADJUSTMENTS_SHOWN: Final = 100
AUDIT_PARAMETERS: Final = ("q", "action", "subject", "actor", "from_date", "to_date", "before")
SEARCH_MAX: Final = 140
EXPORT_CHUNK: Final = 500
EXPORT_MAX: Final = 20_000
"""Rows of the audit log in a file over HTTP; the command line exports all."""

Change = Callable[[Connection, Actor, int, str], Awaitable[Rejection | None]]


class Office(Protocol):
    """What is needed to work here: a replica's services, or what the command line has opened."""

    @property
    def pool(self) -> Pool:
        """The database."""

    @property
    def accounts(self) -> Accounts:
        """The customers' entities."""

    @property
    def directory(self) -> Directory:
        """The currencies of accounts."""


class Customer(msgspec.Struct, frozen=True):
    """A customer as staff see one; ``view`` is ``None`` while the accounts do not answer."""

    row: CustomerRow
    view: CustomerView | None
    adjustments: list[AdjustmentRow]


# -- looking --------------------------------------------------------------------------------


async def look(services: Office, actor: Actor, number: str) -> Customer | None:
    """Look at a customer, which is written down."""
    customer = parse_customer(number)
    row = None if customer is None else await backoffice.customer(services.pool, customer)
    if row is None:
        return None
    await audit.record(services.pool, actor.did("customers.look", f"customer:{row.id}"))
    reply = await services.accounts.call(ReadCustomer(row.id))
    return Customer(
        row,
        reply if isinstance(reply, CustomerView) else None,
        await adjustments(services.pool, customer=row.id, limit=ADJUSTMENTS_SHOWN),
    )


# -- accounts -------------------------------------------------------------------------------


async def freeze(
    services: Office, actor: Actor, number: str, reason: str, *, frozen: bool
) -> AccountView | Rejection | Unavailable:
    """Freeze an account, or take the freeze off; nobody does it to their own."""
    account = parse_account(number)
    if account is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=number[:40])
    refused = _bad_reason(reason)
    if refused is not None:
        return refused
    if customer_of(account) == actor.user:
        return Rejection("account_own")
    before = await services.accounts.call(ReadCustomer(customer_of(account)))
    if isinstance(before, Unavailable):
        return before
    found = _account_in(before, account)
    if found is None:
        return refuse(Code.UNKNOWN_SOURCE_ACCOUNT, account=account)
    status = AccountStatus.FROZEN if frozen else AccountStatus.OPEN
    if found.status == status:
        return found
    reply = await _carry_out(
        services,
        actor,
        "accounts.freeze" if frozen else "accounts.unfreeze",
        f"account:{account}",
        {"status": found.status.name.lower()},
        {"status": status.name.lower(), "reason": reason},
        SetAccountStatus(secrets.token_bytes(16), b"backoffice", account, status),
    )
    return reply.account if isinstance(reply, AccountReply) else _refused(reply)


async def set_limit(
    services: Office, actor: Actor, number: str, currency: str, amount: str
) -> CustomerView | Rejection | Unavailable:
    """Give a customer a limit of the day of its own; nobody does it for themselves."""
    customer = parse_customer(number)
    if customer is None:
        return refuse(Code.UNKNOWN_CUSTOMER, customer=number[:40])
    if currency not in CURRENCIES:
        return refuse(Code.UNKNOWN_CURRENCY, currency=currency[:10])
    if customer == actor.user:
        return Rejection("account_own")
    try:
        minor = parse_amount(amount, currency)
    except AmountError as error:
        return refuse(error.code, field="amount")
    before = await services.accounts.call(ReadCustomer(customer))
    if not isinstance(before, CustomerView):
        return _refused(before)
    was = next((limit.limit for limit in before.limits if limit.currency == currency), None)
    reply = await _carry_out(
        services,
        actor,
        "limits.set",
        f"customer:{customer}",
        {currency: None if was is None else format_amount(was, currency)},
        {currency: format_amount(minor, currency)},
        SetDailyLimit(secrets.token_bytes(16), b"backoffice", customer, currency, minor),
    )
    if not isinstance(reply, Done):
        return _refused(reply)
    after = await services.accounts.call(ReadCustomer(customer))
    return after if isinstance(after, CustomerView) else _refused(after)


# -- roles ----------------------------------------------------------------------------------


async def give_role(services: Services, staff: Staff, whom: str, role: str) -> int | Rejection:
    """Give a role to somebody (by address or number); answers whose it is now.

    Confirmed like what moves money: whoever gives roles could make themselves a checker.
    """
    user = await _somebody(services, whom)
    if user is None:
        return Rejection(RoleCode.USER_UNKNOWN)
    if role not in GIVEN:
        return Rejection(RoleCode.ROLE_UNKNOWN, {"role": role[:40]})
    intent = Intent("role_given", {"user": str(user), "role": role})
    refused = await confirmed(services, staff, intent)
    return refused or await _change_role(services, staff.actor, user, role, roles.give)


async def take_role(services: Office, actor: Actor, whom: str, role: str) -> int | Rejection:
    """Take a role from somebody; answers whose it was."""
    user = await _somebody(services, whom)
    if user is None:
        return Rejection(RoleCode.USER_UNKNOWN)
    return await _change_role(services, actor, user, role, roles.take)


async def _somebody(services: Office, whom: str) -> int | None:
    user = parse_customer(whom.strip())
    if user is None:
        email = check_email(whom)
        found = None if email is None else await users.user_by_email(services.pool, email)
        return None if found is None else found.id
    return user


async def _change_role(
    services: Office, actor: Actor, user: int, role: str, change: Change
) -> int | Rejection:
    async with services.pool.acquire() as proxy:
        refused = await change(cast(Connection, proxy), actor, user, role)
    return user if refused is None else refused


# -- the audit log --------------------------------------------------------------------------


def audit_filter(values: Mapping[str, str]) -> Filter | Rejection:
    """What a search of the audit log asks for; empty values keep all, days are in UTC."""
    name = "q"
    try:
        for name in AUDIT_PARAMETERS:
            text = values.get(name, "")
            if len(text) > SEARCH_MAX or not text.isprintable():
                raise ValueError(text)
        found: dict[str, Any] = {
            "text": values.get("q", "").strip(),
            "action": values.get("action", "").strip(),
            "subject": values.get("subject", "").strip(),
        }
        for name, field, days in (("from_date", "date_from", 0), ("to_date", "date_to", 1)):
            if text := values.get(name, "").strip():
                day = date.fromisoformat(text)
                if not 1900 < day.year < 9000:
                    raise ValueError(text)
                at = datetime(day.year, day.month, day.day, tzinfo=UTC)
                found[field] = at + timedelta(days=days)
        for name, field in (("actor", "actor"), ("before", "before_seq")):
            if text := values.get(name, "").strip():
                if not (text.isascii() and text.isdigit() and len(text) <= 18):
                    raise ValueError(text)
                found[field] = int(text)
    except ValueError:
        return refuse("malformed_query", parameter=name)
    return Filter(**found)


async def audit_csv(services: Office, actor: Actor, flt: Filter) -> AsyncIterator[str]:
    """The newest entries that a filter keeps, as CSV; that somebody took them is an entry, too."""
    asked = {name: str(getattr(flt, name)) for name in flt.__struct_fields__ if getattr(flt, name)}
    await audit.record(services.pool, actor.did("audit.export", "audit", {}, asked))
    yield _csv([COLUMNS])
    rows: list[list[str]] = []
    count = 0
    async for row in audit.export(services.pool, flt):
        rows.append(_audit_row(row))
        count += 1
        if len(rows) == EXPORT_CHUNK:
            yield _csv(rows)
            rows = []
        if count == EXPORT_MAX:
            break
    yield _csv(rows)


def _audit_row(row: Row) -> list[str]:
    values = []
    for name in COLUMNS:
        value = getattr(row, name)
        if isinstance(value, datetime):
            text = value.isoformat(timespec="microseconds")
        elif isinstance(value, bytes):
            text = value.hex()
        else:
            text = "" if value is None else str(value)
        # What a spreadsheet would take for a formula is shown as the text that it is.
        values.append("'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text)
    return values


def _csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


# -- what they have in common ---------------------------------------------------------------


async def _carry_out(
    services: Office,
    actor: Actor,
    action: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    command: Command,
) -> Reply:
    """Ask it of a customer's entity, written down."""
    return await carry_out(
        services.pool, actor, action, subject, before, after,
        lambda: services.accounts.call(command),
    )  # fmt: skip


def _bad_reason(reason: str) -> Rejection | None:
    if not reason.strip():
        return Rejection(Code.REASON_MISSING, {"field": "reason"})
    return bad_text(reason)


def _account_in(reply: Reply, account: int) -> AccountView | None:
    if not isinstance(reply, CustomerView):
        return None
    return next((found for found in reply.accounts if found.id == account), None)


def _refused(reply: Reply) -> Rejection | Unavailable:
    if isinstance(reply, Rejection | Unavailable):
        return reply
    raise TypeError(f"unexpected reply {reply!r}")

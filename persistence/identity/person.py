"""Everything that is held about a person, as they may take it away.

One table of sections is the whole of it; a test holds it against the schema. Secrets, hashes and
what belongs to others are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from persistence.database import Connection

CHUNK: Final = 500


class Section(msgspec.Struct, frozen=True):
    """A part of the export: the rows of ``sql``, whose only parameter is the user's number."""

    name: str
    table: str
    sql: str


def _of(table: str, columns: str, owner: str = "user_id", order: str = "id") -> str:
    return f"select {columns} from {table} where {owner} = $1 order by {order}"


SECTIONS: Final = (
    Section(
        "user",
        "users",
        _of(
            "users",
            "id, email, name, created_at, opened_at, email_verified_at, password_changed_at,"
            " closed_at",
            "id",
        ),
    ),
    Section(
        "roles",
        "user_roles",
        _of("user_roles", "role, granted_at, revoked_at", order="granted_at"),
    ),
    Section(
        "sessions",
        "sessions",
        _of(
            "sessions",
            "id, kind, created_at, last_seen_at, expires_at, revoked_at, ip, user_agent",
        ),
    ),
    Section(
        "second_factor",
        "second_factors",
        _of("second_factors", "created_at, confirmed_at", order="created_at"),
    ),
    Section("recovery_codes", "recovery_codes", _of("recovery_codes", "used_at", order="used_at")),
    Section(
        "links",
        "identity_tokens",
        _of("identity_tokens", "purpose, email, created_at, expires_at", order="created_at"),
    ),
    Section(
        "confirmations",
        "confirmations",
        _of("confirmations", "kind, created_at, confirmed_at, expires_at", order="created_at"),
    ),
    Section("payees", "payees", _of("payees", "account", order="account")),
    Section(
        "api_keys",
        "api_keys",
        _of(
            "api_keys",
            "id, key, kind, label, scopes, networks, created_at, last_used_at, revoked_at",
        ),
    ),
    Section(
        "accounts",
        "accounts",
        _of("accounts", "id, currency, name, status, opened_at, closed_at", "customer"),
    ),
    Section(
        "transfers",
        "transfers",
        "select id, kind, status, source, destination, amount, fee, currency, credited,"
        " credited_currency, rate, reference, reason, at, completed_at from transfers"
        " where source_customer = $1"
        " or (destination_customer = $1 and (source_customer = $1 or status = 2))"
        " order by at, id",
    ),
    Section(
        "holds",
        "holds",
        _of("holds", "id, account, amount, purpose, expires_at, active", "customer"),
    ),
    Section(
        "adjustments",
        "adjustments",
        _of(
            "adjustments",
            "id, account, currency, amount, reason, at, status, decided_at",
            "customer",
            "at",
        ),
    ),
    Section(
        "orders",
        "orders",
        _of(
            "orders",
            "ref, symbol, client, side, type, time_in_force, price, quantity, trigger, display,"
            " budget, expires_at, status, filled, quote, fee, code, placed_at, updated_at",
            "customer",
            "ref",
        ),
    ),
    Section(
        "fills",
        "fills",
        _of(
            "fills",
            "ref, trade, symbol, side, price, quantity, fee, maker, at",
            "customer",
            "ref, trade",
        ),
    ),
    Section(
        "notifications",
        "notifications",
        _of("notifications", "seq, kind, details, at, read_at"),
    ),
    Section(
        "notification_preferences",
        "notification_preferences",
        _of("notification_preferences", "kind, channel, wanted", order="kind, channel"),
    ),
    Section(
        "webhook_endpoints",
        "webhook_endpoints",
        _of(
            "webhook_endpoints",
            "id, label, url, kinds, created_at, failing_since, last_ok_at, disabled_at,"
            " disabled_reason, deleted_at",
        ),
    ),
    Section(
        "deliveries",
        "deliveries",
        _of("deliveries", "channel, target, state, attempts, created_at, done_at"),
    ),
    Section(
        "audit",
        "audit_log",
        _of("audit_log", "at, action, origin, ip", "actor", "seq"),
    ),
)
"""Amounts are in the smallest unit of their currency, prices in ticks and quantities in lots."""

LEFT_OUT: Final = {
    "notification_heads": "numbers of notifications, nothing else",
}
"""Tables with a person's number that have no section, and why."""


async def export_rows(connection: Connection, section: Section, user: int) -> AsyncIterator[str]:
    """Each row of a section as a JSON text, a few at a time. To be called in a transaction."""
    sql = f"select to_jsonb(held)::text from ({section.sql}) as held"
    async for row in connection.cursor(sql, user, prefetch=CHUNK):
        yield row[0]

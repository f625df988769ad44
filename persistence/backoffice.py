"""What the back office looks for: customers, their accounts and their transfers.

Reads only. Every search goes by an index, however many customers there are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from domain.accounts.numbers import customer_of, parse_account, parse_customer
from persistence.accounts.queries import TransferRow, transfer_row
from persistence.database import Connection, Pool

Database = Pool | Connection

_WORD: Final = re.compile(r"\w+")
_HEX: Final = re.compile(r"[0-9a-f]{32}")


class CustomerRow(msgspec.Struct, frozen=True):
    """Somebody who has signed up, with the roles that they hold."""

    id: int
    email: str
    name: str
    created_at: datetime
    opened_at: datetime | None
    verified_at: datetime | None
    closed_at: datetime | None
    second_factor: bool
    roles: list[str]


_CUSTOMERS: Final = """
select u.id, u.email, u.name, u.created_at, u.opened_at, u.email_verified_at as verified_at,
    u.closed_at,
    exists (select from second_factors f where f.user_id = u.id and f.confirmed_at is not null)
        as second_factor,
    array(select r.role from user_roles r where r.user_id = u.id and r.revoked_at is null
          order by r.role) as roles
from users u"""


def _like(text: str) -> str:
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"


async def search_customers(database: Database, text: str, limit: int = 50) -> list[CustomerRow]:
    """Customers by number, by account number, or by how their address or words of their name begin.

    By name: all words must be there. Nothing is found by nothing.
    """
    text = " ".join(text.split())
    if not text:
        return []
    number = parse_customer(text)
    if (account := parse_account(text)) is not None:
        number = customer_of(account)
    if number is not None:
        rows = await database.fetch(f"{_CUSTOMERS} where u.id = $1", number)
        return _customers(rows)
    words = " & ".join(f"{word}:*" for word in _WORD.findall(text.lower()))
    rows = await database.fetch(
        f"""{_CUSTOMERS} where u.id in (
            (select id from users where lower(email) like $1 order by lower(email) limit $3)
            union
            (select id from users where $2 <> ''
                and to_tsvector('simple', name) @@ to_tsquery('simple', $2) limit $3)
        ) order by u.name, u.id limit $3""",
        _like(text.lower()), words if "@" not in text else "", limit,
    )  # fmt: skip
    return _customers(rows)


async def customer(database: Database, number: int) -> CustomerRow | None:
    """One customer."""
    row = await database.fetchrow(f"{_CUSTOMERS} where u.id = $1", number)
    return None if row is None else _customers([row])[0]


def _customers(rows: Sequence[Any]) -> list[CustomerRow]:
    return [CustomerRow(**dict(row)) for row in rows]


async def search_transfers(database: Database, text: str, limit: int = 50) -> list[TransferRow]:
    """Transfers by id, or the newest of a customer or an account, by number."""
    compact = text.replace("-", "").replace(" ", "").lower()
    if _HEX.fullmatch(compact):
        rows = await database.fetch("select * from transfers where id = $1::uuid", compact)
        return [transfer_row(row) for row in rows]
    account = parse_account(compact)
    number = parse_customer(compact) if account is None else customer_of(account)
    if number is None:
        return []
    rows = await database.fetch(
        """select * from (
            (select * from transfers where source_customer = $1
                and ($2::bigint is null or source = $2) order by at desc limit $3)
            union
            (select * from transfers where destination_customer = $1
                and ($2::bigint is null or destination = $2) order by at desc limit $3)
        ) as parties order by at desc, id limit $3""",
        number, account, limit,
    )  # fmt: skip
    return [transfer_row(row) for row in rows]

"""Links sent by e-mail, tickets of logins, and requests for a new password, in Postgres.

Only hashes of tokens are kept. A token counts once, until its time is over.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection
Purpose = Literal["verify", "change", "reset", "login"]


class TokenRow(msgspec.Struct, frozen=True):
    """A token that is valid; ``email`` is the address that it was sent to."""

    user: int
    email: str
    created_at: datetime


class ResetRequest(msgspec.Struct, frozen=True):
    """Somebody who says that an address is theirs wants to set a new password."""

    email: str
    ip: str
    user_agent: str


async def add_token(
    connection: Connection,
    *,
    token_hash: bytes,
    purpose: Purpose,
    user: int,
    email: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store a token; for links, those that were sent before count no more."""
    if purpose != "login":
        await connection.execute(
            "delete from identity_tokens where user_id = $1 and purpose = $2", user, purpose
        )
    await connection.execute(
        "insert into identity_tokens (token_hash, purpose, user_id, email, created_at, expires_at)"
        " values ($1, $2, $3, $4, $5, $6)",
        token_hash, purpose, user, email, now, expires_at,
    )  # fmt: skip


async def find_token(
    database: Database, token_hash: bytes, purpose: Purpose, now: datetime
) -> TokenRow | None:
    """The token with this hash, if it still counts; it is not used up."""
    row = await database.fetchrow(
        "select user_id, email, created_at from identity_tokens"
        " where token_hash = $1 and purpose = $2 and expires_at > $3",
        token_hash, purpose, now,
    )  # fmt: skip
    return None if row is None else TokenRow(*row)


async def use_token(
    connection: Connection, token_hash: bytes, purpose: Purpose, now: datetime
) -> TokenRow | None:
    """Use a token up."""
    row = await connection.fetchrow(
        "delete from identity_tokens where token_hash = $1 and purpose = $2 and expires_at > $3"
        " returning user_id, email, created_at",
        token_hash, purpose, now,
    )  # fmt: skip
    return None if row is None else TokenRow(*row)


async def drop_tokens(database: Database, user: int) -> None:
    """Let none of the user's links and tickets count any more."""
    await database.execute("delete from identity_tokens where user_id = $1", user)


async def try_token(
    database: Database, token_hash: bytes, purpose: Purpose, failures_max: int, now: datetime
) -> TokenRow | None:
    """Count a code as wrong before it is looked at; ``None`` when the token counts no more."""
    row = await database.fetchrow(
        "update identity_tokens set failures = failures + 1 where token_hash = $1"
        " and purpose = $2 and failures < $3 and expires_at > $4"
        " returning user_id, email, created_at",
        token_hash, purpose, failures_max, now,
    )  # fmt: skip
    return None if row is None else TokenRow(*row)


async def untry_token(database: Database, token_hash: bytes) -> None:
    """Take back what was counted, because the code could not be looked at."""
    await database.execute(
        "update identity_tokens set failures = failures - 1 where token_hash = $1", token_hash
    )


async def ask_for_reset(
    database: Database, email: str, ip: str, user_agent: str, now: datetime
) -> None:
    """Take a request down, whether the address is known or not."""
    await database.execute(
        "insert into reset_requests (email, ip, user_agent, at) values ($1, $2, $3, $4)",
        email, ip, user_agent, now,
    )  # fmt: skip


async def take_reset(connection: Connection) -> ResetRequest | None:
    """The oldest request that nobody else works on, forgotten if the transaction commits."""
    row = await connection.fetchrow(
        "delete from reset_requests where id = (select id from reset_requests order by id"
        " for update skip locked limit 1) returning email, ip, user_agent"
    )
    return None if row is None else ResetRequest(*row)

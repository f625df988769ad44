"""Second factors in Postgres: the sealed secret, the last step that counted, recovery codes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from persistence.database import Connection, Pool

Database = Pool | Connection


class FactorRow(msgspec.Struct, frozen=True):
    """A second factor; without ``confirmed_at`` it is being set up and asked for nowhere."""

    secret: bytes
    created_at: datetime
    confirmed_at: datetime | None
    last_step: int
    recovery_left: int


async def second_factor(database: Database, user: int) -> FactorRow | None:
    """The user's second factor, in use or being set up."""
    row = await database.fetchrow(
        "select secret, created_at, confirmed_at, last_step,"
        " (select count(*) from recovery_codes r where r.user_id = f.user_id and used_at is null)"
        " from second_factors f where user_id = $1",
        user,
    )
    return None if row is None else FactorRow(*row)


async def begin_factor(database: Database, user: int, secret: bytes, now: datetime) -> bool:
    """Store a secret that is to be proved; ``False`` when a second factor is in use already."""
    begun = await database.fetchval(
        "insert into second_factors (user_id, secret, created_at) values ($1, $2, $3)"
        " on conflict (user_id) do update set secret = $2, created_at = $3, last_step = 0"
        " where second_factors.confirmed_at is null returning true",
        user, secret, now,
    )  # fmt: skip
    return begun is not None


async def confirm_factor(
    database: Database, user: int, secret: bytes, step: int, now: datetime
) -> bool:
    """Take the secret into use; ``False`` when it is in use or was replaced meanwhile."""
    confirmed = await database.fetchval(
        "update second_factors set confirmed_at = $4, last_step = $3"
        " where user_id = $1 and secret = $2 and confirmed_at is null returning true",
        user, secret, step, now,
    )  # fmt: skip
    return confirmed is not None


async def take_step(database: Database, user: int, step: int) -> bool:
    """Let the code of a time step count; ``False`` when it, or a later one, has counted."""
    taken = await database.fetchval(
        "update second_factors set last_step = $2"
        " where user_id = $1 and confirmed_at is not null and last_step < $2 returning true",
        user, step,
    )  # fmt: skip
    return taken is not None


async def drop_factor(database: Database, user: int) -> bool:
    """Forget secret and recovery codes; ``False`` when there is no second factor."""
    await database.execute("delete from recovery_codes where user_id = $1", user)
    dropped = await database.fetchval(
        "delete from second_factors where user_id = $1 returning true", user
    )
    return dropped is not None


async def replace_recovery_codes(
    connection: Connection, user: int, code_hashes: Iterable[bytes]
) -> None:
    """Store new recovery codes; the old ones count no more. To be called in a transaction."""
    await connection.execute("delete from recovery_codes where user_id = $1", user)
    await connection.executemany(
        "insert into recovery_codes (user_id, code_hash) values ($1, $2)",
        [(user, digest) for digest in code_hashes],
    )


async def use_recovery_code(
    database: Database, user: int, code_hash: bytes, now: datetime
) -> int | None:
    """Let a recovery code count, once: how many are left, ``None`` when it does not count."""
    left: int | None = await database.fetchval(
        "with used as (update recovery_codes set used_at = $3"
        " where user_id = $1 and code_hash = $2 and used_at is null returning 1)"
        " select count(*) - 1 from recovery_codes where user_id = $1 and used_at is null"
        " having exists (select 1 from used)",
        user, code_hash, now,
    )  # fmt: skip
    return left

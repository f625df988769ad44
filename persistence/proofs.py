"""When the books were proven from the database, and with what result; for operators to see."""

from __future__ import annotations

from datetime import datetime

import msgspec

from persistence.database import Connection, Pool

_KEPT_DAYS = 400


class Proof(msgspec.Struct, frozen=True):
    """One run of ``kontor check``: how many findings, and how long it took."""

    at: datetime
    ok: bool
    findings: int
    seconds: float


async def record(database: Pool | Connection, *, ok: bool, findings: int, seconds: float) -> None:
    """Keep the result of a proof."""
    await database.execute(
        "WITH old AS (DELETE FROM proofs WHERE at < now() - make_interval(days => $4))"
        " INSERT INTO proofs (ok, findings, seconds) VALUES ($1, $2, $3)",
        ok,
        findings,
        seconds,
        _KEPT_DAYS,
    )


async def latest(database: Pool | Connection) -> Proof | None:
    """The last proof, if there was one."""
    row = await database.fetchrow(
        "SELECT at, ok, findings, seconds FROM proofs ORDER BY at DESC LIMIT 1"
    )
    return None if row is None else Proof(**row)

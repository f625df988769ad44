"""What `kontor check` says of trading history: nothing while it is right, and what is wrong."""

from __future__ import annotations

import pytest

from actors.projector import Projector
from cluster.audit import Findings
from cluster.audit_history import audit_history
from persistence.database import Pool
from tests.persistence.trading.tape import Tape


async def findings_of(pool: Pool) -> list[str]:
    findings = Findings()
    async with pool.acquire() as connection:
        await audit_history(connection, findings)  # type: ignore[arg-type]
    return findings.list


@pytest.fixture
async def tape(pool: Pool) -> Tape:
    """A market that was projected, but for its last rows."""
    tape = Tape(pool, 6)
    await tape.open()
    tape.trade_on(120)
    await tape.flush()
    projector = Projector(pool)
    while await projector.step():
        pass
    tape.trade_on(30)
    await tape.flush()
    await Projector(pool, chunk_bytes=1).step()
    return tape


async def test_history_that_is_right_or_behind(pool: Pool, tape: Tape) -> None:
    assert await findings_of(pool) == []
    findings = Findings()
    async with pool.acquire() as connection:
        await audit_history(connection, findings)  # type: ignore[arg-type]
    assert findings.counts["trades in history"] == await pool.fetchval(
        "SELECT count(*) FROM trades"
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM trades WHERE symbol = 'BTCUSD' AND id = 2", "trades of BTCUSD"),
        ("UPDATE trades SET quantity = quantity + 1 WHERE symbol = 'BTCUSD' AND id = 2", "Candles"),
        ("UPDATE candles SET volume = volume + 1 WHERE seconds = 900", "Candles of BTCUSD (900 s)"),
        ("DELETE FROM candles WHERE seconds = 60 AND symbol = 'ETHUSD'", "Candles of ETHUSD"),
        ("UPDATE candles SET bought = bought + 1 WHERE seconds = 60", "Candles"),
        ("UPDATE orders SET fee = fee + 1 WHERE ref = 3", "Order 3 of"),
        ("UPDATE orders SET filled = 0 WHERE filled > 0", "is not what its fills say"),
        ("DELETE FROM orders WHERE filled > 0", "is not what its fills say"),
        ("UPDATE fills SET price = price + 1 WHERE ref = 5", "A fill of order 5"),
        ("UPDATE fills SET ref = ref + 1000 WHERE ref = 5", "A fill of order 1005"),
        ("UPDATE projected SET seq = seq + 1000 WHERE stream = 'books/0'", "read more of books/0"),
    ],
)
async def test_each_way_to_be_wrong(pool: Pool, tape: Tape, damage: str, said: str) -> None:
    assert await pool.execute(damage) not in ("UPDATE 0", "DELETE 0")
    found = await findings_of(pool)
    assert any(said in finding for finding in found), found

"""``kontor check`` keeps its result for the operations page, and reports without that as well."""

from __future__ import annotations

import pytest

from cluster.cli.books import prove
from persistence import proofs
from persistence.database import Pool


async def test_the_result_is_kept(pool: Pool) -> None:
    report = await prove(pool)
    kept = await proofs.latest(pool)
    assert kept is not None
    assert (kept.ok, kept.findings) == (report.ok, len(report.findings)) == (True, 0)


async def test_a_result_that_cannot_be_kept_is_still_reported(
    pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.execute("DROP TABLE proofs")
    assert (await prove(pool)).ok
    assert "The result is not kept" in capsys.readouterr().err

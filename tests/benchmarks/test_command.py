"""``kontor bench``: stdout holds what was measured and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from cluster.cli.bench import bench


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    """What is told to the loggers here is not told to other tests."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_what_clients_log_in_this_process_goes_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench()
    structlog.get_logger("actors.durable.link").info("batch has no answer")
    said = capsys.readouterr()
    assert said.out == ""
    assert "batch has no answer" in said.err

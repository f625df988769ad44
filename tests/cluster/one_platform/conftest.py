"""Two platforms for all tests of this folder, which take them as they find them, file after file.

A start and a stop cost more than most of what is looked at here. The first is broken and
scaled; the second runs beside it for a moment, then alone, changes its code, is started again, and
ends with its data folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.running import Running, free_port


@pytest.fixture(scope="package")
def mail_port() -> int:
    """Where the platform sends its mail to, whether or not anybody listens there."""
    return free_port()


@pytest.fixture(scope="package")
def platform(tmp_path_factory: pytest.TempPathFactory, mail_port: int) -> Iterator[Running]:
    """A platform with the demo's people and market; who signs up gets a million dollars."""
    running = Running(
        tmp_path_factory.mktemp("platform") / "data",
        demo=True,
        KONTOR_BONUS_AMOUNT="1000000.00",
        KONTOR_SMTP_HOST="127.0.0.1",
        KONTOR_SMTP_PORT=str(mail_port),
        KONTOR_SMTP_SECURITY="none",
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="package")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform of one replica without anything in it, for the files named after it."""
    running = Running(
        tmp_path_factory.mktemp("second") / "data",
        KONTOR_REPLICAS="1",
        KONTOR_LIMITS=json.dumps({"address": "9000000/minute"}),
        KONTOR_BONUS_AMOUNT="1000000.00",
        KONTOR_KEEP_ALIVE_SECONDS="4",  # a promotion waits for idle connections to end
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()

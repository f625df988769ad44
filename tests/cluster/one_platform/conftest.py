"""One platform for all tests of this folder, which take it as they find it, one file after another.

A start and a stop cost more than most of what is looked at here. The last file stops it, scales it,
and starts it again.
"""

from __future__ import annotations

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

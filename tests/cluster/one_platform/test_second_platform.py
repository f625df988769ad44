"""A second platform on the same machine: beside the first, and after its end."""

from __future__ import annotations

import os
import signal
import time

import httpx
import psutil
import pytest

from actors.durable.reserve import SPARES
from cluster.processes import wait_until
from tests.cluster.running import Running

pytestmark = pytest.mark.cluster


def test_two_platforms_run_side_by_side(platform: Running, second: Running) -> None:
    assert wait_until(platform.ready, timeout_s=60)
    assert wait_until(second.ready, timeout_s=60)
    assert "Demo logins" in platform.output
    assert "Demo logins" not in second.output
    listed = [
        httpx.get(f"{running.url}/api/instrument/", timeout=30).json()["instruments"]
        for running in (platform, second)
    ]
    assert [bool(instruments) for instruments in listed] == [True, False]


def test_a_killed_partition_comes_back_in_a_process_that_was_there_already(
    second: Running,
) -> None:
    def partitions() -> dict[int, psutil.Process]:
        return {process.pid: process for process in second.children("ray::AccountActor")}

    def ready() -> bool:
        return len(second.children("ray::IDLE")) == SPARES and len(partitions()) == 2

    assert wait_until(ready, timeout_s=60)
    before = partitions()
    killed_at = time.time()
    min(before.values(), key=lambda process: process.pid).kill()
    assert wait_until(lambda: len(partitions().keys() - before.keys()) == 1, timeout_s=60)
    (new,) = partitions().keys() - before.keys()
    assert partitions()[new].create_time() < killed_at
    assert wait_until(ready, timeout_s=60)


def test_sigterm_leaves_nothing_behind(platform: Running, second: Running) -> None:
    assert platform.stop(signal.SIGTERM) == 0
    assert platform.processes() == []
    assert not os.path.exists(f"/tmp/kontor-{platform.instance}")
    assert wait_until(second.ready, timeout_s=60)

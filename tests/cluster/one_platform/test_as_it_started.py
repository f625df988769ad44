"""A platform that nothing has happened to yet; the first of a folder, and the only one."""

from __future__ import annotations

import json
import re

import pytest

from cluster.errors import Exit
from cluster.processes import wait_until
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster


def test_a_folder_takes_one_platform_only(platform: Running) -> None:
    done = kontor("up", data_dir=platform.data_dir)
    assert done.returncode == Exit.DATA_LOCKED
    assert len(done.stderr.strip().splitlines()) == 1
    assert wait_until(platform.ready, timeout_s=60)


def test_status_shows_each_partition(platform: Running) -> None:
    done = kontor("status", "--json", data_dir=platform.data_dir)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    actors = status["actors"]
    alive = [node for node in status["nodes"] if node["alive"]]
    assert [(node["head"], node["partitions"]) for node in alive] == [(True, 3)]
    assert {incident["event"] for incident in status["incidents"]} == {"started"}
    partitions = [actor for actor in actors if actor["kind"] == "AccountActor"]
    assert [actor["state"] for actor in partitions] == ["running", "running"]
    for actor in partitions:
        assert actor["hosts"].startswith("AccountActor(")
        assert actor["position"] >= 0
        assert actor["lag"] >= 0
        assert actor["restarts"] == 0
        assert actor["memory"] > 0
    (books,) = [actor for actor in actors if actor["kind"] == "OrderBookActor"]
    assert books["state"] == "running"
    assert re.fullmatch(r"OrderBookActor\(p0: ([A-Z0-9]+USD ){4}and \d+ more\)", books["hosts"])

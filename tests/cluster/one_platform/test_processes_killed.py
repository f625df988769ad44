"""Servers and actors of a platform are killed: each is replaced, and what died is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from cluster.processes import wait_until
from tests.cluster.running import Running, gone, kontor

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("name", ["postgres", "redis-server", "gcs_server"])
def test_a_killed_server_is_replaced(platform: Running, name: str) -> None:
    (server,) = (
        process
        for process in platform.processes()
        if process.cmdline() and Path(process.cmdline()[0]).name == name
    )
    server.kill()
    assert wait_until(lambda: gone(server), timeout_s=20)
    assert wait_until(platform.ready, timeout_s=60, pause_s=0.05)


def test_deaths_are_noticed_by_the_next_control_store(platform: Running) -> None:
    def stores() -> list[psutil.Process]:
        return [process for process in platform.processes() if process.name() == "gcs_server"]

    assert wait_until(lambda: len(stores()) == 1, timeout_s=60), "one was killed a moment ago"
    (store,) = stores()
    actor = next(p for p in platform.processes() if p.name().startswith("ray::Account"))
    store.kill()
    actor.kill()

    def partitions() -> list[dict[str, object]]:
        done = kontor("status", "--json", data_dir=platform.data_dir)
        actors = json.loads(done.stdout)["actors"] if done.returncode == 0 else []
        return [one for one in actors if one["kind"] == "AccountActor"]

    def replaced() -> bool:
        states = {one["pid"]: one["state"] for one in partitions()}
        return list(states.values()) == ["running"] * 2 and actor.pid not in states

    assert wait_until(replaced, timeout_s=60, pause_s=0.5)
    (second,) = [p for p in platform.processes() if p.name() == "gcs_server"]
    assert second.pid != store.pid

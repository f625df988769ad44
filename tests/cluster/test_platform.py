"""Whole platforms: side by side, over the remains of a killed one, and gone when told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.errors import Exit
from cluster.processes import wait_until
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Two platforms on one machine."""
    folder = tmp_path_factory.mktemp("platforms")
    first, second = Running(folder / "first", demo=True), Running(folder / "second")
    try:
        first.start()
        second.start()
        yield first, second
    finally:
        second.stop()
        first.stop()


def test_two_platforms_run_side_by_side(pair: tuple[Running, Running]) -> None:
    first, second = pair
    assert first.ready()
    assert second.ready()
    assert "Demo logins" in first.output
    assert "Demo logins" not in second.output
    listed = [
        httpx.get(f"{platform.url}/api/instrument/", timeout=30).json()["instruments"]
        for platform in pair
    ]
    assert [bool(instruments) for instruments in listed] == [True, False]


def test_a_folder_takes_one_platform_only(pair: tuple[Running, Running]) -> None:
    first, _ = pair
    done = kontor("up", data_dir=first.data_dir)
    assert done.returncode == Exit.DATA_LOCKED
    assert len(done.stderr.strip().splitlines()) == 1
    assert first.ready()


def test_status_shows_each_partition(pair: tuple[Running, Running]) -> None:
    first, _ = pair
    done = kontor("status", "--json", data_dir=first.data_dir)
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


@pytest.mark.parametrize("name", ["postgres", "redis-server", "gcs_server"])
def test_a_killed_server_is_replaced(pair: tuple[Running, Running], name: str) -> None:
    first, _ = pair
    (server,) = (
        process
        for process in first.processes()
        if process.cmdline() and Path(process.cmdline()[0]).name == name
    )
    server.kill()
    assert wait_until(lambda: not server.is_running() or _is_zombie(server), timeout_s=5)
    assert wait_until(first.ready, timeout_s=10, pause_s=0.05)


def test_deaths_are_noticed_by_the_next_control_store(pair: tuple[Running, Running]) -> None:
    first, _ = pair

    def stores() -> list[psutil.Process]:
        return [process for process in first.processes() if process.name() == "gcs_server"]

    assert wait_until(lambda: len(stores()) == 1, timeout_s=20), "one was killed a moment ago"
    (store,) = stores()
    actor = next(p for p in first.processes() if p.name().startswith("ray::Account"))
    store.kill()
    actor.kill()

    def partitions() -> list[dict[str, object]]:
        done = kontor("status", "--json", data_dir=first.data_dir)
        actors = json.loads(done.stdout)["actors"] if done.returncode == 0 else []
        return [one for one in actors if one["kind"] == "AccountActor"]

    def replaced() -> bool:
        states = {one["pid"]: one["state"] for one in partitions()}
        return list(states.values()) == ["running"] * 2 and actor.pid not in states

    assert wait_until(replaced, timeout_s=30, pause_s=0.5)
    (second,) = [p for p in first.processes() if p.name() == "gcs_server"]
    assert second.pid != store.pid


def test_a_start_over_the_remains_of_a_killed_platform(pair: tuple[Running, Running]) -> None:
    _, second = pair
    before = second.processes()
    assert len(before) > 5
    # The worst case: one part hangs and cannot notice that the others are gone.
    hung = next(process for process in before if process.name().startswith("ray::Account"))
    hung.send_signal(signal.SIGSTOP)
    second.stop(signal.SIGKILL)
    second.start()
    assert second.ready()
    alive = {process.pid for process in second.processes()}
    assert not alive & {process.pid for process in before}
    assert not hung.is_running() or _is_zombie(hung)


def test_sigterm_leaves_nothing_behind(pair: tuple[Running, Running]) -> None:
    first, second = pair
    assert second.stop(signal.SIGTERM) == 0
    assert second.processes() == []
    assert not os.path.exists(f"/tmp/kontor-{second.instance}")
    assert first.ready()


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True

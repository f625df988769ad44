"""Instruments from the command line, and the projector, against a running platform."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster

FJRD = (
    "FJRD", "USD", "--name", "Fjord Lines", "--type", "stock", "--tick", "0.01", "--lot", "1",
    "--reference", "42",
)  # fmt: skip


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait until something is found."""
    deadline = time.monotonic() + seconds
    while True:
        result = found()
        if result:
            return result
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_list_halt_resume_delist_and_show(platform: Running) -> None:
    def run(*words: str, code: int = 0) -> Any:
        done = kontor("instrument", *words, "--json", data_dir=platform.data_dir)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    with httpx.Client(base_url=platform.url, timeout=30) as client:
        body = {"name": "Ivy", "email": "ivy@example.org", "password": "a long enough password"}
        token = client.post("/api/signup/", json=body).json()
        issue = ("--issued", "1000", "--issuer", token["user"]["id"])
        assert run("list", *FJRD, *issue) == {"symbol": "FJRDUSD", "status": "trading"}
        assert run("list", *FJRD, *issue)["status"] == "trading"  # the same, so nothing twice
        assert "already_listed" in run("list", *FJRD, code=2)
        assert "rules_invalid" in run("list", "A", "USD", *FJRD[2:], "--band", "x", code=2)

        def status() -> str:
            return str(client.get("/api/instrument/FJRDUSD/").json().get("status"))

        until(lambda: status() == "trading")
        assert run("halt", "fjrdusd", "--reason", "News")["status"] == "halted"
        until(lambda: status() == "halted")
        assert run("show", "FJRDUSD")["reason"] == "News"
        assert "status_invalid" in run("halt", "FJRDUSD", code=2)
        assert run("resume", "FJRDUSD")["status"] == "trading"
        assert run("delist", "FJRDUSD", "--reason", "Over")["status"] == "delisted"
        assert "FJRDUSD" in [row["symbol"] for row in run("show")]
        assert "Nothing is listed" in run("show", "NOPE", code=2)
        client.headers["Authorization"] = f"Bearer {token['token']}"
        held = client.get(f"/api/user/{token['user']['id']}/brokerage/").json()["balances"]
        assert [row["total"] for row in held if row["asset"] == "FJRD"] == ["1000.00000000"]


def test_a_projector_that_is_killed_or_hangs_is_replaced(platform: Running) -> None:
    def projector() -> dict[str, Any]:
        done = kontor("status", "--json", data_dir=platform.data_dir)
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["actors"]
        found = [row for row in rows if row["kind"] == "ProjectorActor"]
        running = [row for row in found if row["state"] == "running"]
        return running[0] if running else {}

    def another(pid: int) -> None:
        """Wait for its process: a look at all actors takes seconds."""
        until(lambda: {one.pid for one in platform.children("ProjectorActor")} - {pid}, 90)

    first = until(projector)
    os.kill(first["pid"], signal.SIGKILL)
    another(first["pid"])
    second = until(lambda: (row := projector()) and row["pid"] != first["pid"] and row)
    os.kill(second["pid"], signal.SIGSTOP)
    another(second["pid"])
    until(
        lambda: (row := projector()) and row["pid"] != second["pid"] and row["lag"] == 0 and row, 90
    )

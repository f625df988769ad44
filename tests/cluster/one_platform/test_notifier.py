"""The notifier against a running platform: killed again and again, it tells each payment once."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.cluster.one_platform.test_instrument_command import until
from tests.cluster.one_platform.test_mail_under_fire import send, signed_up
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster


def test_a_notifier_that_is_killed_goes_on_where_it_was(platform: Running) -> None:
    def notifier() -> dict[str, Any]:
        done = kontor("status", "--json", data_dir=platform.data_dir)
        assert done.returncode == 0, done.stderr
        rows = [r for r in json.loads(done.stdout)["actors"] if r["kind"] == "NotifierActor"]
        return rows[0] if rows and rows[0]["state"] == "running" else {}

    first = until(notifier)
    victims = {first["pid"]}
    with (
        signed_up(platform, "nora") as (nora, path, source),
        signed_up(platform, "olaf") as (
            olaf,
            his,
            destination,
        ),
    ):
        for number in range(12):
            if number in (3, 6, 9):
                for process in platform.children("NotifierActor"):
                    victims.add(process.pid)
                    os.kill(process.pid, signal.SIGKILL)
            send(nora, path, source, destination, f"{number + 1}.00")

        def told() -> list[dict[str, Any]]:
            listed = olaf.get(f"{his}notification/", params={"limit": "100"}).json()
            items: list[dict[str, Any]] = listed["items"]
            numbers = [item["seq"] for item in items]
            assert numbers == list(range(len(numbers), 0, -1))
            return [item for item in items if item["kind"] == "transfer_received"]

        until(lambda: len(told()) >= 12, 60)
        amounts = sorted(float(item["values"]["amount"]) for item in told())
        assert amounts == [float(number + 1) for number in range(12)]
    last = until(lambda: (row := notifier()) and row["lag"] is not None and row)
    assert last["pid"] not in victims
    assert last["details"]["reason"] == ""

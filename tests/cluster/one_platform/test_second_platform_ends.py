"""The second platform is killed and comes back; its data folder is lost, and comes back, too."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from actors.accounts import AccountsClient
from cluster.processes import wait_until
from cluster.servers import database
from domain.accounts import commands as cmd
from domain.accounts.numbers import account_number
from tests.cluster.running import Running, environment, gone, kontor
from tests.cluster.test_backup import query, settings

pytestmark = pytest.mark.cluster

PEOPLE = range(1_000_000_001, 1_000_000_021)


def test_a_start_over_the_remains_of_a_killed_platform(second: Running) -> None:
    before = second.processes()
    assert len(before) > 5
    # The worst case: one part hangs and cannot notice that the others are gone.
    hung = next(process for process in before if process.name().startswith("ray::Account"))
    hung.send_signal(signal.SIGSTOP)
    second.stop(signal.SIGKILL)
    second.start()
    assert wait_until(second.ready, timeout_s=60)
    alive = {process.pid for process in second.processes()}
    assert not alive & {process.pid for process in before}
    assert gone(hung)


def follower(platform: Running, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """``kontor backup --follow`` that has begun to follow."""
    output = folder.with_suffix(".out")
    with output.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from cluster.cli import main; main()"),
                *("backup", str(folder), "--follow", *options),
            ],
            env=environment(platform.data_dir, {}),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    wait_until(
        lambda: "Following" in output.read_text() or process.poll() is not None, timeout_s=60
    )
    assert process.poll() is None, output.read_text()
    return process


class Payers:
    """Customers that pay each other until the platform is gone; what they were told."""

    def __init__(self) -> None:
        self.receipts: dict[bytes, cmd.Receipt] = {}
        self._stop = False

    def run(self, url: str, seconds: float, then: Callable[[], None]) -> None:
        """Pay for so long; ``then`` is called in the middle of it."""

        async def work() -> None:
            client = await AccountsClient.connect(url, name="tests")
            try:
                await client.call_many(
                    [
                        cmd.OpenCustomer(os.urandom(16), b"o", n, ("USD",), "USD", 100_000_000)
                        for n in PEOPLE
                    ]
                )
                payers = [asyncio.create_task(self._pay(client, n)) for n in PEOPLE]
                await asyncio.sleep(seconds)
                await asyncio.to_thread(then)
                self._stop = True
                for payer in payers:
                    payer.cancel()
                await asyncio.gather(*payers, return_exceptions=True)
            finally:
                await client.close()

        asyncio.run(work())

    async def _pay(self, client: AccountsClient, customer: int) -> None:
        to = PEOPLE[(customer - PEOPLE[0] + 7) % len(PEOPLE)]
        accounts = account_number(customer, 0), account_number(to, 0)
        while not self._stop:
            command = cmd.Transfer(os.urandom(16), b"t", *accounts, 100, "USD")
            reply = await client.call(command, timeout_s=5)
            if isinstance(reply, cmd.Receipt):
                self.receipts[command.id] = reply


def test_everything_acknowledged_comes_back(second: Running, tmp_path: Path) -> None:
    """Everything is killed under load and the data folder is destroyed."""
    folder = tmp_path / "backups"
    following = follower(second, folder, "--synchronous")
    payers = Payers()

    def destroy() -> None:
        for process in second.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()  # Postgres, too, has no time to send what it has written
        second.kill()
        following.kill()
        following.wait(10)
        shutil.rmtree(second.data_dir)

    try:
        payers.run(second.database_url(), 4.0, destroy)
    finally:
        with suppress(ProcessLookupError):
            following.kill()
        second.kill()
    assert len(payers.receipts) > 100

    done = kontor("restore", str(folder), "--json", data_dir=tmp_path / "new")
    assert done.returncode == 0, done.stderr
    restored = json.loads(done.stdout)
    assert restored["report"]["ok"]
    with database(settings(tmp_path / "new")) as url:
        rows = query(url, "SELECT id FROM transfers WHERE kind = 1")
    assert payers.receipts.keys() <= {row["id"].bytes for row in rows}

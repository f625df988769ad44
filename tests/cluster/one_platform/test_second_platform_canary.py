"""A canary under load: nothing is lost from its start to its end, nor forgotten by a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from cluster.assets import ROOT
from cluster.chaos.load import Customer, sign_up
from cluster.errors import Exit
from cluster.processes import wait_until
from tests.cluster.one_platform.operating import Payer, command, shares
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster

PACKAGES = ("actors", "cluster", "domain", "persistence", "serve_apps")
CUSTOMERS = 8


BROKEN = "broken on purpose"


class Load:
    """Customers who pay each other and look at their accounts, one request after the other.

    Nothing is sent twice: whatever is not answered as it should be is in ``lost``, or in ``broken``
    if it is the canary's own answer that it has broken down.
    """

    def __init__(self, url: str, customers: list[Customer]) -> None:
        self.lost: list[str] = []
        self.broken = 0
        self.answered: Counter[str] = Counter()
        self.version: dict[int, str] = {}
        self.heard = 0
        self._url = url
        self._customers = customers
        self._stop = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join(30)

    async def _run(self) -> None:
        workers = [self._customer(number) for number in range(len(self._customers))]
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._socket())
            for worker in [group.create_task(worker) for worker in workers]:
                await worker
            watching.cancel()

    async def _customer(self, number: int) -> None:
        me, other = self._customers[number], self._customers[number - 1]
        async with httpx.AsyncClient(base_url=self._url, timeout=30, headers=me.headers) as client:
            count = 0
            while not self._stop:
                count += 1
                key = {"Idempotency-Key": f"canary-{number}-{count}"}
                body = {"from": me.account, "to": other.account, "amount": "0.01"}
                path = f"/api/user/{me.user}/"
                for wanted, request in (
                    (201, client.build_request("POST", path + "transaction/", json=body)),
                    (200, client.build_request("GET", path)),
                ):
                    if wanted == 201:
                        request.headers.update(key)
                    await self._ask(client, number, request, wanted)
                await asyncio.sleep(0.05)

    async def _ask(
        self, client: httpx.AsyncClient, number: int, request: httpx.Request, wanted: int
    ) -> None:
        try:
            answer = await client.send(request)
        except httpx.HTTPError as error:
            self.lost.append(f"{request.method} {request.url.path}: {error!r}")
            return
        version = answer.headers.get("x-kontor-version", "stable")
        self.version[number] = version
        self.answered[version] += 1
        if answer.status_code == 500 and version == "canary":
            self.broken += 1
        elif answer.status_code != wanted:
            self.lost.append(f"{request.method} {answer.status_code} {answer.text[:200]}")

    async def _socket(self) -> None:
        """Somebody who watches the market, and comes back when a version ends."""
        url = self._url.replace("http", "ws", 1) + "/ws/btcusd@trade"
        while True:
            async with websockets.connect(url) as socket:
                with contextlib.suppress(websockets.ConnectionClosed):
                    while True:
                        await socket.send('{"id": 1, "method": "LIST_SUBSCRIPTIONS"}')
                        self.heard += json.loads(await socket.recv())["id"]
                        await asyncio.sleep(0.1)


def other_version(folder: Path, name: str, text: str, change: str) -> Path:
    """The code with a change in one place, in a folder of its own."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)
    path = folder / "serve_apps" / name
    before = path.read_text()
    assert text in before
    path.write_text(before.replace(text, change))
    return folder


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version of the code, which answers differently at one point."""
    text = '"status": "ok"'
    folder = tmp_path_factory.mktemp("newer")
    return other_version(folder, "application.py", text, text + ', "newer": True')


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    """A version that is well, but breaks down at every fifth request or so for an overview."""
    text = """    \"\"\"The user's accounts, holds and limits as they are now.\"\"\"
"""
    fails = f"    if secrets.randbelow(5) == 0:\n        raise RuntimeError('{BROKEN}')\n"
    return other_version(tmp_path / "worse", "accounts.py", text, text + fails)


def canary(second: Running, *words: str, code: int = 0) -> dict[str, Any]:
    """``kontor canary ... --json``: what it says of the release."""
    done = kontor("canary", *words, "--json", data_dir=second.data_dir)
    assert done.returncode == code, done.stderr + done.stdout
    found: dict[str, Any] = json.loads(done.stdout)["canary"]
    return found


def test_nothing_is_lost_from_start_to_promotion(second: Running, newer: Path) -> None:
    customers = asyncio.run(sign_up(second.url, CUSTOMERS))
    with Load(second.url, customers) as load:
        assert wait_until(lambda: load.answered["stable"] > 40, timeout_s=30)
        words = ("--weight", "40", "--max-latency-ratio", "20", "--path", str(newer))
        started = canary(second, "start", *words)
        assert (started["state"], started["latency_ratio"]) == ("running", 20)
        assert wait_until(lambda: load.answered["canary"] > 40, timeout_s=30)
        assert not load.lost
        first = {number for number, version in load.version.items() if version == "canary"}
        assert 0 < len(first) < CUSTOMERS
        canary(second, "weight", "70")
        assert wait_until(lambda: len(set(load.version.values())) == 2, timeout_s=10)

        before = load.answered["canary"]
        (replica,) = second.children("ServeReplica:kontor-canary")
        replica.kill()
        assert wait_until(lambda: load.answered["canary"] > before + 40, timeout_s=40)
        assert not load.lost

        said = canary(second, "status")["comparison"]["canary"]
        assert said["requests"] > 40
        assert said["error_rate"] == 0
        assert 0 < said["p50_s"] <= said["p95_s"] <= said["p99_s"] < 30

        assert canary(second, "promote", "--no-wait")["state"] == "promoting"
        assert wait_until(
            lambda: canary(second, "status")["state"] == "promoted", timeout_s=100, pause_s=1
        )
        # Its own replicas answer until no connection leads to them any more.
        assert wait_until(
            lambda: not second.children("ServeReplica:kontor-canary"), timeout_s=30, pause_s=0.5
        )
        heard = load.heard
        assert wait_until(lambda: load.heard > heard, timeout_s=10)
        after = load.answered["stable"]
        assert wait_until(lambda: load.answered["stable"] > after + 40, timeout_s=30)
    assert not load.lost
    assert set(load.version.values()) == {"stable"}
    assert httpx.get(second.url + "/livez").json() == {"status": "ok", "newer": True}


def test_a_version_that_fails_is_rolled_back_by_itself(second: Running, worse: Path) -> None:
    """What the canary itself breaks is its clients' loss; nothing else is, and nothing stays."""
    customers = asyncio.run(sign_up(second.url, CUSTOMERS, first=CUSTOMERS))
    with Load(second.url, customers) as load:
        words = ("start", "--weight", "50", "--max-error-rate", "3", "--path", str(worse))
        assert canary(second, *words)["state"] == "running"
        assert wait_until(
            lambda: canary(second, "status")["state"] == "rolled_back", timeout_s=60, pause_s=1
        )
        assert load.broken
        said = canary(second, "status")
        assert "of its answers in the last minute were errors, beyond 3 %" in said["reason"]
        assert 0 < said["comparison"]["canary"]["errors"] <= load.broken
        assert said["comparison"]["stable"]["errors"] == 0
        broken, heard = load.broken, load.heard
        assert wait_until(lambda: load.heard > heard, timeout_s=10)
        after = load.answered["stable"]
        assert wait_until(lambda: load.answered["stable"] > after + 40, timeout_s=30)
    assert not load.lost
    assert load.broken == broken
    assert set(load.version.values()) == {"stable"}
    assert not second.children("ServeReplica:kontor-canary")


def test_a_version_that_does_not_fit_is_refused_with_the_reason(
    second: Running, newer: Path
) -> None:
    def said(*words: str) -> str:
        done = kontor("canary", "start", *words, data_dir=second.data_dir)
        assert done.returncode == 2
        return done.stderr.strip()

    assert said() == "kontor: A canary differs by its code (--path) or by its settings (--set)."
    assert "is the whole platform's" in said("--set", "KONTOR_PORT=1")
    assert "is no setting" in said("--set", "KONTOR_NO_SUCH=1")
    assert "QUOTE_SECONDS" in said("--set", "KONTOR_QUOTE_SECONDS=1")
    assert "is no checkout" in said("--path", str(newer.parent))
    (newer / "persistence" / "migrations" / "0999_later.sql").write_text("select 1;")
    assert "needs a newer database: migration 0999" in said("--path", str(newer))


def test_a_restart_keeps_what_was_promoted_and_what_was_wished_meanwhile(second: Running) -> None:
    """Without a platform a wish is written down; the next one has it come true."""
    ann, ben = Payer(second, "ann"), Payer(second, "ben")
    assert sorted(shares(second).values()) == [2048, 2048]
    assert second.stop(signal.SIGTERM) == 0
    silent = kontor("rebalance", "accounts", data_dir=second.data_dir)
    assert silent.returncode == Exit.NOT_RUNNING
    assert len(silent.stderr.splitlines()) == 1
    told = kontor("scale", "accounts", "3", data_dir=second.data_dir)
    assert told.returncode == 0, told.stderr
    assert re.match("No partition answers: 1,36[0-9] slots will move when", told.stdout)
    second.start()
    assert httpx.get(second.url + "/livez").json() == {"status": "ok", "newer": True}
    assert command(second, "scale", "accounts", "3")["done"]
    assert sorted(shares(second).values()) == [1365, 1365, 1366]
    assert ann.pay(ben) == "completed"

"""Everything is killed under load, one after the other, and nothing acknowledged is lost.

Customers move money among each other over HTTP while ``kill -9`` takes the account actors, the
gateways, Postgres, Redis, and at last all processes at once. A transfer without an answer is sent
again with its key until there is one. Afterwards: acknowledged is present, once; refused is
absent; the books prove themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.datafolder import DataFolder
from cluster.processes import end_all
from cluster.servers import embedded_postgres
from domain.money import parse_amount
from persistence.database import open_pool
from serve_apps.accounts import command_id
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster

CUSTOMERS = 8
WORKERS = 12
PROGRESS = 60
"""Transfers that must be acknowledged after each fault before the next one comes."""
PROGRESS_TIMEOUT_S = 60.0


class Customer:
    """Somebody with money and a token."""

    def __init__(self, user: int, token: str, account: str) -> None:
        self.user = user
        self.headers = {"Authorization": f"Bearer {token}"}
        self.account = account


class Load:
    """Transfers among customers, and what was said about each."""

    def __init__(self, url: str, customers: list[Customer]) -> None:
        self.acknowledged: dict[str, tuple[str, str, str]] = {}
        self.refused: list[bytes] = []
        self.repeats = 0
        self._url = url
        self._customers = customers
        self._stop = False
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Keep transferring until told to stop; then finish what is under way."""
        limits = httpx.Limits(max_connections=WORKERS)
        async with httpx.AsyncClient(base_url=self._url, timeout=15, limits=limits) as client:
            await asyncio.gather(*(self._work(client) for _ in range(WORKERS)))

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop = True

    async def _work(self, client: httpx.AsyncClient) -> None:
        while not self._stop:
            source, destination = random.sample(self._customers, 2)
            too_much = random.random() < 0.1
            amount = "5000.00" if too_much else f"0.{random.randint(1, 9):02d}"
            await self._insist(client, source, destination, amount)

    async def _insist(
        self, client: httpx.AsyncClient, source: Customer, destination: Customer, amount: str
    ) -> None:
        """One transfer, sent with the same key until it is acknowledged or refused."""
        key = secrets.token_hex(8)
        body = {"from": source.account, "to": destination.account, "amount": amount}
        headers = {**source.headers, "Idempotency-Key": key}
        path = f"/api/user/{source.user}/transaction/"
        while True:
            answer = None
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post(path, json=body, headers=headers)
            if answer is not None and answer.status_code == 201:
                said = answer.json()
                parties = (source.account, destination.account, amount)
                earlier = self.acknowledged.setdefault(said["id"], parties)
                assert earlier == parties
                self._answered.set()
                return
            if answer is not None and answer.status_code in {400, 409, 422}:
                assert answer.json()["code"] == "insufficient_funds", answer.text
                self.refused.append(command_id(source.user, "transaction", key))
                return
            self.repeats += 1
            await asyncio.sleep(0.1)

    async def progress(self, what: str) -> None:
        """Wait until transfers are acknowledged again."""
        target = len(self.acknowledged) + PROGRESS
        try:
            async with asyncio.timeout(PROGRESS_TIMEOUT_S):
                while len(self.acknowledged) < target:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            pytest.fail(f"no progress after {what}: {len(self.acknowledged)} of {target}")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform with two partitions and two gateways."""
    running = Running(tmp_path_factory.mktemp("chaos") / "data", KONTOR_LOG_LEVEL="warning")
    try:
        running.start()
        yield running
    finally:
        running.stop()


async def _sign_up(url: str, number: int) -> Customer:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        body = {
            "email": f"chaos{number}@example.org",
            "name": f"Customer {number}",
            "password": f"a long password {number}",
        }
        answer = await client.post("/api/signup/", json=body)
        assert answer.status_code == 201, answer.text
        said = answer.json()
        user = int(said["user"]["id"])
        headers = {"Authorization": f"Bearer {said['token']}"}
        shown = (await client.get(f"/api/user/{user}/", headers=headers)).json()
        account = next(a["id"] for a in shown["accounts"] if a["currency"] == "USD")
        return Customer(user, said["token"], account)


def _processes(platform: Running, mark: str) -> list[psutil.Process]:
    found = []
    for process in platform.processes():
        with contextlib.suppress(psutil.Error):
            if mark in " ".join([process.name(), *process.cmdline()[:1]]):
                found.append(process)
    assert found, f"no process {mark}"
    return found


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


async def _faults(platform: Running, load: Load) -> None:
    await load.progress("the start")
    for actor in _processes(platform, "ray::AccountActor"):
        _kill([actor])
        await load.progress("the death of an account actor")
    for replica in _processes(platform, "ray::ServeReplica"):
        _kill([replica])
        await load.progress("the death of a gateway")
    _kill(_processes(platform, "postgres"))
    await load.progress("the death of Postgres")
    _kill(_processes(platform, "redis-server"))
    await load.progress("the death of Redis")
    everything = platform.processes()
    end_all(everything, grace_s=0)
    platform.stop()
    await asyncio.to_thread(platform.start)
    await load.progress("the death of the whole platform")


async def test_everything_is_killed_and_nothing_is_lost(platform: Running) -> None:
    customers = [await _sign_up(platform.url, number) for number in range(CUSTOMERS)]
    load = Load(platform.url, customers)
    running = asyncio.create_task(load.run())
    await _faults(platform, load)
    load.stop()
    async with asyncio.timeout(60):
        await running

    checked = await asyncio.to_thread(kontor, "check", "--json", data_dir=platform.data_dir)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    report = json.loads(checked.stdout)
    assert report["ok"], report["findings"]
    assert set(report["sums"].values()) == {0}

    stored = await _stored(platform.data_dir)
    assert load.acknowledged.keys() == stored.keys()
    for transfer, (source, destination, amount) in load.acknowledged.items():
        assert stored[transfer] == (int(source), int(destination), parse_amount(amount, "USD"))
    assert not {refused.hex() for refused in load.refused} & stored.keys()
    assert load.refused
    assert load.repeats


async def _stored(data_dir: Path) -> dict[str, tuple[int, int, int]]:
    """All transfers between customers, by id; each id is there once because it is the key."""
    pool = await open_pool(embedded_postgres(DataFolder(data_dir)).url(), name="chaos")
    try:
        rows = await pool.fetch(
            "SELECT id, source, destination, amount FROM transfers WHERE kind = 1 AND status = 2"
        )
    finally:
        await pool.close()
    return {
        row["id"].bytes.hex(): (row["source"], row["destination"], row["amount"]) for row in rows
    }

"""The order in which a canary's steps are taken, and what happens when one fails.

Serve and HAProxy are played; the database and Redis are real. That no request is lost with the real
ones is shown by ``one_platform``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
import redis.asyncio

from cluster import canary, canary_rule, front, ingress
from cluster.canary import LINGERS, CanaryKeeper
from cluster.front import Told
from cluster.settings import Settings
from cluster.split import Share
from persistence import releases
from persistence.audit import Actor
from persistence.database import Pool
from persistence.releases import New
from serve_apps.canary import ACTIVE_KEY, CANARY, STABLE, Meter
from serve_apps.services import AppConfig

TESTER = Actor(None, "a test", "console")


class _Ready(BaseHTTPRequestHandler):
    """A replica's ``/readyz``."""

    status = 200

    def do_GET(self) -> None:
        assert self.path == "/readyz"
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Stage:
    """Serve and HAProxy: writes down what they are told, in order."""

    def __init__(self, address: str) -> None:
        self.told: list[str] = []
        self.fails: set[str] = set()
        self.canary = ""
        self.replicas = 0
        self.older = 0
        self._address = address

    def condition(self, name: str) -> str:
        """Serve's word on the canary."""
        assert name == "kontor-canary"
        return self.canary

    def run_release(self, recipe: Any, *, replicas: int, canary: bool) -> None:
        """Start or change replicas."""
        side = "canary" if canary else "stable"
        assert recipe["side"] == side
        self._tell(f"{side} {replicas}")
        if side in self.fails:
            raise RuntimeError(f"Deploying failed:\n the {side} one does not start")
        if canary:
            self.canary, self.replicas = "RUNNING", replicas

    def run(self, config: AppConfig, *, replicas: int) -> None:
        """Start the platform's own version."""
        self._tell(f"own {replicas}")

    def end(self, name: str) -> None:
        """End the canary."""
        self._tell("end")
        self.canary, self.replicas = "", 0

    async def tell_all(self, share: Share, idle_s: float) -> list[Told]:
        """Tell HAProxy."""
        assert idle_s == 80
        self._tell(f"{share.weight} %")
        self.older = max(0, self.older - 1)
        return [Told(share, (self._address,) * self.replicas, self.older)]

    def _tell(self, word: str) -> None:
        if not self.told or self.told[-1] != word:
            self.told.append(word)


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Played in place of Serve and HAProxy."""
    server = HTTPServer(("127.0.0.1", 0), _Ready)
    Thread(target=server.serve_forever, daemon=True).start()
    stage = Stage(f"127.0.0.1:{server.server_port}")
    for name in ("condition", "run_release", "run", "end"):
        monkeypatch.setattr(ingress, name, getattr(stage, name))
    monkeypatch.setattr(front, "tell_all", stage.tell_all)
    monkeypatch.setattr(canary, "_SAME_S", 0.0)
    monkeypatch.setattr(canary, "ARRIVE_S", 0.5)
    yield stage
    server.shutdown()
    server.server_close()


@pytest.fixture
async def keeper(pool: Pool, redis_url: str, stage: Stage) -> AsyncIterator[CanaryKeeper]:
    """The keeper of a platform of three replicas."""
    settings = Settings(_env_file=None, replicas=3)
    config = AppConfig("-", redis_url, b"k", settings.policy())
    keeper = CanaryKeeper(settings, config)
    keeper._pool = pool
    keeper._redis = redis.asyncio.Redis.from_url(redis_url)
    yield keeper
    async for key in keeper._redis.scan_iter("kontor:canary*"):
        await keeper._redis.delete(key)
    await keeper._redis.aclose()


async def _begin(
    pool: Pool, bound: float | None = None, latency_ratio: float | None = None
) -> None:
    new = New("/srv/newer", {}, "0.2.0", "base", 10, 2, bound, latency_ratio)
    await releases.begin(pool, new, TESTER)


async def _state(pool: Pool) -> tuple[str, str]:
    found = await releases.latest(pool)
    assert found is not None
    return found.state, found.reason


async def test_it_gets_traffic_only_when_its_replicas_are_ready(
    pool: Pool, stage: Stage, keeper: CanaryKeeper
) -> None:
    await _begin(pool)
    await keeper._look_once()
    assert stage.told == ["0 %", "canary 2", "0 %"]
    assert await _state(pool) == ("running", "")
    await keeper._look_once()
    assert stage.told[3:] == ["10 %"]
    assert await keeper._redis.get(ACTIVE_KEY) == b"1"
    await releases.steer(pool, TESTER, weight=40)
    await keeper._look_once()
    assert stage.told[4:] == ["40 %"]


async def test_one_that_does_not_start_or_is_not_ready_never_gets_any(
    pool: Pool, stage: Stage, keeper: CanaryKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.fails.add("canary")
    await _begin(pool)
    await keeper._look_once()
    assert stage.told == ["0 %", "canary 2", "end"]
    reason = "Its replicas do not start: the canary one does not start"
    assert await _state(pool) == ("failed", reason)
    stage.fails.clear()
    monkeypatch.setattr(_Ready, "status", 503)
    await _begin(pool)
    await keeper._look_once()
    assert (await _state(pool))[0] == "failed"
    assert "A replica is not ready" in (await _state(pool))[1]
    assert stage.told[-1] == "end"


async def test_all_are_with_the_canary_while_the_stable_one_is_replaced(
    pool: Pool, stage: Stage, keeper: CanaryKeeper
) -> None:
    await _begin(pool)
    await keeper._look_once()
    await keeper._look_once()
    stage.told.clear()
    stage.older = 3
    await releases.steer(pool, TESTER, state=releases.PROMOTING)
    await keeper._look_once()
    assert stage.told == ["10 %", "canary 3", "10 %", "100 %", "stable 3", "0 %"]
    assert stage.older == 0
    assert await _state(pool) == ("promoted", "")
    assert await keeper._redis.get(ACTIVE_KEY) is None
    for _ in range(2):
        await keeper._look_once()
    assert stage.told[-2:] == ["0 %", "end"], "nothing more to do"


async def test_a_promoted_canary_answers_until_nothing_leads_to_it(
    pool: Pool, stage: Stage, keeper: CanaryKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _begin(pool)
    for _ in range(2):
        await keeper._look_once()
    await releases.steer(pool, TESTER, state=releases.PROMOTING)
    await keeper._look_once()
    stage.older = 3
    await keeper._look_once()
    assert stage.told[-1] == "0 %", "an older HAProxy may still send to it"
    found = await releases.latest(pool)
    assert found is not None
    assert (found.state, found.step) == ("promoted", LINGERS)
    # The next one waits for it, and says so.
    await _begin(pool)
    await keeper._look_once()
    found = await releases.latest(pool)
    assert found is not None
    assert (found.state, found.step) == ("starting", "the former canary ends")
    assert stage.told[-1] == "0 %"
    for _ in range(2):
        await keeper._look_once()
    assert stage.told[-5:] == ["0 %", "end", "0 %", "canary 2", "0 %"]
    assert (await _state(pool))[0] == "running"
    first = await releases.promoted(pool)
    assert first is not None
    assert first.step == ""


async def test_it_does_not_wait_for_ever_for_what_leads_there(
    pool: Pool, stage: Stage, keeper: CanaryKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _begin(pool)
    for _ in range(2):
        await keeper._look_once()
    await releases.steer(pool, TESTER, state=releases.PROMOTING)
    await keeper._look_once()
    stage.older = 1_000
    await keeper._look_once()
    assert stage.canary
    monkeypatch.setattr(keeper, "_lingers_since", keeper._lingers_since - 80)
    await keeper._look_once()
    assert stage.told[-1] == "end"


async def test_one_that_a_platform_before_has_left_behind_ends(
    pool: Pool, stage: Stage, keeper: CanaryKeeper
) -> None:
    stage.canary, stage.older = "RUNNING", 2
    await keeper._look_once()
    assert stage.canary
    await keeper._look_once()
    assert stage.told == ["0 %", "end"]


async def test_a_promotion_that_fails_gives_the_stable_one_back(
    pool: Pool, stage: Stage, keeper: CanaryKeeper
) -> None:
    await _begin(pool)
    await keeper._look_once()
    stage.fails.add("stable")
    await releases.steer(pool, TESTER, state=releases.PROMOTING)
    await keeper._look_once()
    assert stage.told[-3:] == ["100 %", "stable 3", "own 3"]
    assert (await _state(pool))[0] == "rolling_back"
    await keeper._look_once()
    assert stage.told[-2:] == ["0 %", "end"]
    state, reason = await _state(pool)
    assert (state, reason) == (
        "rolled_back",
        "Its replicas do not start: the stable one does not start",
    )


async def test_too_many_errors_roll_it_back(
    pool: Pool, stage: Stage, keeper: CanaryKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _begin(pool, bound=2.0)
    for _ in range(2):
        await keeper._look_once()
    meter = Meter(CANARY)
    await meter.look(keeper._redis)
    for number in range(100):
        meter.count(500 if number % 20 == 0 else 200, 0.01)
    await meter.look(keeper._redis)
    monkeypatch.setattr(keeper, "_compared_at", 0.0)
    await keeper._look_once()
    state, reason = await _state(pool)
    assert state == "rolling_back"
    assert reason.startswith("5.0 % of its answers in the last minute were errors, beyond 2 %")
    await keeper._look_once()
    assert stage.told[-2:] == ["0 %", "end"]
    found = await releases.latest(pool)
    assert found is not None
    assert (found.state, found.comparison.canary.errors) == ("rolled_back", 5)


async def test_one_that_is_slower_is_rolled_back(
    pool: Pool, stage: Stage, keeper: CanaryKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _begin(pool, latency_ratio=2.0)
    for _ in range(2):
        await keeper._look_once()
    for side, seconds in ((STABLE, 0.02), (CANARY, 0.06)):
        meter = Meter(side)
        await meter.look(keeper._redis)
        for _ in range(200):
            meter.count(200, seconds)
        await meter.look(keeper._redis)
    monkeypatch.setattr(canary_rule, "SLOW_FOR_S", 0.0)
    monkeypatch.setattr(keeper, "_compared_at", 0.0)
    await keeper._look_once()
    state, reason = await _state(pool)
    assert state == "rolling_back"
    assert reason.startswith("Its p95 of the last minute was 6")
    assert reason.endswith("beyond 2 times.")


async def test_after_a_restart_it_starts_again(
    pool: Pool, stage: Stage, keeper: CanaryKeeper
) -> None:
    await _begin(pool)
    await keeper._look_once()
    await keeper._look_once()
    stage.canary, stage.replicas = "", 0
    stage.told.clear()
    for _ in range(2):
        await keeper._look_once()
    assert stage.told == ["0 %", "canary 2", "0 %", "10 %"]
    assert (await _state(pool))[0] == "running"

"""Carries out what is wished of canary releases: started, weighed, promoted, rolled back.

Runs in ``kontor up``. A release is a row (``persistence.releases``), so a ``kontor up`` that was
killed goes on where the other one stood. Each step is taken only when the one before has arrived
everywhere, which is why no request is lost: see ``docs/operations/canary.md``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import httpx
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from cluster import front, ingress
from cluster.canary_rule import Rule
from cluster.front import Told
from cluster.release import fingerprint, recipe_of
from cluster.split import CANARY, Share
from persistence import releases
from persistence.audit import Actor
from persistence.database import OUTAGES, Pool, open_pool
from persistence.releases import Release
from serve_apps import canary

if TYPE_CHECKING:
    from cluster.settings import Settings
    from serve_apps.services import AppConfig

log = structlog.get_logger("kontor.canary")

PLATFORM: Final = Actor(None, "kontor up", "platform")
LOOK_EVERY_S: Final = 0.5
START_S: Final = 120.0
ARRIVE_S: Final = 20.0
LINGERS: Final = "the canary's own replicas end when no connection leads to them any more"
IDLE_MORE_S: Final = 5.0
"""So much longer than it should may an idle connection live in an older HAProxy."""
_VERIFY_EVERY_S: Final = 2.0
_SAME_S: Final = 1.0


class NotStarted(Exception):
    """A version does not run. The text is one line for the operator."""


class NotArrived(Exception):
    """HAProxy does not do what it was told, or not yet."""


class CanaryKeeper:
    """One for a platform."""

    def __init__(self, settings: Settings, config: AppConfig) -> None:
        self._settings = settings
        self._config = config
        self._idle_s = settings.keep_alive_seconds + IDLE_MORE_S
        self._rule = Rule(None, None)
        self._of = 0
        self._share = Share(0, "none")
        self._told_at = 0.0
        self._compared_at = 0.0
        self._lingers: bool | None = None
        self._lingers_since = 0.0
        self._pool: Pool
        self._redis: redis.asyncio.Redis

    async def run(self) -> None:
        """Look for something to do again and again, until cancelled."""
        self._redis = redis.asyncio.Redis.from_url(self._config.redis_url, socket_timeout=5)
        while True:
            try:
                self._pool = await open_pool(
                    self._config.database_url, name="kontor canary", size_max=2
                )
                break
            except OUTAGES as error:
                log.warning("canary_waits", error=repr(error))
                await asyncio.sleep(LOOK_EVERY_S)
        try:
            while True:
                await self._look_once()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await self._redis.aclose()
            self._pool.terminate()

    async def _look_once(self) -> None:
        try:
            release = await releases.under_way(self._pool)
            if self._lingers is None:  # a platform before this one may have left one behind
                self._lingers, self._lingers_since = release is None, time.monotonic()
            if self._lingers and (release is None or release.state != releases.PROMOTING):
                await self._end_former(release)
            elif release is not None:
                await self._carry_out(release)
        except OUTAGES as error:
            log.warning("canary_waits", error=repr(error))
        except Exception:  # Ray and Serve raise all kinds, and the next look tries again
            log.exception("canary_looks_again")

    async def _carry_out(self, release: Release) -> None:
        if release.id != self._of:
            self._of, self._rule = release.id, Rule(release.bound, release.latency_ratio)
        steps: dict[str, Callable[[Release], Awaitable[None]]] = {
            releases.STARTING: self._start,
            releases.RUNNING: self._watch,
            releases.PROMOTING: self._promote,
            releases.ROLLING_BACK: self._roll_back,
        }
        await steps[release.state](release)

    # -- steps ----------------------------------------------------------------------------

    async def _start(self, release: Release) -> None:
        try:
            await self._bring_up(release, release.replicas)
        except (NotStarted, NotArrived) as error:
            await self._end_canary()
            await self._settle(release, releases.FAILED, str(error))
        else:
            if release.state == releases.STARTING:
                await self._settle(release, releases.RUNNING)

    async def _watch(self, release: Release) -> None:
        condition = await asyncio.to_thread(ingress.condition, CANARY)
        if not condition:  # the platform was started again
            await self._start(release)
            return
        await self._weigh(release, release.weight)
        await self._compare(release, condition)

    async def _promote(self, release: Release) -> None:
        """All traffic to the canary, its version in the stable one's place, all traffic back."""
        try:
            await self._bring_up(release, max(release.replicas, self._settings.replicas))
        except NotStarted as error:
            await self._settle(release, releases.ROLLING_BACK, str(error))
            return
        await releases.note(self._pool, release, "all traffic goes to the new version")
        await self._arrive(self._share_of(release, 100))
        await self._until_older_are_gone()
        await releases.note(self._pool, release, "the new version takes the stable one's place")
        recipe = recipe_of(
            release.id, release.path, release.settings, self._settings, self._config, canary.STABLE
        )
        try:
            await self._deploy(recipe, self._settings.replicas, of_canary=False)
        except NotStarted as error:
            await self._stable_as_before()
            await self._settle(release, releases.ROLLING_BACK, str(error))
            return
        await releases.note(self._pool, release, "all traffic goes back to where it was")
        await self._compare(release, "")
        await self._arrive(self._share_of(release, 0))
        await self._stop_measuring()
        self._lingers, self._lingers_since = True, time.monotonic()
        await self._settle(release, releases.PROMOTED)
        await releases.note(self._pool, release, LINGERS)

    async def _roll_back(self, release: Release) -> None:
        """All traffic to the stable version; then the canary ends."""
        await releases.note(self._pool, release, "all traffic goes to the stable version")
        if await asyncio.to_thread(ingress.condition, CANARY):
            await self._arrive(self._share_of(release, 0))
            await self._compare(release, "")
        await self._end_canary()
        await self._settle(release, releases.ROLLED_BACK)

    # -- what they are made of ------------------------------------------------------------

    async def _bring_up(self, release: Release, replicas: int) -> None:
        """Have so many replicas of the canary that are ready; none gets a request by that."""
        runs = bool(await asyncio.to_thread(ingress.condition, CANARY))
        share = self._share_of(release, release.weight if runs else 0)
        await self._tell(share)
        await releases.note(self._pool, release, "its replicas start")
        recipe = recipe_of(
            release.id, release.path, release.settings, self._settings, self._config, canary.CANARY
        )
        await self._deploy(recipe, replicas, of_canary=True)
        await releases.note(self._pool, release, "its health is checked")
        told = await self._arrive(share, servers=replicas)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            for address in told[0].servers:
                try:
                    answer = await client.get(f"http://{address}/readyz")
                except httpx.HTTPError as error:
                    raise NotStarted(f"A replica does not answer: {error!r}") from None
                if answer.status_code != 200:
                    raise NotStarted(f"A replica is not ready: {answer.text[:200]}")

    async def _deploy(self, recipe: Any, replicas: int, *, of_canary: bool) -> None:
        try:
            async with asyncio.timeout(START_S):
                await asyncio.to_thread(
                    ingress.run_release, recipe, replicas=replicas, canary=of_canary
                )
        except TimeoutError:
            raise NotStarted(f"Its replicas do not start within {START_S:.0f} s.") from None
        except RuntimeError as error:
            raise NotStarted(f"Its replicas do not start: {_reason(error)}") from None

    async def _stable_as_before(self) -> None:
        """Give the stable application back what it was, while the canary serves everybody."""
        standing = await releases.promoted(self._pool)
        if standing is None:
            await asyncio.to_thread(ingress.run, self._config, replicas=self._settings.replicas)
            return
        recipe = recipe_of(
            standing.id, standing.path, standing.settings, self._settings, self._config,
            canary.STABLE,
        )  # fmt: skip
        await self._deploy(recipe, self._settings.replicas, of_canary=False)

    def _share_of(self, release: Release, weight: int) -> Share:
        return Share(weight, f"r{release.id}")

    async def _weigh(self, release: Release, weight: int) -> None:
        """Have the share that is wished for, on nodes that have come meanwhile, too."""
        share = self._share_of(release, weight)
        if share != self._share or time.monotonic() - self._told_at > _VERIFY_EVERY_S:
            await self._tell(share)
            self._share, self._told_at = share, time.monotonic()

    async def _tell(self, share: Share) -> list[Told]:
        return await front.tell_all(share, self._idle_s)

    async def _arrive(self, share: Share, servers: int = 0) -> list[Told]:
        """Tell all nodes, and again until each has known it for a second, whatever reloads."""
        deadline = time.monotonic() + ARRIVE_S
        since: float | None = None
        self._share = share
        while True:
            told = await self._tell(share)
            right = all(one.share == share for one in told) and len(told[0].servers) >= servers
            now = time.monotonic()
            since = None if not right else since or now
            if since is not None and now - since >= _SAME_S:
                return told
            if now > deadline:
                raise NotArrived(f"HAProxy does not take up {share.weight} %: {told}")
            await asyncio.sleep(0.2)

    async def _until_older_are_gone(self) -> None:
        """Wait for what older HAProxy processes may still send by the share of before."""
        deadline = time.monotonic() + self._idle_s
        while time.monotonic() < deadline:
            if not any(one.older for one in await self._tell(self._share)):
                return
            await asyncio.sleep(0.5)

    async def _end_former(self, following: Release | None) -> None:
        """End what a promotion has left of the canary, once no connection can lead there.

        Until then it answers what an older HAProxy sends it: the same version, as it is promoted.
        """
        if await asyncio.to_thread(ingress.condition, CANARY):
            told = await self._tell(self._share)
            waited = time.monotonic() - self._lingers_since
            if any(one.older for one in told) and waited < self._idle_s:
                if following is not None:
                    await releases.note(self._pool, following, "the former canary ends")
                return
            await self._end_canary()
        self._lingers = False
        standing = await releases.promoted(self._pool)
        if standing is not None and standing.step:
            await releases.note(self._pool, standing, "")

    async def _end_canary(self) -> None:
        await asyncio.to_thread(ingress.end, CANARY)
        await self._stop_measuring()

    async def _stop_measuring(self) -> None:
        try:
            await canary.say_over(self._redis)
        except (RedisError, OSError):
            log.info("canary_key_goes_by_itself")

    async def _compare(self, release: Release, condition: str) -> None:
        """Have replicas measure, keep what they have measured, and act on it if so wished."""
        now = time.monotonic()
        if condition and now - self._compared_at < 1:
            return
        self._compared_at = now
        try:
            await canary.say_under_way(self._redis, str(release.id))
            totals = await canary.measured(self._redis, str(release.id))
        except (RedisError, OSError) as error:
            log.info("canary_not_compared", error=repr(error))
            return
        found = totals.comparison
        if found != release.comparison:
            await releases.compare(self._pool, release, found)
        reason = self._rule.verdict(totals, condition) if condition else ""
        if reason:
            log.warning("canary_rolled_back", reason=reason)
            await self._settle(release, releases.ROLLING_BACK, reason)

    async def _settle(self, release: Release, state: str, reason: str = "") -> None:
        await releases.settle(self._pool, release, state, PLATFORM, reason=reason)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def start_promoted(settings: Settings, config: AppConfig) -> bool:
    """Start the replicas of the promoted release; ``False`` if none stands, or it does not start.

    It stands as long as the platform's own code is what it was promoted beside.
    """
    release = asyncio.run(_standing(config.database_url))
    if release is None:
        return False
    recipe = recipe_of(release.id, release.path, release.settings, settings, config, canary.STABLE)
    try:
        ingress.run_release(recipe, replicas=settings.replicas, canary=False)
    except RuntimeError as error:
        log.error("promoted_release_does_not_start", release=release.id, error=str(error))
        return False
    log.info("promoted_release", release=release.id, path=release.path)
    return True


async def _standing(database_url: str) -> Release | None:
    pool = await open_pool(database_url, name="kontor canary", size_max=1)
    try:
        release = await releases.promoted(pool)
        if release is None or release.base == fingerprint():
            return release
        reason = "The platform's own code has changed."
        await releases.settle(pool, release, releases.REPLACED, PLATFORM, reason=reason)
        return None
    finally:
        await pool.close()

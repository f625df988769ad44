"""Actors of which a platform has exactly one, and the keeper that sees to it that each runs.

The projector, the notifier and their like stand beside the partitions. Ray starts such an actor
again when its process dies; its keeper, beside the supervisors of the partitions, starts it when
there is none, replaces one that hangs or was made with other code or settings, and ends it with
the platform. Whatever must last is in Postgres, so it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Final, TypeVar

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors.durable import reserve
from actors.durable.hosts import kill_worker
from actors.durable.reserve import Reserve
from persistence.database import OUTAGES, DatabaseUnavailable, is_outage

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
ANSWER_S: Final = 2.0
MISSED_MAX: Final = 5
START_S: Final = 60.0

T = TypeVar("T")


class KeptActor(ABC):
    """What the keeper expects: runs ``run`` for as long as it lives, and says how it is.

    ``made`` tells one of other code or settings. ``niceness`` is how far it stands back from those
    who need the processor more. Ray calls ``__init__`` again after each crash.
    """

    def __init__(self, made: str, niceness: int) -> None:
        os.nice(niceness)
        self._made = made
        self._node: str = ray.get_runtime_context().get_node_id()
        self._task = asyncio.get_running_loop().create_task(self._run())

    @abstractmethod
    async def run(self) -> None:
        """The work. It is begun again when it ends or fails."""

    @abstractmethod
    def condition(self) -> dict[str, Any]:
        """How the work goes, at least its ``state``; at once, without asking anybody."""

    async def describe(self) -> dict[str, Any]:
        """The actor's condition, for the keeper and for operators."""
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "node": self._node,
            "made": self._made,
            "waited": reserve.waited,
            **self.condition(),
        }

    async def stop(self) -> None:
        """Go on no further."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            try:
                await self.run()
            except Exception as error:
                if is_outage(error):
                    log.warning("waits", actor=repr(self), error=repr(error))
                else:
                    log.exception("begins again", actor=repr(self))
            await asyncio.sleep(0.5)


class Keeper:
    """Keeps the one actor ``name`` of a platform alive.

    ``actor`` is its class, called with ``arguments`` and, as the last, the mark of what it was made
    with. ``note`` is told of what was found and done, ``reserve`` of each process that is used.
    """

    def __init__(
        self,
        name: str,
        actor: type[KeptActor],
        arguments: tuple[Any, ...],
        namespace: str,
        note: Callable[[str, str], Awaitable[None]] | None = None,
        reserve: Reserve | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        made = repr((arguments, version("kontor")))
        self.name = name
        self.made = hashlib.sha256(made.encode()).hexdigest()[:12]
        self._actor = actor
        self._arguments = arguments
        self._namespace = namespace
        self._note = note
        self._reserve = reserve or Reserve()
        self._clock = clock
        self._handle: Any = None
        self._missed = 0
        self._since = 0.0
        self._pid = 0
        self._threads = ThreadPoolExecutor(1, f"{name}-keeper")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except RayError as error:
                log.info("keeper waits", name=self.name, error=str(error).partition("\n")[0])
            except Exception:
                log.exception("keeper looks again", name=self.name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Is there one, and does it answer? Does what is needed."""
        if self._handle is None:
            self._handle = await self._in_thread(self._find_or_start)
            self._since, self._missed, self._pid = self._clock(), 0, 0
        try:
            async with asyncio.timeout(ANSWER_S):
                about = await self._handle.describe.remote()
        except (TimeoutError, ActorUnavailableError):
            self._missed += 1
            started = self._pid != 0 or self._clock() - self._since > START_S
            if started and self._missed >= MISSED_MAX:
                await self._tell("hung", "it does not answer; it is ended and replaced")
                await self.end()
            return
        except (RayActorError, ValueError):
            await self._tell("lost", "it has ended; another is started")
            self._handle = None
            return
        self._missed = 0
        if about["pid"] != self._pid:
            self._reserve.begun(about["node"], had_waited=about.get("waited", False))
        if self._pid and about["pid"] != self._pid:
            await self._tell("restarted", f"process {about['pid']} replaces {self._pid}")
        self._pid = about["pid"]
        if about["made"] != self.made:
            await self._tell("replaced", "it was started with other code or settings")
            await self.end()

    async def end(self) -> None:
        """End the actor for good, whatever it does."""
        pid = self._pid
        with contextlib.suppress(RayError, ValueError):
            await self._in_thread(self._kill)
        if pid and self._missed:
            await self._in_thread(lambda: kill_worker(pid))
        self._handle, self._pid = None, 0

    def _kill(self) -> None:
        handle = self._handle or ray.get_actor(self.name, self._namespace)
        ray.kill(handle, no_restart=True)

    def _find_or_start(self) -> Any:
        remote: Any = ray.remote(self._actor)
        return remote.options(
            name=self.name,
            namespace=self._namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=100,
        ).remote(*self._arguments, self.made)

    async def _tell(self, event: str, what: str) -> None:
        log.warning(f"{self.name} {event}", what=what)
        if self._note is not None:
            with contextlib.suppress(DatabaseUnavailable, *OUTAGES):
                await self._note(f"{self.name} {event}", what)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

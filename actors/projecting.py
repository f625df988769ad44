"""The projector on Ray: the actor that runs it, and the keeper that sees to it that it runs.

There is one for the whole platform. Ray starts it again when its process dies; the keeper, beside
the supervisors of the partitions, starts it when there is none, replaces one that hangs or was
made with other code, and ends it with the platform. It keeps nothing that is not in Postgres, so
it may be killed at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Final, TypeVar

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors.durable.hosts import kill_worker
from actors.projector import Projector
from persistence.database import OUTAGES, DatabaseUnavailable, open_pool

log = structlog.get_logger(__name__)

NAME: Final = "projector"
LOOK_EVERY_S: Final = 1.0
ANSWER_S: Final = 2.0
MISSED_MAX: Final = 5
START_S: Final = 60.0
NICENESS: Final = 10
"""Under full load its lag grows, and shrinks again later: partitions get the processor first."""

T = TypeVar("T")


class ProjectorActor:
    """Runs the projector; Ray calls ``__init__`` again after each crash."""

    def __init__(self, database_url: str, made: str) -> None:
        os.nice(NICENESS)
        self._made = made
        self._node: str = ray.get_runtime_context().get_node_id()
        self._projector: Projector | None = None
        self._task = asyncio.get_running_loop().create_task(self._run(database_url))

    def __repr__(self) -> str:
        return "ProjectorActor(history)"

    async def describe(self) -> dict[str, Any]:
        """The actor's condition, for operators; never waits for the database."""
        about: dict[str, Any] = {
            "actor": repr(self),
            "pid": os.getpid(),
            "node": self._node,
            "made": self._made,
            "state": "starting",
        }
        return about if self._projector is None else {**about, **self._projector.describe()}

    async def stop(self) -> None:
        """Go on no further."""
        self._task.cancel()

    async def _run(self, database_url: str) -> None:
        while True:
            try:
                pool = await open_pool(database_url, name=NAME, size_max=2)
            except DatabaseUnavailable as error:
                log.warning("no database yet", error=str(error))
                await asyncio.sleep(0.5)
            else:
                self._projector = Projector(pool)
                await self._projector.run()


class ProjectorKeeper:
    """Keeps the one projector of a platform alive; ``note`` is told of what was found and done."""

    def __init__(
        self,
        database_url: str,
        namespace: str,
        note: Callable[[str, str], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        made = repr((database_url, version("kontor")))
        self.made = hashlib.sha256(made.encode()).hexdigest()[:12]
        self._database_url = database_url
        self._namespace = namespace
        self._note = note
        self._clock = clock
        self._handle: Any = None
        self._missed = 0
        self._since = 0.0
        self._pid = 0
        self._threads = ThreadPoolExecutor(1, "projector-keeper")

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except RayError as error:
                log.info("projector keeper waits", error=str(error).partition("\n")[0])
            except Exception:
                log.exception("projector keeper looks again")
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
                await self._tell("projector hung", "it does not answer; it is ended and replaced")
                await self.end()
            return
        except (RayActorError, ValueError):
            await self._tell("projector lost", "it has ended; another is started")
            self._handle = None
            return
        self._missed = 0
        if self._pid and about["pid"] != self._pid:
            await self._tell("projector restarted", f"process {about['pid']} replaces {self._pid}")
        self._pid = about["pid"]
        if about["made"] != self.made:
            await self._tell("projector replaced", "it was started with other code")
            await self.end()

    async def end(self) -> None:
        """End the projector for good, whatever it does."""
        pid = self._pid
        with contextlib.suppress(RayError, ValueError):
            await self._in_thread(self._kill)
        if pid and self._missed:
            await self._in_thread(lambda: kill_worker(pid))
        self._handle, self._pid = None, 0

    def _kill(self) -> None:
        handle = self._handle or ray.get_actor(NAME, self._namespace)
        ray.kill(handle, no_restart=True)

    def _find_or_start(self) -> Any:
        remote: Any = ray.remote(ProjectorActor)
        return remote.options(
            name=NAME,
            namespace=self._namespace,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=100,
        ).remote(self._database_url, self.made)

    async def _tell(self, event: str, what: str) -> None:
        log.warning(event, what=what)
        if self._note is not None:
            with contextlib.suppress(DatabaseUnavailable, *OUTAGES):
                await self._note(event, what)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

"""Ray as the place where durable actors run: what the supervisor asks of it, in Ray's own calls.

Calls that need Ray's control store wait for it when it is away, so they are made in a thread: the
event loop of whoever supervises goes on, and can bring the control store back.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.durable.actor import ActorConfig, DurableActor
from actors.durable.watched import Answer, Node, parse_name
from persistence.placement import StreamRow

log = structlog.get_logger(__name__)

_HEAD: Final = "node:__internal_head__"
_THREADS: Final = 4
_START_IDLE_S: Final = 5.0
_ENVIRONMENT_S: Final = 600
T = TypeVar("T")


class Recipe(msgspec.Struct, frozen=True):
    """How the actors of one kind are made; ``config`` is completed for each stream."""

    actor: type[DurableActor]
    config: ActorConfig
    arguments: tuple[Any, ...] = ()

    @property
    def made(self) -> str:
        """A short hash of settings and version: other settings, other hash."""
        text = repr((self.actor.__qualname__, self.config, self.arguments, version("kontor")))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def kill_worker(pid: int) -> None:
    """Kill a process of Ray on this machine, if that is what the number still means."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):
            os.kill(pid, signal.SIGKILL)


def start_idle_process(raylet: str) -> None:
    """Ask the raylet at ``host:port`` for a process with the code and job of this one's actors.

    Ray offers no call for it in Python, but each raylet serves one: see ``docs/decisions/0017``.
    """
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    # Generated, and without types.
    enums: Any = common_pb2
    messages: Any = node_manager_pb2
    services: Any = node_manager_pb2_grpc
    context: Any = ray.get_runtime_context()
    request = messages.PrestartWorkersRequest(
        language=enums.PYTHON, job_id=bytes.fromhex(context.get_job_id()), num_workers=1
    )
    # The process fits an actor only if it was started with the very same environment.
    environment = request.runtime_env_info
    environment.serialized_runtime_env = context.get_runtime_env_string()
    environment.runtime_env_config.setup_timeout_seconds = _ENVIRONMENT_S
    environment.runtime_env_config.eager_install = True
    with init_grpc_channel(raylet) as channel:
        services.NodeManagerServiceStub(channel).PrestartWorkers(request, timeout=_START_IDLE_S)


class RayHosts:
    """Starts, asks and ends the Ray actors of one kind, in one namespace of Ray."""

    def __init__(self, recipe: Recipe, namespace: str) -> None:
        self.made = recipe.made
        self._recipe = recipe
        self._namespace = namespace
        self._handles: dict[str, Any] = {}
        self._addresses: dict[str, str] = {}
        self._raylets: dict[str, str] = {}
        self._remote: Any = ray.remote(recipe.actor)
        self._threads = ThreadPoolExecutor(_THREADS, "supervisor")

    async def names(self) -> list[str]:
        """All actors of the kind that exist, in whatever state."""
        found = await self._in_thread(lambda: ray.util.list_named_actors(all_namespaces=True))
        return [
            actor["name"]
            for actor in found
            if actor["namespace"] == self._namespace and self._is_of_kind(actor["name"])
        ]

    def _is_of_kind(self, name: str) -> bool:
        parsed = parse_name(name)
        return parsed is not None and parsed[0].startswith(f"{self._recipe.config.kind}/")

    async def nodes(self) -> list[Node]:
        """All nodes that Ray believes to be alive."""
        alive = [node for node in await self._in_thread(ray.nodes) if node["Alive"]]
        found = [
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                node["NodeName"] or node["NodeManagerHostname"],
                _HEAD in node["Resources"],
            )
            for node in alive
        ]
        self._addresses = {node.node: node.address for node in found}
        self._raylets = {
            node["NodeID"]: f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
            for node in alive
        }
        return found

    async def start(self, name: str, row: StreamRow, node: str | None) -> None:
        """Begin to start an actor. It outlives this process, and Ray restarts it on its node.

        Only a strict affinity is one: from a soft one Ray departs for an actor that needs no
        resources, even where the node is well. When the node is gone, so is the actor, and the
        supervisor starts another.
        """
        config = msgspec.structs.replace(
            self._recipe.config,
            stream=row.stream,
            slots=row.slots,
            made=self.made,
            pinned=tuple(row.pinned),
        )
        options = {
            "name": name,
            "namespace": self._namespace,
            "lifetime": "detached",
            "num_cpus": 0,
            "max_restarts": -1,
            "max_task_retries": 0,
            "max_concurrency": 10_000,
        }
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        remote, arguments = self._remote.options(**options), self._recipe.arguments
        self._handles[name] = await self._in_thread(lambda: remote.remote(config, *arguments))

    async def ask(self, name: str, timeout_s: float) -> Answer:
        """What the actor says of itself, or why it does not."""
        try:
            async with asyncio.timeout(timeout_s):
                handle = await self._handle(name)
                about = await handle.describe.remote()
        except TimeoutError:
            return Answer("silent")
        except ActorUnavailableError:
            return Answer("away")
        except (RayActorError, ValueError) as error:
            self._handles.pop(name, None)
            return Answer("gone", reason=str(error).strip().partition("\n")[0])
        except RayError as error:
            # An error of the actor's own, in its answer: it lives, but is of no use.
            return Answer("silent", reason=f"{type(error).__name__}: {error}")
        return Answer(
            about["state"],
            about.get("epoch", 0),
            about.get("slots", 0),
            about["pid"],
            about["node"],
            about.get("reason", ""),
            about["made"],
            about.get("waited", False),
        )

    async def stop(self, name: str, timeout_s: float) -> None:
        """Let the actor write its last checkpoint, for so long at most."""
        with contextlib.suppress(TimeoutError, RayError, ValueError):
            async with asyncio.timeout(timeout_s):
                handle = await self._handle(name)
                await handle.stop.remote()

    async def kill(self, name: str, pid: int = 0, node: str = "") -> None:
        """End the actor at once and for good.

        Ray asks the process to end, which one that hangs never hears; so it is killed besides.
        """
        with contextlib.suppress(RayError, ValueError):
            handle = await self._handle(name)
            await self._in_thread(lambda: ray.kill(handle, no_restart=True))
        self._handles.pop(name, None)
        if pid and node in self._addresses:
            await self._in_thread(lambda: self._kill_process(pid, node))

    def _kill_process(self, pid: int, node: str) -> None:
        own = self._addresses.get(ray.get_runtime_context().get_node_id())
        if self._addresses[node] == own:
            kill_worker(pid)
        else:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            remote: Any = ray.remote(kill_worker)
            remote.options(num_cpus=0, max_retries=0, scheduling_strategy=where).remote(pid)

    async def keep_spare(self, node: str) -> None:
        """Have Ray start a process on the node that nobody needs yet: the next actor gets it."""
        address = self._raylets.get(node)
        if address is not None:
            try:
                await self._in_thread(lambda: start_idle_process(address))
            except Exception as error:
                # Without one all goes on, only slower when a partition dies.
                log.warning("no process in reserve", node=node, error=repr(error)[:200])

    async def end_all(self, timeout_s: float) -> None:
        """Stop all actors in order, then end them."""

        async def end(name: str) -> None:
            await self.stop(name, timeout_s)
            await self.kill(name)

        await asyncio.gather(*(end(name) for name in await self.names()))

    async def _handle(self, name: str) -> Any:
        handle = self._handles.get(name)
        if handle is None:
            handle = await self._in_thread(lambda: ray.get_actor(name, self._namespace))
            self._handles[name] = handle
        return handle

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

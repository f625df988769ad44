"""What runs: each Ray actor with its condition, as ``kontor status`` shows it.

Nodes and incidents are what the supervisor wrote down last; actors are asked here and now.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import psutil

from cluster import runtime
from cluster.addresses import Addresses
from cluster.datafolder import DataFolder
from cluster.errors import Exit, StartError
from cluster.servers import database
from cluster.settings import Settings
from persistence.database import DatabaseUnavailable, open_pool
from persistence.supervision import Incident, NodeRow, incidents, nodes

_ANSWER_TIMEOUT_S: Final = 3.0
_ACTORS_MAX: Final = 1_000
_INCIDENTS: Final = 20


class ActorStatus(msgspec.Struct):
    """One Ray actor. ``position`` and ``lag`` are journal rows; ``memory`` is in bytes."""

    kind: str
    name: str
    state: str
    hosts: str
    restarts: int
    node: str = ""
    pid: int | None = None
    memory: int | None = None
    position: int | None = None
    lag: int | None = None
    details: dict[str, Any] = {}


class Supervision(msgspec.Struct):
    """What the supervisor knows: nodes of the cluster, and the latest incidents, newest first."""

    nodes: list[NodeRow]
    incidents: list[Incident]


def supervision(settings: Settings) -> Supervision:
    """Read what the supervisor has written down; raises ``StartError``."""

    async def ask(url: str) -> Supervision:
        pool = await open_pool(url, name="kontor status", size_max=1)
        try:
            return Supervision(await nodes(pool), await incidents(pool, _INCIDENTS))
        finally:
            await pool.close()

    try:
        with database(settings) as url:
            return asyncio.run(ask(url))
    except DatabaseUnavailable as error:
        raise StartError(str(error), Exit.DATABASE) from None


def read(addresses: Addresses, data: DataFolder) -> list[ActorStatus]:
    """Ask Ray for its actors, and each durable one for its condition."""
    token = data.path / "ray-token"
    runtime.apply(runtime.FLAGS)
    if token.exists():
        runtime.apply({"RAY_AUTH_TOKEN_PATH": str(token)})
    runtime.connect(addresses.ray)
    import ray
    from ray.util.state import list_actors

    try:
        states: Any = list_actors(
            address=addresses.dashboard,
            detail=True,
            limit=_ACTORS_MAX,
            raise_on_missing_output=False,
        )
        living = [state for state in states if state.state != "DEAD"]
        found = [_of(state) for state in living]
        durable = [
            actor
            for actor, state in zip(found, living, strict=True)
            if state.ray_namespace == runtime.NAMESPACE
        ]
        asyncio.run(_ask(durable))
        return sorted(found, key=lambda actor: (actor.kind, actor.name))
    finally:
        ray.shutdown()


def _of(state: Any) -> ActorStatus:
    kind, _, hosted = str(state.class_name).rpartition(".")[2].partition(":")
    memory = None
    if state.pid and psutil.pid_exists(state.pid):
        memory = psutil.Process(state.pid).memory_info().rss
    return ActorStatus(
        kind=kind,
        name=state.name or "",
        state=str(state.state).lower(),
        hosts=hosted or state.repr_name or "",
        restarts=int(state.num_restarts or 0),
        node=state.node_id or "",
        pid=state.pid or None,
        memory=memory,
    )


async def _ask(actors: list[ActorStatus]) -> None:
    await asyncio.gather(*(_describe(actor) for actor in actors))


async def _describe(actor: ActorStatus) -> None:
    """Fill in what the actor says of itself; one that does not answer is shown as such."""
    import ray

    async def answer() -> dict[str, Any]:
        handle: Any = ray.get_actor(actor.name)
        description: dict[str, Any] = await handle.describe.remote()
        return description

    try:
        about = await asyncio.wait_for(answer(), _ANSWER_TIMEOUT_S)
    except (TimeoutError, ValueError, ray.exceptions.RayError):
        actor.state = "no answer"
        return
    actor.state = str(about.pop("state", actor.state))
    actor.hosts = str(about.pop("actor", actor.hosts))
    actor.position = about.pop("position", None)
    actor.lag = about.pop("lag", None)
    actor.details = about

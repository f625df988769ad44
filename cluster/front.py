"""Serve's HAProxy on each node: told the canary's share, and asked what it does.

A node's HAProxy is reached by its socket, so on other nodes a Ray task does it. A reload leaves the
old process behind until its last connection ends; that one keeps the share that it had.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cluster import split
from cluster.split import CANARY, MAP, Share

_TIMEOUT_S: Final = 5.0
_ANSWER_S: Final = 30.0


class Told(NamedTuple):
    """One HAProxy: the share that it knows, the canary's servers that are up, and how many of its
    older processes may still get requests.
    """

    share: Share | None
    servers: tuple[str, ...]
    older: int


def tell(share: Share, node: str, idle_s: float) -> Told:
    """Tell this node's HAProxy, whose idle connections live so long; runs on that node."""
    from ray.serve._private import constants

    config = _per_node(constants.RAY_SERVE_HAPROXY_CONFIG_FILE_LOC, node)
    admin = _per_node(constants.RAY_SERVE_HAPROXY_SOCKET_PATH, node)
    map_path = config.parent / MAP
    text = split.map_text(share)
    if config.parent.is_dir() and (not map_path.exists() or map_path.read_text() != text):
        split.replace(str(map_path), text)
    try:
        known = split.read_map(_ask(admin, f"show map {map_path}"))
        if known is not None and known != share:
            _ask(admin, split.map_commands(str(map_path), share))
            known = split.read_map(_ask(admin, f"show map {map_path}"))
        servers = _servers(_ask(admin, "show stat"))
    except OSError:
        return Told(None, (), 0)
    return Told(known, servers, older(config, idle_s))


async def tell_all(share: Share, idle_s: float) -> list[Told]:
    """Tell HAProxy on all nodes; this one's answer comes first. Raises ``RayError``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    own = ray.get_runtime_context().get_node_id()
    untyped: Any = ray
    others = [node["NodeID"] for node in untyped.nodes() if node["Alive"] and node["NodeID"] != own]
    remote = untyped.remote(tell)
    waiting = [
        remote.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(share, node, idle_s)
        for node in others
    ]
    here = await asyncio.to_thread(tell, share, own, idle_s)
    async with asyncio.timeout(_ANSWER_S):
        return [here, *await asyncio.gather(*waiting)]


def _per_node(path: str, node: str) -> Path:
    return Path(path).parent / node / Path(path).name


def _ask(admin: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_TIMEOUT_S)
        client.connect(str(admin))
        client.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: client.recv(65_536), b"")).decode()


def _servers(statistics: str) -> tuple[str, ...]:
    """Addresses of the canary's own servers that pass HAProxy's health checks."""
    rows: Sequence[dict[str, str]] = list(csv.DictReader(io.StringIO(statistics.lstrip("# "))))
    return tuple(
        row["addr"]
        for row in rows
        if row["pxname"] == f"http-{CANARY}"
        and row["act"] == "1"
        and row["svname"] != "BACKEND"
        and row["status"].startswith("UP")
    )


def older(config: Path, idle_s: float) -> int:
    """How many processes of HAProxy that a reload has replaced may still get requests.

    Such a one closes each connection with its next answer, and idle ones when their time is up. So
    what it has left after that are websockets and requests that are being answered.
    """
    starts = sorted(_starts(config))
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return sum(now - replaced < idle_s for replaced in starts[1:])


def _starts(config: Path) -> Iterator[float]:
    """When each process of HAProxy for one configuration was started, in seconds since boot."""
    ticks_per_second = os.sysconf("SC_CLK_TCK")
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.fsencode(config) in (entry / "cmdline").read_bytes().split(b"\0"):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    yield int(fields[19]) / ticks_per_second  # proc(5): starttime
            except OSError:
                continue

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from cluster import split
from cluster.split import CANARY, MAP, Share

_TIMEOUT_S: Final = 5.0
_ANSWER_S: Final = 30.0


class Told(NamedTuple):
    """One HAProxy: the share that it knows, the canary's servers that are up, and how many of its
    older processes still have connections.
    """

    share: Share | None
    servers: tuple[str, ...]
    older: int


def tell(share: Share, node: str) -> Told:
    """Tell this node's HAProxy; runs on that node."""
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
    return Told(known, servers, max(0, _processes(config) - 1))


async def tell_all(share: Share) -> list[Told]:
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
        ).remote(share, node)
        for node in others
    ]
    here = await asyncio.to_thread(tell, share, own)
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


def _processes(config: Path) -> int:
    """How many processes of HAProxy there are for one configuration."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            found += os.fsencode(config) in words
    return found

"""TCP ports: which are free, and which ones an instance should use."""

from __future__ import annotations

import socket

from cluster.errors import Exit, StartError

# Below the range from which systems give out ports by themselves.
_BLOCKS_FIRST = 21_000
_BLOCK_SIZE = 40
_BLOCKS = 250


def free(port: int, host: str = "") -> bool:
    """Whether a server could listen there now; ``""`` is every interface."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def demand(port: int, host: str, variable: str) -> None:
    """Raise ``StartError`` when ``port``, which the operator chose by ``variable``, is taken."""
    if not free(port, host):
        raise StartError(
            f"Port {port} is in use: stop what listens there, or set {variable}", Exit.PORT
        )


def choose(preferred: int, host: str = "") -> int:
    """``preferred`` if it is free, else one that is."""
    if free(preferred, host):
        return preferred
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def chosen_or_free(chosen: int | None, usual: int, host: str, variable: str) -> int:
    """The port that the operator chose, which must be free, or ``usual`` or another free one."""
    if chosen is None:
        return choose(usual, host)
    demand(chosen, host, f"KONTOR_{variable}")
    return chosen


def block(instance: str) -> range:
    """A range of free ports for the instance's replicas, the same at each start if possible."""
    start = int(instance, 16) % _BLOCKS
    for step in range(_BLOCKS):
        first = _BLOCKS_FIRST + (start + step) % _BLOCKS * _BLOCK_SIZE
        ports = range(first, first + _BLOCK_SIZE)
        if all(free(port) for port in ports):
            return ports
    raise StartError("No range of free ports for the replicas", Exit.PORT)

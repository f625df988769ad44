"""TCP ports: which are free, and which ones an instance should use.

Between looking whether a port is free and listening there seconds pass, in which another platform
may look, too. So a platform claims a port before it looks, by a lock on a file that all platforms
of the machine know; the lock goes with the process.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from cluster.errors import Exit, StartError

# Below the range from which systems give out ports by themselves.
_BLOCKS_FIRST = 21_000
_BLOCK_SIZE = 40
_BLOCKS = 250
_TRIES = 100


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


class Claims:
    """The ports of one platform, from when it chooses them until it ends."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / "kontor-ports"
        self._locks: dict[int, int] = {}

    def demand(self, port: int, host: str, variable: str) -> None:
        """Raise ``StartError`` when ``port``, which was chosen by ``variable``, is taken."""
        if not self._take(port, host):
            raise StartError(
                f"Port {port} is in use: stop what listens there, or set {variable}", Exit.PORT
            )

    def choose(self, preferred: int, host: str = "") -> int:
        """``preferred`` if it is free, else one that is."""
        if self._take(preferred, host):
            return preferred
        for _ in range(_TRIES):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind((host, 0))
                port: int = probe.getsockname()[1]
            if self._take(port, host):
                return port
        raise StartError("No free port", Exit.PORT)

    def chosen_or_free(self, chosen: int | None, usual: int, host: str, variable: str) -> int:
        """The port that the operator chose, which must be free, or ``usual`` or another one."""
        if chosen is None:
            return self.choose(usual, host)
        self.demand(chosen, host, f"KONTOR_{variable}")
        return chosen

    def block(self, instance: str) -> range:
        """A range of free ports for the instance's replicas, the same at each start if possible.

        Its first port stands for all of it.
        """
        start = int(instance, 16) % _BLOCKS
        for step in range(_BLOCKS):
            first = _BLOCKS_FIRST + (start + step) % _BLOCKS * _BLOCK_SIZE
            ports = range(first, first + _BLOCK_SIZE)
            if self._lock(first):
                if all(free(port) for port in ports):
                    return ports
                self._unlock(first)
        raise StartError("No range of free ports for the replicas", Exit.PORT)

    def release(self) -> None:
        """Let others have the ports."""
        for port in list(self._locks):
            self._unlock(port)

    def _take(self, port: int, host: str) -> bool:
        held = port in self._locks
        if not self._lock(port):
            return False
        if free(port, host):
            return True
        if not held:
            self._unlock(port)
        return False

    def _lock(self, port: int) -> bool:
        """Claim a port; ``True`` too where nothing can be written, for then all is as without."""
        if port in self._locks:
            return True
        try:
            self._folder.mkdir(exist_ok=True)
            with suppress(PermissionError):
                self._folder.chmod(0o1777)
            path = self._folder / str(port)
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._locks[port] = lock
        return True

    def _unlock(self, port: int) -> None:
        lock = self._locks.pop(port, None)
        if lock is not None:
            os.close(lock)

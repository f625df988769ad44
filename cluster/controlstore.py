"""Ray's control store, kept alive: its process is started again when it dies.

The control store (``gcs_server``) knows nodes, actors and names. Everything goes on while it is
away, but nobody notices deaths and nothing can be started, and Ray itself never starts it again.
It keeps its state in RocksDB in a folder of the platform (see ``docs/decisions/0016``), so the
new process, started with the same arguments in the same environment, goes on where the old one
was.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import psutil

from cluster.processes import spawn

_NAME: Final = "gcs_server"
_PORT: Final = "--gcs_server_port="


class ControlStore:
    """The control store that listens at ``address`` on this machine."""

    def __init__(
        self, process: psutil.Process, address: str, log: Path, *, fate_sharing: bool
    ) -> None:
        port = address.rpartition(":")[2]
        self._arguments = [
            f"{_PORT}{port}" if part.startswith(_PORT) else part for part in process.cmdline()
        ]
        self._environment = process.environ()
        self._process = process
        self._child: subprocess.Popen[bytes] | None = None
        self._log = log
        self._fate_sharing = fate_sharing

    @property
    def pid(self) -> int:
        """Process id of the latest one."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process runs."""
        if self._child is not None:
            return self._child.poll() is None
        with contextlib.suppress(psutil.NoSuchProcess):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False

    def restart(self) -> None:
        """Start it again; whoever was connected finds it by itself."""
        with self._log.open("ab") as log:
            if self._fate_sharing:
                self._child = spawn(
                    self._arguments,
                    output=log,
                    death_signal=signal.SIGKILL,
                    environment=self._environment,
                )
            else:
                self._child = subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        self._process = psutil.Process(self._child.pid)


def find(address: str, log: Path, *, fate_sharing: bool) -> ControlStore | None:
    """The control store at ``address``, if it is a process of ours here that forgets nothing.

    ``fate_sharing``: it is to end with this process.
    """
    port = int(address.rpartition(":")[2])
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() != _NAME or process.uids().real != os.getuid():
                continue
            listening = process.net_connections(kind="tcp")
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in listening):
                if not _remembers(process):
                    return None
                return ControlStore(process, address, log, fate_sharing=fate_sharing)
    return None


def _remembers(process: psutil.Process) -> bool:
    """Whether its state outlives it: in RocksDB, or in a Redis."""
    in_redis = any(part.startswith("--redis_address=") for part in process.cmdline())
    return in_redis or process.environ().get("RAY_gcs_storage") == "rocksdb"

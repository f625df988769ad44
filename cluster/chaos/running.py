"""Whole platforms started as an operator does, to be broken: ``kontor up`` in a process of its own.

Each lives in a folder and on ports of its own, whatever the environment says, so that it never
meets real data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx
import psutil

from cluster.datafolder import DataFolder
from cluster.errors import Exit, StartError
from cluster.processes import instance_of, leftovers, wait_until
from cluster.servers import embedded_postgres

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 45
COMMAND_TIMEOUT_S = 120


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(data_dir: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the given settings in place of any others."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("KONTOR_", "RAY_")) and key != "PYTHONDONTWRITEBYTECODE"
    }
    return {**own, "KONTOR_DATA_DIR": str(data_dir), "NO_COLOR": "1", **variables}


def kontor(
    *arguments: str, data_dir: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a ``kontor`` command to its end."""
    return subprocess.run(
        [sys.executable, "-c", "from cluster.cli import main; main()", *arguments],
        env=environment(data_dir, variables or {}),
        cwd=data_dir.parent,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )


class Running:
    """One platform under test; with ``demo`` it has the demo's people and a market that lives."""

    def __init__(
        self, data_dir: Path, *, port: int | None = None, demo: bool = False, **variables: str
    ) -> None:
        self._words = ("up",) if demo else ("up", "--no-demo")
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.instance = instance_of(data_dir)
        self._variables = {"KONTOR_PORT": str(self.port), **variables}
        self._output = data_dir.with_suffix(".out")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> str:
        """Everything that ``kontor up`` has said."""
        return self._output.read_text() if self._output.exists() else ""

    def launch(self) -> None:
        """Start it without waiting."""
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from cluster.cli import main; main()", *self._words],
                env=environment(self.data_dir, self._variables),
                cwd=self.data_dir.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it says that it is up."""
        process = self._process
        assert process is not None
        wait_until(
            lambda: "Ctrl-C stops it" in self.output or process.poll() is not None,
            timeout_s=START_TIMEOUT_S,
            pause_s=0.1,
        )
        assert "Ctrl-C stops it" in self.output, self.output

    def start(self) -> float:
        """Start it and wait; the seconds that it took."""
        started = time.monotonic()
        self.launch()
        self.wait()
        return time.monotonic() - started

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send ``how`` and wait for the end; the exit code."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(how)
        code = self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        return code

    def ready(self) -> bool:
        """Whether ``/readyz`` says yes."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    @property
    def pid(self) -> int:
        """The process below which all of it runs."""
        assert self._process is not None
        return self._process.pid

    def database_url(self) -> str:
        """The URL of its database."""
        return embedded_postgres(DataFolder(self.data_dir)).url()

    def children(self, mark: str) -> list[psutil.Process]:
        """Living processes whose name or title has ``mark`` in it; cheaper than ``processes``."""
        if self._process is None:
            return []
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    title = " ".join([process.name(), *process.cmdline()[:1]])
                    if mark in title and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def kill(self) -> None:
        """Kill all of its processes at once, the first of them first: it would start others."""
        victims = self.processes()
        if self._process is not None:
            self._process.kill()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        self.stop()
        psutil.wait_procs(victims, timeout=5)

    def processes(self) -> list[psutil.Process]:
        """Living processes of the platform, itself included."""
        found = {process.pid: process for process in leftovers(self.instance)}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if f"kontor-{self.instance}" in " ".join(process.cmdline()):
                    found[process.pid] = process
        living = []
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
        return living


@contextmanager
def a_platform(folder: Path, **variables: str) -> Iterator[Running]:
    """A platform in ``folder`` as long as the block lasts; raises ``StartError``.

    A SIGTERM ends the block, so that the platform is not left behind; call it in the main thread.
    """
    running = Running(folder / "var", port=None, demo=False, **variables)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        try:
            running.start()
        except AssertionError:
            last = running.output.strip().rpartition("\n")[2]
            raise StartError(f"The platform does not start: {last}", Exit.RAY) from None
        yield running
    finally:
        running.stop()
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)

"""Processes of an instance: how they are started, marked, found again and ended.

Every process of a platform carries ``KONTOR_INSTANCE`` in its environment. A platform that was
killed leaves nothing that the next start would not find by that mark, or by the files of the
instance that it holds open (Ray's workers overwrite their environment with their title).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil

from cluster.errors import Exit, StartError

MARKER: Final = "KONTOR_INSTANCE"
_CHILD: Final = Path(__file__).with_name("child.py")
_UNPRIVILEGED: Final = ("postgres", "nobody")


def instance_of(data_dir: Path) -> str:
    """The mark of the platform that lives in ``data_dir``: short, stable, unique on a machine."""
    return hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:10]


def runtime_path(instance: str) -> Path:
    """Where an instance has its sockets, whose paths may not pass 107 bytes."""
    return Path("/tmp") / f"kontor-{instance}"


def runtime_folder(instance: str) -> Path:
    """Make the folder for sockets if it is missing.

    Only its owner may enter. One that belongs to somebody else is refused.
    """
    folder = runtime_path(instance)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StartError(f"{folder} belongs to somebody else: remove it", Exit.PERMISSION)
    return folder


def unprivileged_user() -> tuple[int, int]:
    """``(uid, gid)`` to run servers as that refuse root, or ``(-1, -1)`` when not root."""
    if os.geteuid() != 0:
        return -1, -1
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    return 65534, 65534


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    death_signal: signal.Signals,
    user: tuple[int, int] = (-1, -1),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server that gets ``death_signal`` when the thread that called this ends.

    ``output`` takes both its streams. Call it from a thread that lives as long as the platform.
    """
    arguments = [str(part) for part in command]
    prefix = [sys.executable, "-I", "-S", str(_CHILD), str(os.getpid())]
    return subprocess.Popen(
        [*prefix, str(int(death_signal)), str(user[0]), str(user[1]), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        cwd=folder,
        start_new_session=True,
    )


def run_as(
    command: Sequence[str | Path], *, user: tuple[int, int], stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a short command as ``user`` and wait for its end; its output is captured."""
    arguments = [str(part) for part in command]
    prefix = [sys.executable, "-I", "-S", str(_CHILD), "0", "9", str(user[0]), str(user[1])]
    return subprocess.run(
        [*prefix, *arguments], input=stdin, capture_output=True, text=True, check=False
    )


def leftovers(instance: str) -> list[psutil.Process]:
    """Processes of ``instance`` other than this one and its ancestors, newest first."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    folder = f"{runtime_path(instance)}/"
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid in own:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if _belongs(process, instance, folder):
                found.append(process)
    return sorted(found, key=lambda process: process.pid, reverse=True)


def _belongs(process: psutil.Process, instance: str, folder: str) -> bool:
    """By the mark, or, for Ray's workers, by the log files of the instance that they hold open."""
    if process.environ().get(MARKER) == instance:
        return True
    if not process.name().startswith("ray"):
        return False
    return any(item.path.startswith(folder) for item in process.open_files())


def end_all(processes: Iterable[psutil.Process], *, grace_s: float = 10.0) -> None:
    """Kill each, but let a Postgres end its sessions and write, for up to ``grace_s``.

    Nobody else has anything to lose: what counts is in the database.
    """
    victims = list(processes)
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            is_database = process.name() == "postgres"
            process.send_signal(signal.SIGINT if is_database else signal.SIGKILL)
    _, alive = psutil.wait_procs(victims, timeout=grace_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


def end(process: subprocess.Popen[bytes], how: signal.Signals, *, grace_s: float) -> None:
    """End a child with signal ``how``, with SIGKILL after ``grace_s``, and reap it."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(5)


def wait_until(ready: Callable[[], bool], *, timeout_s: float, pause_s: float = 0.01) -> bool:
    """Poll ``ready`` until it is true; ``False`` when ``timeout_s`` have passed."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
    return True

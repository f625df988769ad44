"""Base backups of a running platform's Postgres, and its write-ahead log as it is written.

Postgres's own tools do the work; this module calls them, names what they make and says what went
wrong. Reads the database; writes the folder of backups only.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from cluster.backup_folder import FORMAT, Backup, BackupFolder, Manifest, read_manifest
from cluster.backup_verify import verify
from cluster.embedded import postgres_binaries
from cluster.errors import Exit, StartError
from cluster.processes import spawn
from persistence.database import DatabaseUnavailable, connection

NAME: Final = "kontor-backup"
"""How the receiver of the write-ahead log shows in ``pg_stat_replication``."""
_PERCENT: Final = re.compile(r"(\d+)/(\d+) kB")
_AGAIN_S: Final = 0.2
_SEGMENT_GONE: Final = "has already been removed"

Tell = Callable[[str, int, int], None]
"""Progress: what is being done, how much of it, of how much (0 when nobody knows)."""


class Source(msgspec.Struct, frozen=True):
    """The database to back up. ``embedded`` when it is the platform's own."""

    url: str
    embedded: bool


def make(source: Source, folder: BackupFolder, tell: Tell) -> Backup:
    """Take a base backup, verify it, name it. Raises ``StartError``; leaves nothing half-made."""
    facts = _facts(source.url)
    _check_same(folder, facts["system"])
    with folder.making() as (partial, final):
        started = datetime.now(UTC)
        data = partial / "data"
        _base_backup(source, data, tell)
        log = facts["major"] == own_major()
        verify(data, lambda done, total: tell("Verifying", done, total), log=log)
        first, last = _wal_range(data)
        manifest = Manifest(
            format=FORMAT,
            kontor=importlib.metadata.version("kontor"),
            schema=facts["schema"],
            postgres=facts["version"],
            system=facts["system"],
            embedded=source.embedded,
            started=started,
            ended=datetime.now(UTC),
            bytes=sum(path.stat().st_size for path in data.rglob("*") if path.is_file()),
            wal_first=first,
            wal_last=last,
            journal=facts["journal"],
        )
        return folder.finish(partial, final, manifest)


def _check_same(folder: BackupFolder, system: str) -> None:
    """Backups of two databases in one folder would mix up their logs."""
    others = folder.paths() if folder.path.is_dir() else []
    if others and read_manifest(others[-1]).system != system:
        raise StartError(
            f"{folder.path} holds backups of another database: choose another folder", Exit.BACKUP
        )


def ask(url: str, work: Callable[[Any], Any]) -> Any:
    """Put a question to the database; an outage is a ``StartError``."""

    async def run() -> Any:
        async with connection(url, name="kontor backup") as conn:
            return await work(conn)

    try:
        return asyncio.run(run())
    except DatabaseUnavailable as error:
        raise StartError(str(error), Exit.DATABASE) from None
    except asyncpg.UndefinedTableError:
        raise StartError(
            "The database has no schema yet: run `kontor migrate`", Exit.SCHEMA
        ) from None
    except asyncpg.PostgresError as error:
        raise StartError(f"Postgres refuses: {error}", Exit.DATABASE) from None


def _facts(url: str) -> dict[str, Any]:
    async def work(conn: Any) -> dict[str, Any]:
        version = await conn.fetchval("SHOW server_version")
        rows = await conn.fetch("SELECT stream, max(seq) AS seq FROM journal GROUP BY stream")
        return {
            "version": version,
            "major": int(re.split(r"\D", version)[0]),
            "system": str(await conn.fetchval("SELECT system_identifier FROM pg_control_system()")),
            "schema": await conn.fetchval("SELECT max(version) FROM schema_migrations"),
            "journal": {row["stream"]: row["seq"] for row in rows},
        }

    facts: dict[str, Any] = ask(url, work)
    return facts


def own_major() -> int:
    """The major version of the Postgres that comes with this package."""
    done = subprocess.run(
        [postgres_binaries() / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    return int(re.findall(r"\d+", done.stdout)[0])


def named(url: str, name: str) -> str:
    """A URL for Postgres's own tools that shows them under ``name``."""
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, f"application_name={name}") if part)
    return urlunsplit(parts._replace(query=query))


def _base_backup(source: Source, data: Path, tell: Tell) -> None:
    """Run ``pg_basebackup``; with the log up to its end, so that it stands by itself."""
    process = subprocess.Popen(
        [
            postgres_binaries() / "pg_basebackup",
            *("--pgdata", data, "--wal-method", "stream", "--checkpoint", "fast"),
            *("--progress", "--no-password", "--manifest-checksums", "SHA256"),
            *("--label", "kontor backup", "--dbname", named(source.url, "kontor-base")),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    last = ""
    try:
        for line in process.stderr:  # carriage returns end lines, too
            found = _PERCENT.search(line)
            if found is not None:
                tell("Copying", int(found[1]) * 1024, int(found[2]) * 1024)
            elif line.strip():
                last = line.strip()
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
        process.stderr.close()
    if process.returncode:
        raise StartError(f"No backup was made: {_reason(last, source)}", Exit.BACKUP)


def _reason(line: str, source: Source) -> str:
    text = line.removeprefix("pg_basebackup: ").removeprefix("error: ")
    refused = "no pg_hba.conf entry for replication" in text or "permission denied" in text
    if refused and not source.embedded:
        return (
            f"{text} - the user of KONTOR_DATABASE_URL needs REPLICATION and a line for"
            " replication in pg_hba.conf, or use your own Postgres's tools"
        )
    return text


def _wal_range(data: Path) -> tuple[str, str]:
    """The first segment that a backup needs, and its own last one."""
    names = sorted(path.name for path in (data / "pg_wal").iterdir() if len(path.name) == 24)
    if not names:
        raise StartError(f"The backup {data.parent} has no write-ahead log", Exit.BACKUP)
    return names[0], names[-1]


# -- following ----------------------------------------------------------------------------


class Lag(msgspec.Struct, frozen=True):
    """How far the receiver is: bytes that the server has written and the folder has not."""

    connected: bool
    position: str
    behind_bytes: int


class Follower:
    """Receives the write-ahead log into a run of its own, for as long as it is open.

    ``synchronous`` has Postgres acknowledge no commit that is not in the folder, too.
    """

    def __init__(self, source: Source, run: Path, *, synchronous: bool = False) -> None:
        self._source = source
        self._run = run
        self._synchronous = synchronous
        self._stop = threading.Event()
        self._failed: StartError | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._receive, name="receive wal", daemon=True)

    def start(self, *, timeout_s: float = 30.0) -> None:
        """Begin, and return once the log is streaming."""
        for path in (self._run.parent.parent, self._run.parent, self._run):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()
        for _ in range(int(timeout_s / 0.1)):
            self.check()
            if self.lag().connected:
                return
            self._stop.wait(0.1)
        self.stop()
        raise StartError("Postgres does not send its log", Exit.BACKUP)

    def hold_commits(self) -> None:
        """From now on nothing is acknowledged that the folder does not have."""
        if self._synchronous:
            _set_standby(self._source.url, f'"{NAME}"')

    def check(self) -> None:
        """Raise what has ended the receiver for good."""
        if self._failed is not None:
            raise self._failed

    def lag(self) -> Lag:
        """How far the folder is behind the server."""

        async def work(conn: Any) -> Any:
            return await conn.fetchrow(
                """
                SELECT flush_lsn::text AS at,
                       pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn)::bigint AS behind
                FROM pg_stat_replication
                WHERE application_name = $1 AND state = 'streaming' AND flush_lsn IS NOT NULL""",
                NAME,
            )

        try:
            row = ask(self._source.url, work)
        except StartError:
            row = None
        return Lag(False, "", 0) if row is None else Lag(True, row["at"], max(0, row["behind"]))

    def stop(self) -> None:
        """End; commits wait for the folder no longer."""
        if self._synchronous:
            with contextlib.suppress(StartError):
                _set_standby(self._source.url, "")
        self._stop.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
        if self._thread.ident is not None:
            self._thread.join(20)

    def discard(self) -> None:
        """End, and keep nothing: there is no base backup that the log belongs to."""
        self.stop()
        shutil.rmtree(self._run, ignore_errors=True)

    def _receive(self) -> None:
        """Run the receiver, again and again when Postgres was away."""
        errors = self._run / "errors.txt"
        while not self._stop.is_set():
            with errors.open("wb") as output:
                # It must not outlive this process, or Postgres would go on waiting for nobody.
                self._process = spawn(
                    [
                        postgres_binaries() / "pg_receivewal",
                        *("--directory", self._run, "--synchronous", "--no-loop"),
                        *("--no-password", "--status-interval", "1"),
                        *("--dbname", named(self._source.url, NAME)),
                    ],
                    output=output,
                    death_signal=signal.SIGTERM,
                )
            self._process.wait()
            text = errors.read_text(errors="replace")
            errors.unlink()
            if _SEGMENT_GONE in text:
                self._failed = StartError(
                    "Postgres has not kept the log from where it was interrupted: what came before"
                    " is safe; run the command again, which takes a new base backup",
                    Exit.BACKUP,
                )
                return
            if "No space left" in text:
                self._failed = StartError(f"{self._run} is full", Exit.BACKUP)
                return
            self._stop.wait(_AGAIN_S)


@contextmanager
def following(source: Source, run: Path, *, synchronous: bool) -> Iterator[Follower]:
    """A follower that has begun, and is ended whatever happens."""
    follower = Follower(source, run, synchronous=synchronous)
    try:
        follower.start()
        yield follower
    finally:
        follower.stop()
        with contextlib.suppress(OSError):
            run.rmdir()  # only if nothing came


def release(source: Source) -> None:
    """Let commits go that wait for a follower which is not there any more."""
    _set_standby(source.url, "")


def _set_standby(url: str, names: str) -> None:
    async def work(conn: Any) -> None:
        if names:
            await conn.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        else:
            await conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await conn.execute("SELECT pg_reload_conf()")

    ask(url, work)

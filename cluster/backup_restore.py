"""From a backup to a data folder that ``kontor up`` starts from.

The folder is made under another name, recovered, brought up to the present schema, proven, and
renamed at last. Reads the backup; never writes to a folder that has anything in it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from cluster import books
from cluster.backup import Tell, own_major
from cluster.backup_folder import Backup, BackupFolder
from cluster.backup_verify import verify
from cluster.datafolder import DataFolder
from cluster.embedded import EmbeddedPostgres
from cluster.errors import Exit, StartError
from cluster.processes import instance_of, runtime_folder
from cluster.servers import bring_up_to_date, embedded_postgres
from persistence.database import open_pool
from persistence.migrate import available

_ARCHIVE: Final = "wal.restore"
_LAST: Final = re.compile(r"last completed transaction was at log time (\S+ \S+)")
_STANDBY: Final = re.compile(r"^\s*synchronous_standby_names\s*=.*\n?", re.MULTILINE)


class Restored(msgspec.Struct):
    """What a restore came to; ``journal`` are positions by stream."""

    data_dir: str
    backup: str
    reaches: datetime | None
    journal: dict[str, int]
    checked: bool
    report: books.Report | None = None


def restore(
    folder: BackupFolder, target: Path, tell: Tell, *, until: datetime | None, check: bool
) -> Restored:
    """Restore the newest backup that fits, as far as its log goes or to ``until``.

    Raises ``StartError`` and leaves nothing behind when it cannot.
    """
    target = target.resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StartError(f"{target} is not empty: restore into a new folder", Exit.BACKUP)
    backup = folder.choose(until)
    _check_fits(backup)
    verify(backup.data, lambda done, total: tell("Verifying", done, total))
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        restored = _restore(backup, folder, partial, tell, until, check)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    restored.data_dir = str(target)
    return restored


def _check_fits(backup: Backup) -> None:
    manifest = backup.manifest
    if not manifest.embedded:
        raise StartError(
            f"{backup.path} is of a Postgres of your own: {backup.data} is an ordinary data"
            " directory for that",
            Exit.BACKUP,
        )
    if manifest.schema > max(migration.version for migration in available()):
        raise StartError(
            f"{backup.path} has schema version {manifest.schema}, newer than this code: run the"
            f" newer version of Kontor ({manifest.kontor})",
            Exit.SCHEMA,
        )
    if int(manifest.postgres.partition(".")[0]) != own_major():
        raise StartError(
            f"{backup.path} is of Postgres {manifest.postgres}; this version of Kontor brings"
            f" Postgres {own_major()}",
            Exit.BACKUP,
        )


def _restore(
    backup: Backup,
    folder: BackupFolder,
    path: Path,
    tell: Tell,
    until: datetime | None,
    check: bool,
) -> Restored:
    data = DataFolder(path)
    data.claim()
    sockets = runtime_folder(instance_of(data.path))
    server = embedded_postgres(data)
    try:
        server.adopt(lambda place: _copy(backup, place, tell))
        segments = folder.segments()
        archive = data.postgres / _ARCHIVE
        archive.mkdir()
        for name, segment in segments.items():
            (archive / name).symlink_to(segment)
        _recover(server, data, tell, until)
        shutil.rmtree(archive)
        tell("Proving", 0, 0)
        bring_up_to_date(server.url())
        return asyncio.run(_prove(server.url(), backup, check=check))
    finally:
        server.stop()
        shutil.rmtree(sockets, ignore_errors=True)
        data.release()


def _copy(backup: Backup, place: Path, tell: Tell) -> None:
    done = 0

    def copy(source: str, destination: str) -> None:
        nonlocal done
        shutil.copyfile(source, destination)
        done += Path(destination).stat().st_size
        tell("Copying", done, backup.manifest.bytes)

    try:
        shutil.copytree(backup.data, place, copy_function=copy)
    except shutil.Error as error:
        raise StartError(
            f"The backup cannot be copied: {error.args[0][0][2]}", Exit.BACKUP
        ) from None
    place.chmod(0o700)
    # Commits must not wait for a receiver that belongs to the platform that was.
    settings = place / "postgresql.auto.conf"
    settings.write_text(_STANDBY.sub("", settings.read_text()))


def _recover(
    server: EmbeddedPostgres, data: DataFolder, tell: Tell, until: datetime | None
) -> None:
    """Have Postgres replay its log, to a new timeline."""
    # Without hot standby it is ready when recovery has ended, and not before.
    settings = {"restore_command": f"cp ../{_ARCHIVE}/%f %p", "hot_standby": "off"}
    if until is not None:
        settings["recovery_target_time"] = until.astimezone(UTC).isoformat(" ")
        settings["recovery_target_action"] = "promote"
    tell("Replaying", 0, 0)
    try:
        server.recover(settings, lambda: time.sleep(0.05))
    except StartError:
        text = (data.logs / "postgres.log").read_text(errors="replace")
        raise StartError(_why(text, until), Exit.BACKUP) from None


def _why(text: str, until: datetime | None) -> str:
    if until is not None and "before configured recovery target was reached" in text:
        last = _LAST.findall(text)
        known = f": its last one is of {last[-1][:19]} UTC" if last else ""
        return (
            f"The backup has no transaction of {until:%Y-%m-%d %H:%M:%S %Z} or later{known};"
            " without --until it is restored as far as it goes"
        )
    fatal = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line]
    reason = (fatal or text.splitlines() or ["no reason is known"])[-1]
    return f"Postgres cannot recover from the backup: {reason}"


async def _prove(url: str, backup: Backup, *, check: bool) -> Restored:
    pool = await open_pool(url, name="kontor restore", size_max=2)
    try:
        rows = await pool.fetch("SELECT stream, max(seq) AS seq FROM journal GROUP BY stream")
        at = await pool.fetchval("SELECT max(at) FROM journal")
        report = await books.check(pool) if check else None
    finally:
        await pool.close()
    journal = {row["stream"]: row["seq"] for row in rows}
    for stream, seq in backup.manifest.journal.items():
        if journal.get(stream, 0) < seq:
            raise StartError(
                f"{stream} ends at {journal.get(stream, 0)}, but the backup had it at {seq}",
                Exit.BACKUP,
            )
    return Restored("", str(backup.path), at, journal, check, report)

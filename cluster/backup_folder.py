"""A folder of backups: what is in it, which of them to restore, which are not needed any more.

    20261121T124500Z/          one base backup, whole and verified
        manifest.json          what it is
        data/                  an ordinary Postgres data directory
    20261121T130000Z.partial/  one that is being made, or was broken off
    wal/20261121T124500Z/      write-ahead log as one run of ``--follow`` received it

Touches this folder only.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from cluster.errors import Exit, StartError

FORMAT: Final = 1
"""Layout of a backup. Raise it when older code could not restore it."""
PARTIAL: Final = ".partial"
SEGMENT_BYTES: Final = 16 * 1024 * 1024
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_NAME: Final = re.compile(r"\d{8}T\d{6}Z")
_SEGMENT: Final = re.compile(r"([0-9A-F]{24})(\.partial)?")
_HISTORY: Final = re.compile(r"[0-9A-F]{8}\.history")


class Manifest(msgspec.Struct, kw_only=True):
    """What one backup is. ``journal`` are positions by stream that it reaches at the least."""

    format: int
    kontor: str
    schema: int
    postgres: str
    system: str
    embedded: bool
    started: datetime
    ended: datetime
    bytes: int
    wal_first: str
    wal_last: str
    journal: dict[str, int]
    secret: str = "not in the backup"


class Backup(msgspec.Struct):
    """One complete backup on disk."""

    path: Path
    manifest: Manifest

    @property
    def data(self) -> Path:
        """The Postgres data directory in it."""
        return self.path / "data"


class BackupFolder:
    """A folder of backups, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.wal = self.path / "wal"

    @contextmanager
    def making(self) -> Iterator[tuple[Path, Path]]:
        """The path of a new backup while it is made, and the one that it is to have.

        One at a time. What an earlier, killed run has left half-made is removed; so is this one
        when it is not finished with ``finish``.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(
                f"{self.path} cannot be written: {error.strerror}", Exit.BACKUP
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise StartError(
                f"Another backup into {self.path} is being made", Exit.DATA_LOCKED
            ) from None
        try:
            for left in self.path.glob(f"*{PARTIAL}"):
                shutil.rmtree(left)
            final = self.path / datetime.now(UTC).strftime(_STAMP)
            partial = final.with_name(final.name + PARTIAL)
            partial.mkdir(mode=0o700)
            try:
                yield partial, final
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        finally:
            os.close(handle)

    def finish(self, partial: Path, final: Path, manifest: Manifest) -> Backup:
        """Give a backup its manifest and its name: from now on it counts."""
        if final.exists():
            raise StartError(f"There is a backup {final} already", Exit.BACKUP)
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        with (partial / "manifest.json").open("wb") as file:
            file.write(content + b"\n")
            file.flush()
            os.fsync(file.fileno())
        _sync(partial)
        partial.rename(final)
        _sync(self.path)
        return Backup(final, manifest)

    def paths(self) -> list[Path]:
        """All complete backups, oldest first."""
        if not self.path.is_dir():
            raise StartError(f"There is no folder {self.path}", Exit.BACKUP)
        return [path for path in sorted(self.path.iterdir()) if _NAME.fullmatch(path.name)]

    def choose(self, until: datetime | None = None) -> Backup:
        """The newest backup, or the newest that had ended at ``until``.

        Raises ``StartError`` when there is none, or it says of itself what cannot be used.
        """
        if (self.path / "manifest.json").is_file():
            return Backup(self.path, read_manifest(self.path))
        found = self.paths()
        if not found:
            half = len(list(self.path.glob(f"*{PARTIAL}")))
            rest = f", only {half} that was broken off" if half else ""
            raise StartError(f"{self.path} holds no complete backup{rest}", Exit.BACKUP)
        for path in reversed(found):
            backup = Backup(path, read_manifest(path))
            if until is None or backup.manifest.ended <= until:
                return backup
        first = f"{backup.manifest.ended:%Y-%m-%d %H:%M:%S}"
        raise StartError(
            f"The oldest backup in {self.path} ended at {first} UTC, after the time asked for",
            Exit.BACKUP,
        )

    def segments(self) -> dict[str, Path]:
        """The write-ahead log of all runs by the name that Postgres asks for.

        The segment that a run was writing when it ended counts where no other run has it whole.
        """
        base = self.wal if self.wal.is_dir() else self.path.parent / "wal"
        whole: dict[str, Path] = {}
        begun: dict[str, Path] = {}
        for run in sorted(base.iterdir()) if base.is_dir() else []:
            for path in run.iterdir():
                segment = _SEGMENT.fullmatch(path.name)
                if segment is not None and path.stat().st_size == SEGMENT_BYTES:
                    (begun if segment[2] else whole)[segment[1]] = path
                elif _HISTORY.fullmatch(path.name):
                    whole[path.name] = path
        return {**begun, **whole}

    def prune(self, keep: int) -> list[Path]:
        """Remove all but the newest ``keep`` backups, and the log that only the others need."""
        found = self.paths()
        removed, kept = found[:-keep], found[-keep:]
        for path in removed:
            # By its name it does not count any more, even if removing it is broken off.
            gone = path.with_name(path.name + PARTIAL)
            path.rename(gone)
            shutil.rmtree(gone)
        first = min(read_manifest(path).wal_first[8:] for path in kept)
        for run in self.wal.iterdir() if self.wal.is_dir() else []:
            for path in run.iterdir():
                segment = _SEGMENT.fullmatch(path.name)
                if segment is not None and segment[1][8:] < first:
                    path.unlink()
            if not any(run.iterdir()):
                run.rmdir()
        return removed


def read_manifest(path: Path) -> Manifest:
    """The manifest of one backup; raises ``StartError`` when this code cannot use it."""
    file = path / "manifest.json"
    try:
        content = file.read_bytes()
        version = msgspec.json.decode(content, type=dict).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise StartError(
                f"The backup {path} was made by a newer version of Kontor: restore it with that",
                Exit.DATA_NEWER,
            )
        return msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartError(f"{file} cannot be read: {reason}", Exit.BACKUP) from None


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Whether a base backup is what Postgres sent, file by file.

What ``pg_verifybackup`` does: that program of the bundled wheel does not start, so its checks are
made here. Reads the backup; ``pg_waldump`` reads its log.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from cluster.embedded import postgres_binaries
from cluster.errors import Exit, StartError

_MANIFEST: Final = "backup_manifest"
_CHUNK: Final = 1 << 20
# Written by the receiver and not by the server, so not in the manifest.
_LATER: Final = frozenset({_MANIFEST, "postgresql.auto.conf", "tablespace_map"})


class _File(msgspec.Struct, rename="pascal"):
    path: str
    size: int
    checksum: str = ""
    checksum_algorithm: str = msgspec.field(default="", name="Checksum-Algorithm")


class _Range(msgspec.Struct):
    timeline: int = msgspec.field(name="Timeline")
    start: str = msgspec.field(name="Start-LSN")
    end: str = msgspec.field(name="End-LSN")


class _Manifest(msgspec.Struct):
    files: list[_File] = msgspec.field(name="Files")
    ranges: list[_Range] = msgspec.field(name="WAL-Ranges")
    checksum: str = msgspec.field(name="Manifest-Checksum")


def verify(data: Path, progress: Callable[[int, int], None], *, log: bool = True) -> None:
    """Hold each file against its size and SHA-256, and with ``log`` read the log that belongs.

    Raises ``StartError`` naming the first thing that is wrong. ``progress`` is told bytes done
    and in all.
    """
    manifest = _manifest(data)
    total = sum(file.size for file in manifest.files)
    done = 0
    for file in manifest.files:
        _check(data, file)
        done += file.size
        progress(done, total)
    known = {file.path for file in manifest.files}
    for path in data.rglob("*"):
        name = path.relative_to(data).as_posix()
        if path.is_file() and name not in known | _LATER and not name.startswith("pg_wal/"):
            raise _damaged(data, f"{name} does not belong to it")
    for part in manifest.ranges if log else []:
        _read_log(data, part)


def _damaged(data: Path, reason: str) -> StartError:
    return StartError(f"The backup {data.parent} is damaged: {reason}", Exit.BACKUP)


def _manifest(data: Path) -> _Manifest:
    try:
        content = (data / _MANIFEST).read_bytes()
        manifest = msgspec.json.decode(content, type=_Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise _damaged(data, f"{_MANIFEST}: {reason}") from None
    # Its last line is the checksum of all before.
    covered = content[: content.rfind(b'"Manifest-Checksum"')]
    if hashlib.sha256(covered).hexdigest() != manifest.checksum:
        raise _damaged(data, f"{_MANIFEST} was changed")
    return manifest


def _check(data: Path, file: _File) -> None:
    path = data / file.path
    if not path.is_file():
        raise _damaged(data, f"{file.path} is missing")
    size = path.stat().st_size
    if size != file.size:
        raise _damaged(data, f"{file.path} has {size:,} bytes and not {file.size:,}")
    if file.checksum_algorithm != "SHA256":
        raise _damaged(data, f"{file.path} has no SHA-256")
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != file.checksum:
        raise _damaged(data, f"{file.path} was changed")


def _read_log(data: Path, part: _Range) -> None:
    done = subprocess.run(
        [
            postgres_binaries() / "pg_waldump",
            *("--quiet", f"--path={data / 'pg_wal'}", f"--timeline={part.timeline}"),
            *(f"--start={part.start}", f"--end={part.end}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        line = done.stderr.strip().partition("\n")[0].removeprefix("pg_waldump: error: ")
        raise _damaged(data, line or f"its log cannot be read ({done.returncode})")

"""The data folder of a platform: its version, its lock, its secret, its sub-folders.

A folder belongs to one running platform at a time, and to code of its own version or newer.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final

from cluster.errors import Exit, StartError

VERSION: Final = 1
"""Layout of the data folder. Raise it when older code must not touch it any more."""
_SECRET_BYTES: Final = 32


class DataFolder:
    """``var/`` of a platform. Use ``claim`` before anything in it is read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "log"
        self.postgres = self.path / "postgres"
        self.redis = self.path / "redis"
        self.mail = self.path / "mail"
        self._lock: int | None = None

    def claim(self) -> None:
        """Take the folder for this process, making it if need be; held until the process ends.

        Raises ``StartError`` when another platform runs in it or newer code has written it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StartError(
                f"A platform is already running in {self.path}: stop it, or set KONTOR_DATA_DIR",
                Exit.DATA_LOCKED,
            ) from None
        self._lock = lock
        self._check_version()
        self.logs.mkdir(exist_ok=True)

    def release(self) -> None:
        """Let another process claim the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _check_version(self) -> None:
        mark = self.path / "KONTOR_VERSION"
        if not mark.exists():
            mark.write_text(f"{VERSION}\n", encoding="ascii")
            return
        text = mark.read_text(encoding="ascii", errors="replace").strip()
        if not text.isdecimal() or int(text) > VERSION:
            raise StartError(
                f"The data folder {self.path} is of version {text[:20]!r}, newer than this code "
                f"({VERSION}): run the newer version of Kontor",
                Exit.DATA_NEWER,
            )

    def secret(self) -> bytes:
        """The key that development mode signs with: made once, readable by its owner alone."""
        path = self.path / "secret"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return bytes.fromhex(path.read_text(encoding="ascii"))
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return bytes.fromhex(path.read_text(encoding="ascii"))

"""Where a running platform is: the file by which other ``kontor`` commands find it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import psutil

from cluster.errors import Exit, StartError
from cluster.settings import Settings

_FILE = "platform.json"


class Addresses(msgspec.Struct, frozen=True):
    """Addresses of one platform; nothing secret in them."""

    pid: int
    url: str
    ray: str
    dashboard: str
    metrics: str
    mail_port: int = 0

    def write(self, data_dir: Path) -> None:
        """Leave word in the data folder."""
        text = json.dumps(msgspec.to_builtins(self), indent=2)
        (data_dir / _FILE).write_text(text + "\n", encoding="utf-8")


def forget(data_dir: Path) -> None:
    """Take the word back."""
    (data_dir / _FILE).unlink(missing_ok=True)


def read(settings: Settings) -> Addresses:
    """The platform that runs in the data folder; raises ``StartError`` when none does."""
    path = settings.data_dir / _FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Addresses)
    except (OSError, msgspec.MsgspecError):
        found = None
    if found is None or not psutil.pid_exists(found.pid) or found.pid == os.getpid():
        raise StartError(f"No platform is running in {settings.data_dir}", Exit.NOT_RUNNING)
    return found

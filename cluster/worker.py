"""What each of Ray's worker processes does before it is given anything to do.

Ray calls ``prepare`` (``worker_process_setup_hook``). A worker that still waits a moment later is
one in reserve for a partition (see ``actors.durable.hosts``): it loads what a partition needs, so
that the customers of one that dies need not wait for that.
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Final

from actors.durable import reserve
from cluster import logs

_IDLE: Final = b"ray::IDLE"
_WAIT_S: Final = 1.0
_MODULES: Final = ("actors.accounts", "actors.books")


def prepare() -> None:
    """Set up logs; load the partitions' code later, if there is nothing else to do."""
    logs.configure_worker()
    timer = threading.Timer(_WAIT_S, _load)
    timer.daemon = True
    timer.start()


def _load() -> None:
    if Path("/proc/self/cmdline").read_bytes().startswith(_IDLE):
        for module in _MODULES:
            importlib.import_module(module)
        reserve.waited = True

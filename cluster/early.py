"""What a start would import later, imported by a thread while the start waits for its servers.

It is a head start only: one that cannot be imported is left to whoever needs it, who says why.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Final

_MODULES: Final = ("ray", "fastapi", "unittest.mock")
"""Ray, and what Serve brings along that takes longest."""


@contextmanager
def imports() -> Iterator[None]:
    """Import beside the block; the variables that Ray reads at its import must be set.

    It is over at the end of the block: Ray forks, which no other thread should import beside.
    """
    thread = Thread(target=_import, name="early imports")
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _import() -> None:
    for name in _MODULES:
        with suppress(ImportError):
            importlib.import_module(name)

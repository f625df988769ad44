"""The engine as others use it: the compiled form where there is one of this source, else the plain.

Both are ``domain/trading/book.py`` and what it imports, give the same results and the same bytes;
see docs/decisions/0019. ``COMPILED`` says which one runs.
"""

from __future__ import annotations

from hashlib import sha256
from pkgutil import get_data
from typing import TYPE_CHECKING, Final

MODULES: Final = ("values", "cells", "levels", "judging", "auction", "resting", "book")
"""The modules that are compiled, each after those that it imports."""

INSTEAD: Final = {"cells": "cells_packed"}
"""What is compiled in the place of a module: the same in a form that only pays when compiled."""

PACKAGE: Final = "kontor_engine"
"""What the compiled form is called."""


def source_hash() -> str:
    """A hash of the modules as they are in this installation."""
    digest = sha256()
    for name in (*MODULES, *INSTEAD.values()):
        digest.update(get_data("domain.trading", f"{name}.py") or b"")
    return digest.hexdigest()


if TYPE_CHECKING:
    from domain.trading.book import Book

    COMPILED: bool
else:
    try:
        from kontor_engine import SOURCE
        from kontor_engine.book import Book

        COMPILED = source_hash() == SOURCE
    except ImportError:
        COMPILED = False
    if not COMPILED:
        from domain.trading.book import Book

__all__ = ["COMPILED", "INSTEAD", "MODULES", "PACKAGE", "Book", "source_hash"]

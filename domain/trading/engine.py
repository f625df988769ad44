"""The engine as others use it: the compiled form where there is one, else the plain one.

Both are the same source (``domain/trading/book.py``), give the same results and the same bytes;
see docs/decisions/0019. ``COMPILED`` says which one runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from domain.trading.state import BookPhase, BookState

if TYPE_CHECKING:
    from domain.trading.book import Book

    COMPILED: bool
else:
    try:
        from kontor_engine.book import Book

        COMPILED = True
    except ImportError:
        from domain.trading.book import Book

        COMPILED = False

__all__ = ["COMPILED", "Book", "BookPhase", "BookState", "decode_hook", "encode_hook"]


def encode_hook(value: Any) -> Any:
    """msgspec's ``enc_hook``: a book is stored as its state."""
    if isinstance(value, Book):
        return value.snapshot()
    raise NotImplementedError(f"{type(value).__name__} cannot be stored")


def decode_hook(kind: type, value: Any) -> Any:
    """msgspec's ``dec_hook``: a state becomes a book again."""
    if kind is Book:
        return Book.restore(msgspec.convert(value, BookState))
    raise NotImplementedError(f"{kind.__name__} cannot be read")

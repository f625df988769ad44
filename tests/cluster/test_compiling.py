"""The compiled engine: the same as the plain one, and never needed."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.flows import Shape, lively
from cluster.compiling import compile_engine
from domain.orders import OrderStatus
from domain.trading import engine
from tests.domain.trading.test_twin import seasoned

COUNT = 2_000

_PLAY = """
import sys
from domain.orders import OrderStatus
from domain.trading import engine
from tests.cluster.test_compiling import play
sys.stdout.write(f"{engine.COMPILED} {play(engine.Book()).hex()}")
"""


def play(book: engine.Book) -> bytes:
    """The digest of a book after orders of every kind."""
    for message in islice(seasoned(lively(1, Shape(resting=60)).messages, 7), COUNT):
        if message.order is not None:
            book.place(*message.order)
        else:
            for quantity in (1 << 64, -1 << 64):
                assert book.amend(message.number, quantity)[0] == OrderStatus.REJECTED
            book.cancel(message.number)
    book.drain()
    return book.digest()


def test_both_forms_give_the_same_bytes(tmp_path: Path) -> None:
    told: list[str] = []
    expected = f"{compile_engine(told.append, tmp_path)} {play(engine.Book()).hex()}"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-c", _PLAY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected
    assert len(told) == 1


def test_without_a_compiler_the_plain_form_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    told: list[str] = []
    assert not compile_engine(told.append, tmp_path)
    assert "plain form" in told[0]
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_form_of_another_source_is_not_used(tmp_path: Path) -> None:
    package = tmp_path / engine.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text('SOURCE = "other"\n')
    (package / "book.py").write_text("Book = None\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-c", _PLAY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"False {play(engine.Book()).hex()}"

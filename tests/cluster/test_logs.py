"""Logs: one JSON object a line, and nothing secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cluster.logs import configure


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(folder: Path) -> list[dict[str, object]]:
    text = (folder / "platform.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_is_json_with_time_level_and_process(tmp_path: Path) -> None:
    configure(tmp_path, "info", console=False)
    structlog.get_logger("kontor.test").info("happened", count=3)
    logging.getLogger("somewhere").warning("said %s", "so")
    first, second = lines(tmp_path)
    assert (first["event"], first["count"], first["level"]) == ("happened", 3, "info")
    assert str(first["timestamp"]).endswith("Z")
    assert isinstance(first["pid"], int)
    assert (second["event"], second["logger"]) == ("said so", "somewhere")


def test_secrets_are_left_out(tmp_path: Path) -> None:
    configure(tmp_path, "info", console=False)
    structlog.get_logger("kontor.test").info(
        "login",
        password="hidden-1",
        session_token="hidden-2",
        cookie="hidden-3",
        database="postgresql://kontor:hidden-4@host/db",
    )
    text = (tmp_path / "platform.log").read_text(encoding="utf-8")
    assert "hidden" not in text
    assert "postgresql://kontor:[secret]@host/db" in text


def test_a_traceback_shows_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.StringIO()
    monkeypatch.setattr(sys, "stderr", console)
    configure(tmp_path, "info", console=True)
    password = "hidden" + "-value"
    try:
        raise ValueError(f"{len(password)} characters")
    except ValueError:
        structlog.get_logger("kontor.test").exception("failed")
    assert "ValueError" in console.getvalue()
    assert "hidden-value" not in console.getvalue()
    assert "hidden-value" not in (tmp_path / "platform.log").read_text(encoding="utf-8")

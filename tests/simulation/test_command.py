"""``kontor simulate`` as an operator uses it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.durable.scribe import Scribe
from cluster.cli import main as _main  # noqa: F401 - registers the commands
from cluster.cli.main import app
from cluster.errors import Exit
from cluster.simulation import runner
from tests.mutation import Mutation

BROKEN = Mutation("timers are not set", Scribe, "statements", "if turn.timers:", "if False:")


def called(*arguments: str) -> Any:
    """The result of a call of the command."""
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_it_tells_what_was_done() -> None:
    result = called("--seeds", "2", "--ops", "60", "--seed", "7", "--workers", "1", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert (summary["first"], summary["seeds"], summary["ops"]) == (7, 2, 120)
    assert summary["failures"] == []


def test_it_says_so_in_words() -> None:
    result = called("--seeds", "1", "--ops", "40", "--workers", "1")
    assert result.exit_code == 0
    assert "40 operations" in result.output
    assert "0 seeds failed" in result.output


def test_a_broken_promise_is_named_and_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    BROKEN.apply(monkeypatch)
    monkeypatch.setattr(runner, "SHRINK_S", 2.0)
    result = called("--seeds", "1", "--ops", "200", "--seed", "2", "--workers", "1")
    assert result.exit_code == Exit.PROOF_FAILED
    assert "seed 2 of 200 operations at commit" in result.output
    assert "breaks promise 12: a hold stays for ever" in result.output
    assert "reserve" in result.output

"""Several Ray nodes on one machine: partitions outlive loss, frost and leave of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.nodes

TIMEOUT_S = 240


def played(program: str, found: Path, *arguments: str) -> dict[str, Any]:
    """What a program beside this one has seen."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("KONTOR_", "RAY_")) and key != "PYTHONDONTWRITEBYTECODE"
    }
    done = subprocess.run(
        [sys.executable, "-m", f"tests.cluster.{program}", *arguments, str(found)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    seen: dict[str, Any] = json.loads(found.read_text())
    return seen


def test_partitions_survive_their_nodes(database_url: str, tmp_path: Path) -> None:
    seen = played("several_nodes", tmp_path / "seen.json", database_url)
    told = json.dumps(seen, indent=1)
    assert seen["nodes_used"] == 3, told
    # kill -9 of a raylet and all its workers
    assert seen["lost_pause_s"] < 30, told
    assert seen["lost_left"] == 0
    # a node that is frozen, replaced, and thaws
    assert seen["frozen_pause_s"] < 45, told
    assert seen["thawed_ends_after_s"] < 30, told
    # a node that joins is used; a node that is emptied has nothing left
    assert seen["new_node_used_after_s"] < 60, told
    assert "head" in seen["head_refused"]
    assert seen["drain_steps"][-1] == 0
    assert seen["drained_left"] == 0
    assert seen["drain_pause_s"] < 5, told
    # and through all of it, nothing was lost or doubled
    assert seen["acknowledged"] > 100
    assert seen["missing"] == 0
    assert seen["books"], seen["findings"]


def test_serve_leaves_a_node_that_is_told_to_leave(tmp_path: Path) -> None:
    seen = played("serve_on_two_nodes", tmp_path / "seen.json")
    told = json.dumps(seen, indent=1)
    assert seen["errors"] == [], told
    assert seen["answers"] > 100, told
    assert seen["longest_s"] < 5, told
    assert seen["last_answer_there_s"] < seen["gone_after_s"], told
    assert seen["answered_after_it_was_gone"], told

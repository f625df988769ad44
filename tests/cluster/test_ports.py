"""Two platforms that start at the same moment must not choose the same ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import StartError
from cluster.ports import Claims

INSTANCE = "a1b2c3d4e5"

_CLAIM = """
import sys
from pathlib import Path
from cluster.ports import Claims
claims = Claims(Path(sys.argv[1]))
print(claims.choose(int(sys.argv[2])), claims.block(sys.argv[3]).start, flush=True)
sys.stdin.read()
"""


def unused() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_one_has_chosen_another_does_not(tmp_path: Path) -> None:
    usual = unused()
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.choose(usual) == usual
    assert other.choose(usual) != usual
    with pytest.raises(StartError, match=f"Port {usual} is in use"):
        other.demand(usual, "", "KONTOR_PORT")
    first, second = one.block(INSTANCE), other.block(INSTANCE)
    assert not set(first) & set(second)
    one.release()
    assert other.choose(usual) == usual
    third = Claims(tmp_path)
    assert third.block(INSTANCE) == first


def test_a_port_that_somebody_listens_on_is_not_claimed(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        assert Claims(tmp_path).choose(port) != port
    assert Claims(tmp_path).choose(port) == port


def test_one_may_ask_for_its_own_again(tmp_path: Path) -> None:
    claims, port = Claims(tmp_path), unused()
    claims.demand(port, "", "KONTOR_PORT")
    claims.demand(port, "", "KONTOR_PORT")
    assert claims.choose(port) == port


def test_processes_that_start_together_get_ports_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CLAIM, str(tmp_path), str(unused()), INSTANCE]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    chosen = []
    for process in started:
        assert process.stdout is not None
        chosen.append(tuple(map(int, process.stdout.readline().split())))
    for process in started:
        process.communicate()
    assert len({port for port, _ in chosen}) == len({first for _, first in chosen}) == 4
    # With its process a claim ends, however that ended.
    again = Claims(tmp_path)
    assert again.choose(min(port for port, _ in chosen)) == min(port for port, _ in chosen)


def test_without_a_place_for_locks_ports_are_chosen_all_the_same(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    port = unused()
    assert Claims(place).choose(port) == port

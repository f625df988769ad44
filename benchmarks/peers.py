"""pgbench, for what a benchmark is held against: the same Postgres without any Python."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path


def pgbench(binaries: str, arguments: Sequence[str]) -> dict[str, float]:
    """Run a script of prepared statements; transactions a second and their mean in ms."""
    text = _output(binaries, ["-n", "-M", "prepared", *arguments])
    rate = re.search(r"tps = ([0-9.]+)", text)
    latency = re.search(r"latency average = ([0-9.]+)", text)
    if rate is None or latency is None:
        raise RuntimeError(f"pgbench said nothing to measure: {text}")
    return {"per_second": float(rate[1]), "mean_ms": float(latency[1])}


def tpcb_tables(binaries: str, url: str) -> None:
    """The tables of pgbench's own TPC-B, with ten branches."""
    _output(binaries, ["-i", "-q", "-s", "10", url])


def _output(binaries: str, arguments: Sequence[str]) -> str:
    command = [str(Path(binaries) / "pgbench"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

"""Which HAProxy processes that a reload has replaced may still get requests; the rest is Serve's.

The processes here are none of HAProxy's, but named like them: only their names and ages count.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from cluster.front import older
from cluster.processes import wait_until


def test_a_process_that_was_replaced_long_ago_counts_no_more(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    processes: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", "input()", "-f", str(config)], stdin=subprocess.PIPE
            )
        )

    try:
        assert older(config, 60) == 0
        start()
        assert wait_until(lambda: processes[0].poll() is None, timeout_s=30)
        assert older(config, 60) == 0
        time.sleep(0.05)  # the clock of processes counts hundredths of a second
        start()
        start()
        assert wait_until(lambda: older(config, 60) == 2, timeout_s=30, pause_s=0.01)
        assert wait_until(lambda: older(config, 0.1) == 0, timeout_s=30, pause_s=0.01)
        assert older(config, 60) == 2
        processes[-1].kill()
        processes[-1].wait()
        assert older(config, 60) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()

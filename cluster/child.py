"""Starts one embedded server so that it cannot outlive the platform.

Run as a script by ``cluster.processes.spawn`` (``python -I -S child.py ...``), before the server
takes its place by ``exec``. A script rather than a function given to ``subprocess``, because code
between fork and exec is not safe in a process with threads. Standard library only.

It asks the kernel for a signal when the parent dies, and, when told a user, gives up root. It then
keeps one capability, to pass through folders that only root may enter (Postgres refuses to run
as root, but a project may lie in root's home): see ``capabilities(7)``, ambient set.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def give_up_root(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Become ``uid`` and ``gid``; keep the right to pass folders where the system allows it."""
    # Without the second, access(2) would ignore the capability, and initdb asks with access(2).
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    kept = 1 << CAP_DAC_OVERRIDE
    sets = struct.pack("=6I", kept, kept, kept, 0, 0, 0)
    if libc.capset(header, sets) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def main() -> None:
    """Arguments: pid of the parent, signal at its death, uid, gid (-1: stay), then the command."""
    parent, death_signal, uid, gid = (int(text) for text in sys.argv[1:5])
    command = sys.argv[5:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if uid >= 0:
            give_up_root(libc, uid, gid)
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    elif uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if parent and os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

"""How the platform fails to start: one line for the operator and an exit code of its own."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of ``kontor``; 0 is success, 1 a proof that failed, 2 a mistake in the call."""

    PROOF_FAILED = 1
    SETTINGS = 64
    DATA_NEWER = 65
    DATABASE = 66
    REDIS = 67
    RAY = 68
    PORT = 69
    EMBEDDED = 70
    ASSETS = 71
    SCHEMA = 72
    INGRESS = 73
    NOT_RUNNING = 74
    DATA_LOCKED = 75
    BACKUP = 76
    PERMISSION = 77


class StartError(Exception):
    """The platform cannot start or go on. The text is one line; ``code`` is the exit code."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code

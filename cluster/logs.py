"""Logs: JSON lines in ``log/`` of the data folder, readable text on the console, no secrets.

The same set-up serves the platform's own process (``configure``) and Ray's workers
(``configure_worker``, see ``cluster.worker``), which are told where by the environment.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

FOLDER_VARIABLE: Final = "KONTOR_LOG_FOLDER"
LEVEL_VARIABLE: Final = "KONTOR_LOG_LEVEL"
_SIZE_MAX: Final = 64 * 1024 * 1024
_SECRET_KEYS: Final = re.compile(r"passw|secret|token|cookie|authorization|csrf", re.IGNORECASE)
_SECRET_IN_URL: Final = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


def conceal(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out values that are secret by their name, and passwords inside URLs."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key):
            event[key] = "[secret]"
        elif isinstance(value, str) and "://" in value:
            event[key] = _SECRET_IN_URL.sub(r"\1[secret]@", value)
    return event


def configure(folder: Path, level: str, *, console: bool, name: str = "platform") -> None:
    """Send structlog and the standard library's logging to ``folder/name.log``.

    With ``console``, warnings and worse are shown on stderr as well, for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        conceal,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    handlers: list[logging.Handler] = [_file_handler(folder / f"{name}.log", shared)]
    if console:
        handlers.append(_console_handler(sys.stderr, shared))
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "asyncio", "engineio", "socketio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def configure_worker() -> None:
    """Set up logs in a process that Ray started; called by Ray."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is not None:
        level = os.environ.get(LEVEL_VARIABLE, "info")
        configure(Path(folder), level, console=False, name="actors")


def _file_handler(path: Path, shared: list[structlog.typing.Processor]) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _SIZE_MAX:
        path.replace(path.with_suffix(".log.1"))
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _add_process,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    return handler


def _console_handler(stream: TextIO, shared: list[structlog.typing.Processor]) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Never with local variables: they may hold what is secret.
                structlog.dev.ConsoleRenderer(
                    colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
                ),
            ],
        )
    )
    return handler


def _add_process(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["pid"] = os.getpid()
    return event

"""Development's mail server: takes every mail, delivers none, and keeps the latest to be looked at.

It listens on loopback, in a thread of the platform's process. Each mail is a file in the data
folder, which the page ``/dev/mail`` shows.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Final

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from cluster.errors import Exit, StartError

log = structlog.get_logger("kontor.mailserver")

HOST: Final = "127.0.0.1"
KEPT_MAX: Final = 500
SIZE_MAX: Final = 2 * 1024 * 1024
_START_S: Final = 10.0


class Folder:
    """Keeps mails as files whose names are in the order in which they came."""

    def __init__(self, path: Path, kept_max: int = KEPT_MAX) -> None:
        self._path = path
        self._kept_max = kept_max

    async def handle_DATA(  # noqa: N802 - aiosmtpd calls it so
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep a mail, and the latest of the others."""
        assert isinstance(envelope.content, bytes)
        self.keep(envelope.content)
        return "250 Kept for the page /dev/mail"

    def keep(self, content: bytes) -> None:
        """Store a mail; no reader ever sees half of it."""
        self._path.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}"
        draft = self._path / f"{name}.part"
        draft.write_bytes(content)
        os.replace(draft, self._path / f"{name}.eml")
        for old in sorted(self._path.glob("*.eml"))[: -self._kept_max]:
            old.unlink(missing_ok=True)


class DevelopmentMail:
    """The server. ``start`` it, ``stop`` it; ``restart`` after it died."""

    def __init__(self, path: Path, port: int) -> None:
        self.port = port
        self._folder = Folder(path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listening = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen; raises ``StartError``."""
        self._error = None
        self._listening.clear()
        self._thread = threading.Thread(target=self._run, name="mail server", daemon=True)
        self._thread.start()
        if not self._listening.wait(_START_S) or self._error is not None:
            raise StartError(f"The mail server does not start: {self._error}", Exit.PORT)

    def alive(self) -> bool:
        """Whether it listens."""
        return self._thread is not None and self._thread.is_alive()

    def restart(self) -> None:
        """Listen again; raises ``StartError``."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._thread is not None and self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_S)
        self._thread = None

    def _run(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        try:
            server = loop.run_until_complete(
                loop.create_server(lambda: self._session(loop), HOST, self.port)
            )
        except OSError as error:
            self._error = error
            self._listening.set()
            loop.close()
            return
        self._listening.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    def _session(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        return SMTP(self._folder, loop=loop, hostname="localhost", data_size_limit=SIZE_MAX)

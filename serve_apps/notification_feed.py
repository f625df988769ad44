"""New notifications to open pages: each once, in order, without a gap, across breaks.

A page says the last number that it has seen and is sent everything after it from the table; later
ones go the same way. There is one way only: whatever wakes the feed (a page that joins, a message
over Redis, the look every few seconds) leads to the same reading of what follows the number that a
page was sent last. So there is no moment between replay and live at which something could be
lost, or come twice. It rests on numbers that become visible in their order, as
``persistence.notifications`` gives them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec
import structlog

from actors.notifications.announcing import decode_told
from persistence import notifications as store
from persistence.database import OUTAGES
from persistence.notifications import Notification
from persistence.tasks import end_tasks
from serve_apps.services import Services

log = structlog.get_logger("kontor.notifications")

LOOK_EVERY_S: Final = 3.0
ROUND_USERS_MAX: Final = 500
ROUND_ROWS_MAX: Final = 50
"""How much of one person's is read at once; the rest follows in the next round."""
AGAIN_S: Final = 0.5

Send = Callable[[str, Sequence[Notification]], Awaitable[None]]
"""Sends a page what is new for it."""


class Feed:
    """What the pages of one replica have been sent, and the sending of what is missing."""

    def __init__(self, services: Services, send: Send) -> None:
        self._services = services
        self._send = send
        self._sent: dict[int, dict[str, int]] = {}
        self._due: dict[int, None] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        """Send nothing more."""
        await end_tasks(self._tasks)

    async def position(self, user: int, since: int | None) -> int:
        """Where a page goes on that has seen everything up to ``since``; ``None``: from now on."""
        last = (await store.heads(self._services.pool, [user])).get(user, 0)
        return last if since is None else max(0, min(since, last))

    def join(self, page: str, user: int, position: int) -> None:
        """Send the page what follows a position, from now on."""
        self._sent.setdefault(user, {})[page] = position
        self._mark([user])

    def leave(self, page: str, user: int) -> None:
        """The page is gone."""
        pages = self._sent.get(user, {})
        pages.pop(page, None)
        if not pages:
            self._sent.pop(user, None)

    def hear(self, message: bytes) -> None:
        """A message of ``actors.notifications.announcing``."""
        try:
            self._mark(decode_told(message))
        except msgspec.DecodeError as error:
            log.warning("announcement_unreadable", error=str(error))

    def _mark(self, users: Iterable[int]) -> None:
        for user in users:
            if user in self._sent:
                self._due[user] = None
        if self._due:
            self._wake.set()

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            users = [user for user in self._due if user in self._sent][:ROUND_USERS_MAX]
            try:
                if users:
                    await self._round(users)
                else:
                    self._due.clear()
            except OUTAGES as error:
                log.info("notifications_not_read", error=repr(error))
                self._mark(users)
                await asyncio.sleep(AGAIN_S)
            except Exception:
                log.exception("notifications_not_sent")  # the next look finds whose they were
            if not self._due:
                self._wake.clear()

    async def _round(self, users: Sequence[int]) -> None:
        """Read what is missing and send it. Who joins meanwhile is marked for the next round."""
        for user in users:
            del self._due[user]
        since = {user: min(self._sent[user].values()) for user in users}
        found: dict[int, list[Notification]] = defaultdict(list)
        for row in await store.after(self._services.pool, since, ROUND_ROWS_MAX):
            found[row.user].append(row)
        for user, rows in found.items():
            if len(rows) == ROUND_ROWS_MAX:
                self._mark([user])
            for page in list(self._sent.get(user, ())):
                await self._bring(page, user, since[user], rows)

    async def _bring(self, page: str, user: int, since: int, rows: Sequence[Notification]) -> None:
        sent = self._sent.get(user, {}).get(page)
        if sent is None or sent < since:
            return  # gone, or joined while this was read: what it misses may not be among these
        new = [row for row in rows if row.seq > sent]
        if new:
            self._sent[user][page] = new[-1].seq
            await self._send(page, new)

    async def _look(self) -> None:
        """Find what no message has told of."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._sent:
                continue
            try:
                heads = await store.heads(self._services.pool, list(self._sent))
            except OUTAGES as error:
                log.info("notifications_not_looked_for", error=repr(error))
                continue
            self._mark(
                user
                for user, last in heads.items()
                if min(self._sent.get(user, {}).values(), default=last) < last
            )

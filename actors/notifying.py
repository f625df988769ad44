"""The notifier on Ray: the actor that runs it. ``actors.keeping`` sees to it that there is one.

Beside following the journal it hears from Postgres of what others have told people in their own
transactions, and passes on to replicas for whom there is something new.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from actors.keeping import KeptActor
from actors.notifications.announcing import Announcer
from actors.notifier import Notifier
from persistence.database import connection, open_pool
from persistence.notifications import TOLD

NAME: Final = "notifier"
NICENESS: Final = 19
_GATHER_S: Final = 0.02


class NotifierActor(KeptActor):
    """Runs the notifier."""

    def __init__(self, database_url: str, redis_url: str, made: str) -> None:
        self._database_url = database_url
        self._redis_url = redis_url
        self._notifier: Notifier | None = None
        super().__init__(made, NICENESS)

    def __repr__(self) -> str:
        return "NotifierActor(notifications)"

    async def run(self) -> None:
        """Tell people of what is in the journal, and replicas of what others told."""
        announcer = Announcer(self._redis_url)
        pool = await open_pool(self._database_url, name=NAME, size_max=2)
        try:
            self._notifier = Notifier(pool, announcer.announce)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._notifier.run())
                tasks.create_task(relay(self._database_url, announcer))
        finally:
            pool.terminate()
            await announcer.close()

    def condition(self) -> dict[str, Any]:
        """How far the journal has been told."""
        return {"state": "starting"} if self._notifier is None else self._notifier.describe()


async def relay(database_url: str, announcer: Announcer) -> None:
    """Announce whom others have told something, as long as the connection holds."""
    told: set[int] = set()
    woken = asyncio.Event()

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        with contextlib.suppress(ValueError):
            told.add(int(str(payload)))
            woken.set()

    async with connection(database_url, name=NAME) as listening:
        listening.add_termination_listener(lambda _: woken.set())
        await listening.add_listener(TOLD, hear)
        while not listening.is_closed():
            await woken.wait()
            await asyncio.sleep(_GATHER_S)
            woken.clear()
            users = list(told)
            told.clear()
            await announcer.announce(users)
    raise ConnectionError("The connection on which others are heard has ended.")

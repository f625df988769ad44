"""The courier on Ray: the actor that runs it. ``actors.keeping`` sees to it that there is one."""

from __future__ import annotations

import os
import secrets
from random import Random
from typing import Any, Final

from actors.courier import Courier, CourierSettings
from actors.keeping import KeptActor
from actors.letters import writer
from persistence.database import open_pool

NAME: Final = "courier"
NICENESS: Final = 10
"""Mail may wait a moment longer: partitions get the processor first."""


class CourierActor(KeptActor):
    """Runs the courier."""

    def __init__(self, database_url: str, settings: CourierSettings, made: str) -> None:
        self._database_url = database_url
        self._settings = settings
        self._courier: Courier | None = None
        super().__init__(made, NICENESS)

    def __repr__(self) -> str:
        return f"CourierActor({'starting' if self._courier is None else self._courier.load()})"

    async def run(self) -> None:
        """Send."""
        settings = self._settings
        size = settings.connections + 4
        pool = await open_pool(self._database_url, name=NAME, size_max=size)
        try:
            self._courier = Courier(
                pool,
                settings,
                writer(settings.secret_key, settings.public_url),
                Random(secrets.randbits(64)),
                who=f"{os.getpid()}-{secrets.token_hex(4)}",
            )
            await self._courier.run()
        finally:
            pool.terminate()

    def condition(self) -> dict[str, Any]:
        """How far behind mail and webhooks are."""
        return {"state": "starting"} if self._courier is None else self._courier.describe()

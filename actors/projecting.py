"""The projector on Ray: the actor that runs it. ``actors.keeping`` sees to it that there is one."""

from __future__ import annotations

from typing import Any, Final

from actors.keeping import KeptActor
from actors.projector import Projector
from persistence.database import open_pool

NAME: Final = "projector"
NICENESS: Final = 10
"""Under full load its lag grows, and shrinks again later: partitions get the processor first."""


class ProjectorActor(KeptActor):
    """Runs the projector."""

    def __init__(self, database_url: str, made: str) -> None:
        self._database_url = database_url
        self._projector: Projector | None = None
        super().__init__(made, NICENESS)

    def __repr__(self) -> str:
        return "ProjectorActor(history)"

    async def run(self) -> None:
        """Project."""
        pool = await open_pool(self._database_url, name=NAME, size_max=2)
        try:
            self._projector = Projector(pool)
            await self._projector.run()
        finally:
            pool.terminate()

    def condition(self) -> dict[str, Any]:
        """How far history has been written."""
        return {"state": "starting"} if self._projector is None else self._projector.describe()

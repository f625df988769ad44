"""Which partition an entity lives in.

The slot of a key never changes; which stream owns a slot is in Postgres, and read again when a
partition answers ``Moved``.
"""

from __future__ import annotations

from zlib import crc32

from persistence.database import Pool
from persistence.journal import SLOTS, slot_map


def slot_of(key: str) -> int:
    """The slot of an entity's key: CRC-32 modulo 4,096, fixed for ever."""
    return crc32(key.encode()) % SLOTS


class SlotMap:
    """A cached copy of who owns each slot of one kind."""

    def __init__(self, pool: Pool, kind: str) -> None:
        self._pool = pool
        self._kind = kind
        self.owners: list[str] = []

    async def load(self) -> None:
        """Read the map as it is now."""
        owners = await slot_map(self._pool, self._kind)
        if len(owners) != SLOTS:
            raise LookupError(f"The slots of {self._kind} are not given out yet.")
        self.owners = owners

    def owner(self, key: str) -> str:
        """The stream that hosts the entity."""
        return self.owners[crc32(key.encode()) % SLOTS]

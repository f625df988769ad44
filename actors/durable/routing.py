"""Which partition an entity lives in.

The slot of a key never changes, but that a key may get one to itself; which stream owns a slot is
in Postgres, and read again when a partition answers ``Moved``.
"""

from __future__ import annotations

from typing import Final, Protocol
from zlib import crc32

from actors.durable.channel import Channel, Endpoint, NoAnswer
from persistence.database import OUTAGES, Pool
from persistence.journal import SLOTS, endpoint_of, private_owners, slot_map

REQUEST_TIMEOUT_S: Final = 10.0


def slot_of(key: str) -> int:
    """The slot of a key's hash: CRC-32 modulo 4,096, fixed for ever."""
    return crc32(key.encode()) % SLOTS


class Router(Protocol):
    """Says where an entity lives, as far as is known."""

    def owner(self, key: str, kind: str = "") -> str | None:
        """The stream that hosts the entity, of the router's own kind unless ``kind`` says so.

        ``None`` while nothing is known of that kind.
        """

    async def load(self) -> None:
        """Learn how things are now; raises one of ``OUTAGES`` when that is not possible."""


class SlotMap:
    """A cached copy of who owns each slot of one kind."""

    def __init__(self, pool: Pool, kind: str) -> None:
        self._pool = pool
        self._kind = kind
        self.owners: list[str] = []
        self.private: dict[str, str] = {}

    async def load(self) -> None:
        """Read the map as it is now."""
        owners = await slot_map(self._pool, self._kind)
        if len(owners) != SLOTS:
            raise LookupError(f"The slots of {self._kind} are not given out yet.")
        self.private = await private_owners(self._pool, self._kind)
        self.owners = owners

    def owner(self, key: str) -> str:
        """The stream that hosts the entity."""
        if self.private and key in self.private:
            return self.private[key]
        return self.owners[crc32(key.encode()) % SLOTS]


class SlotMaps:
    """Slot maps of all kinds that a partition of one kind sends to, each read when needed."""

    def __init__(self, pool: Pool, kind: str) -> None:
        self._pool = pool
        self._own = SlotMap(pool, kind)
        self._others: dict[str, SlotMap] = {}

    def owner(self, key: str, kind: str = "") -> str | None:
        """See ``Router``."""
        if not kind:
            return self._own.owner(key)
        slots = self._others.get(kind)
        if slots is None:
            slots = self._others[kind] = SlotMap(self._pool, kind)
        return slots.owner(key) if slots.owners else None

    async def load(self) -> None:
        """Read all maps that somebody has asked for as they are now."""
        await self._own.load()
        for slots in self._others.values():
            await slots.load()


def channel_to(pool: Pool, stream: str) -> Channel:
    """A channel to whoever owns the stream."""

    async def lookup() -> Endpoint:
        try:
            endpoint = await endpoint_of(pool, stream)
        except OUTAGES as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        if endpoint is None:
            raise NoAnswer(f"{stream} has no owner")
        return Endpoint(*endpoint)

    return Channel(lookup)

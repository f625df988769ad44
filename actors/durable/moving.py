"""How slots leave a partition, and how they come to one.

The wish stands in Postgres; this fulfils it, a batch of slots at a time. Slots that are *leaving*
take no new commands: these are parked, while messages are taken as before, until nothing that
their entities have sent is on its way any more. Then they are *released* in one transaction, and
the parked commands are told that their entities have moved. The new owner *adopts* what was
handed over, as the first thing of a turn.

Whoever dies at any moment leaves either the old owner or a handover behind, never neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from actors.durable.items import Item, Request
from actors.durable.records import Adopted, Codec, Moving, Released, Split
from actors.durable.routing import slot_of
from actors.durable.turn import Workspace
from persistence.database import OUTAGES
from persistence.journal import Fenced, Journal, Look, Statement
from persistence.turns import adoption, splitting

if TYPE_CHECKING:
    from actors.durable.options import Options

log = structlog.get_logger(__name__)

BATCH_MAX: Final = 128


class Mover:
    """What one incarnation of a partition knows and does about the moves of its slots."""

    def __init__(
        self,
        journal: Journal,
        codec: Codec[Any, Any],
        options: Options,
        nudge: Callable[[str], Awaitable[bool]],
    ) -> None:
        self.leaving: set[int] = set()
        self.parked: list[Request] = []
        self.departing: frozenset[int] = frozenset()
        """Slots whose release is being written: nobody is told yet that they have moved."""
        self._journal = journal
        self._codec = codec
        self._options = options
        self._nudge_other = nudge
        self.fenced = False
        """Whether somebody else owns the stream by now."""
        self._to = ""
        self._give_up_at = 0.0
        self._not_before = 0.0
        self._wanted = True
        self._looking = False
        self._look = Look([], [], [])
        self._taken: dict[str, int] = {}

    # -- looking --------------------------------------------------------------------------

    def nudge(self) -> None:
        """Look again at the next opportunity."""
        self._wanted = True

    def looks(self) -> bool:
        """Whether ``look`` should be started now; it counts as started then."""
        if self._looking or not self._wanted or self.leaving:
            return False
        self._wanted, self._looking = False, True
        return True

    async def look(self) -> None:
        """Read what there is to do. A database that is away is asked again later.

        Slots set out only for a partition that is up: their callers would wait for it.
        """
        try:
            await self._journal.check_epoch()
            look = await self._journal.look()
            ready = {to: await self._nudge_other(to) for to in {to: None for _, to in look.leaving}}
            leaving = [(slot, to) for slot, to in look.leaving if ready[to]]
            self._look = Look(leaving, look.splits, look.arrivals)
        except Fenced:
            self.fenced = True
        except OUTAGES as error:
            log.info("wishes are not read", stream=self._journal.stream, error=str(error))
        finally:
            self._looking = False

    # -- leaving --------------------------------------------------------------------------

    def wishes(self, now: float) -> bool:
        """Whether slots are to go, and none are under way."""
        return bool(self._look.leaving) and not self.leaving and now >= self._not_before

    def set_out(self, work: Workspace, now: float) -> None:
        """Begin to let a batch of slots go."""
        owned = [(slot, to) for slot, to in self._look.leaving if work.slots[slot]]
        self._look.leaving.clear()
        if owned:
            self._to = owned[0][1]
            batch = [slot for slot, to in owned if to == self._to]
            self.leaving = set(batch[:BATCH_MAX])
            self._give_up_at = now + self._options.leave_timeout_s

    def park(self, items: Iterable[Item]) -> list[Item]:
        """Put commands for leaving slots aside; the other items."""
        others: list[Item] = []
        for item in items:
            if type(item) is Request and item.slot in self.leaving:
                self.parked.append(item)
            else:
                others.append(item)
        return others

    def give_up(self, now: float, *, at_once: bool = False) -> list[Request]:
        """When leaving takes too long, or ``at_once``: all stays, for now; what was parked."""
        if not self.leaving or not (at_once or now >= self._give_up_at):
            return []
        log.info("slots stay for now", stream=self._journal.stream, slots=len(self.leaving))
        parked, self.parked = self.parked, []
        self.leaving = set()
        self._not_before = now + self._options.leave_again_s
        self._wanted = True
        return parked

    def ready(self, work: Workspace) -> bool:
        """Whether the leaving slots have nothing on its way any more."""
        return bool(self.leaving) and not work.on_their_way(self.leaving)

    async def still_wished(self) -> bool:
        """Whether the leaving slots are to go where they set out for, as of now."""
        look = await self._journal.look()
        return self.leaving <= {slot for slot, to in look.leaving if to == self._to}

    def depart(self) -> tuple[str, list[int], list[Request]]:
        """Where the leaving slots go, which they are, and the commands parked for them."""
        going = self._to, sorted(self.leaving), self.parked
        self.departing = frozenset(self.leaving)
        self.leaving, self.parked = set(), []
        return going

    # -- coming ---------------------------------------------------------------------------

    def has_come(self) -> bool:
        """Whether there is something to take in."""
        return bool(self._look.splits or self._look.arrivals)

    def take(self, work: Workspace) -> tuple[list[tuple[str, int]], list[Adopted]]:
        """Keys to be split off their slots, and what was handed over; each only once."""
        splits = [
            (key, slot)
            for key, slot in self._look.splits
            if work.slots[slot_of(key)]
            and slot_of(key) not in self.leaving
            and key not in work.partition.private
        ]
        arrivals = []
        for arrival in self._look.arrivals:
            # What was read before the turn that took it in was written comes twice.
            if arrival.seq > self._taken.get(arrival.origin, 0):
                self._taken[arrival.origin] = arrival.seq
                parcel = self._codec.decode_parcel(arrival.parcel)
                arrivals.append(Adopted(arrival.origin, arrival.seq, arrival.slots, parcel))
        self._look.splits.clear()
        self._look.arrivals.clear()
        return splits, arrivals


def arrivals(journal: Journal, moved: Sequence[Moving]) -> list[Statement]:
    """The rows of a turn that takes slots in or splits them."""
    adopted = [(moving.origin, moving.seq) for moving in moved if type(moving) is Adopted]
    splits = [(moving.key, moving.slot) for moving in moved if type(moving) is Split]
    assert not any(type(moving) is Released for moving in moved)
    statements = []
    if adopted:
        statements.append(adoption(adopted))
    if splits:
        statements.append(splitting(journal.kind, journal.stream, splits))
    return statements

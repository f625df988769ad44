"""The memory of a partition: entities, books, slots, and what is on its way.

How it changes by itself is here: what happened, happens again in a replay; slots come and go;
what is idle is packed, and dropped in the end. What should happen is decided in ``turn``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, Final

import msgspec

from actors.durable.items import Batch, Entity, Turn
from actors.durable.records import (
    Adopted,
    Codec,
    Parcel,
    PartitionState,
    Released,
    Sent,
    Split,
    TurnRecord,
    Verdict,
)
from actors.durable.routing import slot_of
from domain.durable import Decision, Machine
from persistence.journal import SLOTS, SLOTS_MAX

RECENT_MAX: Final = 50_000
ENTITY_BYTES: Final = 2_000
"""What an entity in use is taken to cost in memory."""
PACKED_BYTES: Final = 250
"""What one that is packed costs, beside its encoded state."""
PACK_MAX: Final = 20_000
"""So many are packed at a time, lest others wait."""
MOVED: Final = "moved"
"""The ledger account of the house that balances what entities take along to other streams."""


class Imbalance(Exception):
    """The books of a partition do not sum to zero: the turn must not be written."""


class Seen(msgspec.Struct):
    """A command decided lately: its first answer, or who waits for it; the era it was in.

    Who waits leads back to the partition, and so to this: the collector must see it, or all that a
    partition had in memory stays when it ends in the middle, as many do in simulated worlds.
    """

    fingerprint: bytes
    reply: Any
    era: int
    waiting: list[tuple[Batch, int]] | None = None


class Memory:
    """Everything of a partition that a crash takes away."""

    def __init__(
        self,
        machine: Machine[Any],
        codec: Codec[Any, Any],
        remembers: Callable[[Any], bool],
    ) -> None:
        self.machine = machine
        self.codec = codec
        self.remembers = remembers
        self.slots = bytearray(SLOTS_MAX)
        self.entities: dict[str, Entity] = {}
        self.partition: PartitionState[Any] = PartitionState()
        self.packed: dict[int, dict[str, bytes]] = {}
        """By slot and key, the encoded states of entities that nobody has asked for lately."""
        self.packed_bytes = 0
        self.recent: dict[bytes, Seen] = {}
        self.round = 1
        self.era = 1
        self.life = secrets.token_hex(8)
        """Another text for each time that a memory is read back, of this or another partition: an
        epoch comes again where a database is restored to an earlier moment."""
        self.changes = 0
        """How often an entity has come into memory, or changed there."""
        self._away: dict[str, int] = {}
        """How many messages are on their way to an entity of this kind."""

    def slot(self, key: str) -> int:
        """The slot of a key: of its hash, unless it has one to itself."""
        private = self.partition.private
        return private[key] if private and key in private else slot_of(key)

    def owns(self, key: str) -> bool:
        """Whether the entity lives here."""
        return bool(self.slots[self.slot(key)])

    def private_keys(self) -> list[str]:
        """Keys that live here in slots of their own."""
        private = self.partition.private.items()
        return sorted(key for key, slot in private if self.slots[slot])

    def admit(self, key: str, state: Any) -> None:
        """Take an entity into memory."""
        self.changes += 1
        self.entities[key] = Entity(state, self.slot(key), False, self.round, None, self.changes)

    def resume(self, partition: PartitionState[Any]) -> None:
        """Begin with the state of a checkpoint."""
        self.partition = partition
        for sent in partition.outbox.values():
            if not sent.kind:
                self._away[sent.destination] = self._away.get(sent.destination, 0) + 1

    # -- on their way ---------------------------------------------------------------------

    def _depart(self, sent: Sent[Any]) -> None:
        self.partition.sent_seq = sent.seq
        self.partition.outbox[sent.seq] = sent
        if not sent.kind:
            self._away[sent.destination] = self._away.get(sent.destination, 0) + 1

    def _arrived(self, seq: int) -> Sent[Any] | None:
        sent = self.partition.outbox.pop(seq, None)
        if sent is not None and not sent.kind:
            left = self._away[sent.destination] - 1
            if left:
                self._away[sent.destination] = left
            else:
                del self._away[sent.destination]
        return sent

    # -- slots ----------------------------------------------------------------------------

    def split(self, turn: Turn, key: str, slot: int) -> None:
        """Give a key, which is in memory, a slot to itself."""
        split = Split(key, slot, dict(self.machine.balances(self.entities[key].state)))
        turn.record.moved.append(split)
        turn.size += 1
        self.slots[slot] = 1
        self._split(split)

    def adopt(self, turn: Turn, adopted: Adopted) -> None:
        """Take slots that another stream has released."""
        turn.record.moved.append(adopted)
        turn.size += 1
        turn.at = max(turn.at, adopted.parcel.at)
        for slot in adopted.slots:
            self.slots[slot] = 1
        self._adopt(adopted)

    def release(self, turn: Turn, to: str, slots: Sequence[int]) -> Parcel:
        """Let go of slots whose entities have nothing on its way; what goes along."""
        released = Released(to, list(slots))
        turn.record.moved.append(released)
        turn.size += 1
        partition = self.partition
        going = set(slots)
        parcel = Parcel(
            {slot: partition.slots[slot] for slot in slots if slot in partition.slots},
            # Whoever has the slot of a key's hash must know that the key is not in it.
            {
                key: slot
                for key, slot in partition.private.items()
                if slot in going or slot_of(key) in going
            },
            {origin: dict(inbox) for origin, inbox in partition.inbox.items() if inbox},
            dict(partition.lows),
            turn.at,
        )
        self._release(released)
        return parcel

    def on_their_way(self, slots: set[int]) -> bool:
        """Whether an entity of these slots waits for the outcome of a message."""
        slot = self.slot
        return any(slot(sent.source) in slots for sent in self.partition.outbox.values())

    def _split(self, split: Split) -> None:
        self.take_totals(self.slot(split.key), split.totals, -1)
        self._privately({split.key: split.slot})
        self.take_totals(split.slot, split.totals, 1)

    def _privately(self, slots: dict[str, int]) -> None:
        self.partition.private.update(slots)
        for key, slot in slots.items():
            # A recovery reads entities before it comes to the row that tells of this.
            if key in self.entities:
                self.entities[key].slot = slot

    def take_totals(self, slot: int, totals: dict[str, int], sign: int = 1) -> None:
        """Count what entities of a slot hold."""
        sums = self.partition.slots.setdefault(slot, {})
        for asset, amount in totals.items():
            sums[asset] = sums.get(asset, 0) + sign * amount

    def _adopt(self, adopted: Adopted) -> None:
        partition, parcel = self.partition, adopted.parcel
        for slot, totals in parcel.totals.items():
            self.take_totals(slot, totals, 1)
            self._carry(totals, 1)
        self._privately(parcel.private)
        for origin, low in parcel.lows.items():
            self._prune(origin, partition.inbox.get(origin, {}), low)
        for origin, outcomes in parcel.inbox.items():
            inbox = partition.inbox.setdefault(origin, {})
            low = partition.lows.get(origin, 0)
            for seq, outcome in outcomes.items():
                if seq >= low:
                    inbox.setdefault(seq, outcome)

    def _release(self, released: Released) -> dict[str, Entity]:
        """Forget what belongs to the slots; the entities that were in memory."""
        partition = self.partition
        going = set(released.slots)
        for slot in released.slots:
            self.slots[slot] = 0
            for key in list(self.packed.get(slot, ())):
                self._unpack(slot, key)
            totals = partition.slots.pop(slot, None)
            if totals is not None:
                self._carry(totals, -1)
        left = {key: entity for key, entity in self.entities.items() if entity.slot in going}
        for key in left:
            del self.entities[key]
        return left

    def _carry(self, totals: dict[str, int], sign: int) -> None:
        """What entities bring along or take with them, balanced by the house."""
        moved = self.partition.house.setdefault(MOVED, {})
        entities = self.partition.entities
        for asset, amount in totals.items():
            entities[asset] = entities.get(asset, 0) + sign * amount
            moved[asset] = moved.get(asset, 0) - sign * amount

    # -- books ----------------------------------------------------------------------------

    def _happened(self, turn: Turn, key: str, entity: Entity, decision: Decision) -> None:
        """Take note of what was applied while it was decided."""
        if entity.before is None:
            entity.before = ({}, decision.due_before)
            turn.touched.append((key, entity))

    def _happen(self, turn: Turn, key: str, entity: Entity, events: Sequence[Any]) -> None:
        """Apply events to an entity and to the house's books."""
        machine, house, state = self.machine, self.partition.house, entity.state
        if entity.before is None:
            entity.before = (machine.balances(state), machine.due(state))
            turn.touched.append((key, entity))
        for event in events:
            machine.apply(state, event)
            for account, asset, amount in machine.house_postings(event):
                sums = house.get(account)
                if sums is None:
                    sums = house[account] = {}
                sums[asset] = sums.get(asset, 0) + amount

    def balance(self, turn: Turn) -> None:
        """Bring the entities' totals up to date and prove that the books sum to zero."""
        totals, slots, machine = self.partition.entities, self.partition.slots, self.machine
        for key, entity in turn.touched:
            assert entity.before is not None
            before, due = entity.before
            entity.before = None
            after = machine.balances(entity.state)
            if after != before:
                sums = slots.get(entity.slot)
                if sums is None:
                    sums = slots[entity.slot] = {}
                for asset, amount in after.items():
                    change = amount - before.get(asset, 0)
                    if change:
                        totals[asset] = totals.get(asset, 0) + change
                        sums[asset] = sums.get(asset, 0) + change
            if (now := machine.due(entity.state)) != due:
                turn.timers.append((key, now))
        wrong = {asset: amount for asset, amount in self.books(totals).items() if amount}
        if wrong:
            raise Imbalance(f"The books do not sum to zero: {wrong}")

    def totals(self, turn: Turn) -> dict[str, int]:
        """What entities hold together, by asset, with what ``turn``, not balanced yet, changed."""
        totals = dict(self.partition.entities)
        for _, entity in turn.touched:
            if entity.before is not None:
                for asset, amount in entity.before[0].items():
                    totals[asset] = totals.get(asset, 0) - amount
                for asset, amount in self.machine.balances(entity.state).items():
                    totals[asset] = totals.get(asset, 0) + amount
        return totals

    def books(self, totals: Mapping[str, int]) -> dict[str, int]:
        """All ledger accounts of the partition together, by asset: zero when they are right.

        ``totals`` is what its entities hold together.
        """
        books = dict(totals)
        for sums in self.partition.house.values():
            for asset, amount in sums.items():
                books[asset] = books.get(asset, 0) + amount
        return books

    # -- replay ---------------------------------------------------------------------------

    def replay(self, record: TurnRecord[Any, Any], at: int) -> dict[str, Entity]:
        """Make a stored turn happen again; its entities are in memory.

        Returns the entities that left with it.
        """
        turn = Turn(at)
        left: dict[str, Entity] = {}
        for moving in record.moved:
            if type(moving) is Adopted:
                self._adopt(moving)
            elif type(moving) is Released:
                left.update(self._release(moving))
            elif type(moving) is Split:
                self._split(moving)
        self._happen_again(turn, record.events)
        for sent in record.sent:
            self._depart(sent)
        for received in record.received:
            inbox = self.partition.inbox.setdefault(received.origin, {})
            self._prune(received.origin, inbox, received.low)
            inbox.update(received.outcomes)
        for seq in record.acknowledged:
            self._arrived(seq)
        self.partition.at = at
        self.balance(turn)
        return left

    def _happen_again(self, turn: Turn, events: Sequence[tuple[str, Any]]) -> None:
        # ``_happen`` for events of many entities, in one piece: a recovery is mostly this loop.
        entities, touched, house = self.entities, turn.touched, self.partition.house
        machine = self.machine
        apply, postings = machine.apply, machine.house_postings
        for key, event in events:
            entity = entities[key]
            state = entity.state
            if entity.before is None:
                entity.before = (machine.balances(state), machine.due(state))
                entity.dirty = True
                touched.append((key, entity))
            apply(state, event)
            for account, asset, amount in postings(event):
                sums = house.get(account)
                if sums is None:
                    sums = house[account] = {}
                sums[asset] = sums.get(asset, 0) + amount

    def _prune(self, origin: str, inbox: dict[int, Verdict], low: int) -> None:
        """Forget what will not come again; a repeat from before must not take that back.

        Oldest first, up to one that may come: what stands behind it is forgotten with it later.
        """
        if low > self.partition.lows.get(origin, 0):
            self.partition.lows[origin] = low
            for seq in list(takewhile(low.__gt__, inbox)):
                del inbox[seq]

    # -- rest -----------------------------------------------------------------------------

    def dirty(self) -> list[tuple[str, int, bytes]]:
        """Key, slot of its hash and encoded state of each entity that changed since last time."""
        changed, encode = [], self.codec.encode
        for key, entity in self.entities.items():
            if entity.dirty:
                shared = entity.slot if entity.slot < SLOTS else slot_of(key)
                changed.append((key, shared, encode(entity.state)))
                entity.dirty = False
        return changed

    def forget(self) -> None:
        """Drop ids that were seen long ago; call it after each checkpoint.

        What was decided before the last one is written. An id that is not must stay, since no
        table knows it.
        """
        self.era += 1
        surplus = len(self.recent) - RECENT_MAX
        if surplus > 0:
            for command_id in list(islice(self.recent, surplus)):
                seen = self.recent[command_id]
                if seen.waiting is None and seen.era < self.era - 1:
                    del self.recent[command_id]

    def rest(self, memory_bytes_max: int) -> None:
        """Begin a new round: entities untouched for two rounds are packed, then dropped.

        Call it at a moment when all that is not ``dirty`` is stored.
        """
        self.round += 1
        idle = [
            key
            for key, entity in self.entities.items()
            if not entity.dirty and entity.used < self.round - 2
        ]
        for key in idle[:PACK_MAX]:
            self._pack(key)
        surplus = len(self.entities) * ENTITY_BYTES + self.packed_bytes - memory_bytes_max
        while surplus > 0 and self.packed:
            slot, states = next(iter(self.packed.items()))
            surplus -= self._unpack(slot, next(iter(states)))[1]
        for key in idle[PACK_MAX:]:
            if surplus <= 0:
                return
            del self.entities[key]
            surplus -= ENTITY_BYTES

    def take(self, key: str) -> bool:
        """Bring an entity back that was packed; whether it was."""
        slot = self.slot(key)
        states = self.packed.get(slot)
        if states is None or key not in states:
            return False
        state, _ = self._unpack(slot, key)
        self.admit(key, self.codec.decode_entity(state))
        return True

    def _pack(self, key: str) -> None:
        entity = self.entities.pop(key)
        state = self.codec.encode(entity.state)
        self.packed.setdefault(entity.slot, {})[key] = state
        self.packed_bytes += len(state) + PACKED_BYTES

    def _unpack(self, slot: int, key: str) -> tuple[bytes, int]:
        states = self.packed[slot]
        state = states.pop(key)
        if not states:
            del self.packed[slot]
        size = len(state) + PACKED_BYTES
        self.packed_bytes -= size
        return state, size

"""One turn: pure decisions over the entities in memory, collected until they are written.

A ``Workspace`` is everything of a partition that lives in memory. ``Turn`` gathers what the
commands, messages and confirmations that arrived together lead to; nothing of it is told to
anyone before the partition has committed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice, takewhile
from typing import Any, Final, final

import msgspec

from actors.durable.records import (
    Adopted,
    Codec,
    Parcel,
    PartitionState,
    Received,
    Released,
    Sent,
    Split,
    TurnRecord,
)
from actors.durable.routing import slot_of
from domain.durable import Decision, Machine, Message, Moved, Rejection, Unavailable
from persistence.journal import SLOTS_MAX

RECENT_MAX: Final = 50_000
ID_REUSED: Final = "id_reused"
MOVED: Final = "moved"
"""The ledger account of the house that balances what entities take along to other streams."""
STALE: Final = Unavailable("stale")
"""Answers a message that is older than what its origin has durably noted."""


class Imbalance(Exception):
    """The books of a partition do not sum to zero: the turn must not be written."""


class Batch:
    """Requests that came together and are answered together, in their order."""

    __slots__ = ("_left", "done", "gone", "replies")

    def __init__(self, size: int, done: Callable[[list[Any]], None]) -> None:
        self.replies: list[Any] = [None] * size
        self.done = done
        self.gone: set[int] = set()
        """Slots of which something in here was already told that it has moved: what comes after
        must not overtake it, even when the slot has come back meanwhile."""
        self._left = size

    def answer(self, index: int, reply: Any) -> None:
        """Fill in one reply; the last one completes the batch."""
        self.replies[index] = reply
        self._left -= 1
        if not self._left:
            self.done(self.replies)


# Made for every command, and never part of a cycle: the collector need not look at them.


@final
class Request(msgspec.Struct, gc=False):
    """A command and where its reply goes."""

    batch: Batch
    index: int
    key: str
    slot: int
    command: Any
    identities: Sequence[Any]


@final
class Incoming(msgspec.Struct, gc=False):
    """A message from another partition and where its outcome goes."""

    batch: Batch
    index: int
    origin: str
    low: int
    message: Sent[Any]


@final
class Confirmed(msgspec.Struct, gc=False):
    """What another partition answered to a message of ours."""

    seq: int
    outcome: Rejection | None


Item = Request | Incoming | Confirmed


class Entity(msgspec.Struct, gc=False):
    """A state in memory; ``dirty`` until a checkpoint has it, ``used`` is the last checkpoint
    round in which it was touched. In an open turn, ``before`` is what it held before, and when
    it was due."""

    state: Any
    slot: int
    dirty: bool = False
    used: int = 0
    before: tuple[dict[str, int], int] | None = None


class _Seen(msgspec.Struct, gc=False):
    """A command decided lately: its first answer, or who waits for it; the round it was in."""

    fingerprint: bytes
    reply: Any
    round: int
    waiting: list[tuple[Batch, int]] | None = None


class Turn:
    """What has been decided and is not written yet.

    ``answers`` are told once it is; ``early`` may be told at once (see ``Decision.durable``).
    ``touched`` are the entities that it changes; ``timers`` are key and new time of those whose
    time has changed.
    """

    __slots__ = (
        "answers",
        "at",
        "early",
        "received",
        "record",
        "remembered",
        "settled",
        "size",
        "timers",
        "touched",
    )

    def __init__(self, at: int) -> None:
        self.at = at
        self.record: TurnRecord[Any, Any] = TurnRecord([], [], [], [])
        self.received: dict[str, Received] = {}
        self.answers: list[tuple[Batch, int, Any]] = []
        self.early: list[tuple[Batch, int, Any]] = []
        self.remembered: list[tuple[bytes, bytes, Any]] = []
        self.settled: list[Sent[Any]] = []
        self.touched: list[tuple[str, Entity]] = []
        self.timers: list[tuple[str, int]] = []
        self.size = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        record = self.record
        return not (
            record.events
            or record.sent
            or self.received
            or record.acknowledged
            or self.remembered
            or record.moved
        )


class Workspace:
    """The memory of a partition, and the rules for changing it."""

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
        self.recent: dict[bytes, _Seen] = {}
        self.round = 1
        self._away: dict[str, int] = {}
        """How many messages are on their way to an entity."""

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
        entity = self.entities[key] = Entity(state, self.slot(key))
        entity.used = self.round

    def resume(self, partition: PartitionState[Any]) -> None:
        """Begin with the state of a checkpoint."""
        self.partition = partition
        for sent in partition.outbox.values():
            self._away[sent.destination] = self._away.get(sent.destination, 0) + 1

    # -- deciding -------------------------------------------------------------------------

    def keys(self, item: Item) -> Iterable[str]:
        """The entities that must be in memory before ``item`` is decided.

        Only those that live here: of others nothing may stay behind, or it would be taken for
        the truth when they come.
        """
        if type(item) is Request:
            if not self.slots[item.slot]:
                return ()
            entities, others = self.entities, self.machine.touches(item.command)
            return [item.key, *[key for key in others if key in entities or self.owns(key)]]
        if type(item) is Incoming:
            key = item.message.destination
            return (key,) if self.owns(key) else ()
        sent = self.partition.outbox.get(item.seq)
        return () if sent is None else (sent.source,)

    def decide(self, turn: Turn, item: Item, known: dict[bytes, tuple[bytes, Any]]) -> None:
        """Decide one item into the turn."""
        turn.size += 1
        if type(item) is Request:
            self._request(turn, item, known)
        elif type(item) is Incoming:
            self._incoming(turn, item)
        else:
            self._confirmed(turn, item)

    def _request(self, turn: Turn, request: Request, known: dict[bytes, tuple[bytes, Any]]) -> None:
        place = (request.batch, request.index)
        if not self.slots[request.slot] or request.slot in request.batch.gone:
            self.turn_away(turn, request)
            return
        if request.identities and self._repeated(turn, request, known):
            return
        entity = self.entities[request.key]
        decision = self.machine.decide(entity.state, request.command, turn.at)
        if type(decision) is Rejection:
            if decision.code == ID_REUSED:
                # The id is another command's, whose answer it stays.
                turn.answers.append((*place, decision))
            else:
                self._answer(turn, place, request.identities, decision)
            return
        if request.identities and decision.reply is None:
            command_id, fingerprint = request.identities[0]
            self.recent[command_id] = _Seen(fingerprint, None, self.round, [place])
        self._carry_out(turn, request.key, entity, decision)
        if decision.reply is not None:
            self._answer(turn, place, request.identities, decision.reply)

    def turn_away(self, turn: Turn, request: Request) -> None:
        """Answer that the entity is not here any more."""
        request.batch.gone.add(request.slot)
        turn.answers.append((request.batch, request.index, Moved(request.slot)))

    def _repeated(
        self, turn: Turn, request: Request, known: dict[bytes, tuple[bytes, Any]]
    ) -> bool:
        """Answer a command that was seen before, or whose parts were; tell whether it was."""
        command_id, fingerprint = request.identities[0]
        seen = self.recent.get(command_id)
        if seen is None and command_id in known:
            seen = _Seen(*known[command_id], self.round)
        if seen is not None:
            place = (request.batch, request.index)
            if seen.fingerprint != fingerprint:
                turn.answers.append((*place, Rejection(ID_REUSED)))
            elif seen.waiting is not None:
                seen.waiting.append(place)
            else:
                turn.answers.append((*place, seen.reply))
            return True
        if len(request.identities) == 1:
            return False
        for part, _ in request.identities[1:]:
            if part in self.recent or part in known:
                place = (request.batch, request.index)
                self._answer(turn, place, request.identities[:1], Rejection(ID_REUSED))
                return True
        return False

    def _answer(
        self, turn: Turn, place: tuple[Batch, int], identities: Sequence[Any], reply: Any
    ) -> None:
        turn.answers.append((*place, reply))
        if identities:
            command_id, fingerprint = identities[0]
            self.recent[command_id] = _Seen(fingerprint, reply, self.round)
            if len(identities) > 1:
                parts = zip(identities[1:], self.machine.results(reply), strict=False)
                for (part, part_fingerprint), result in parts:
                    if type(result) is not Rejection:
                        self.recent[part] = _Seen(part_fingerprint, result, self.round)
            if not self.remembers(reply):
                turn.remembered.append((command_id, fingerprint, reply))

    def _incoming(self, turn: Turn, item: Incoming) -> None:
        message = item.message
        inbox = self.partition.inbox.get(item.origin)
        if inbox is not None and message.seq in inbox:
            turn.answers.append((item.batch, item.index, inbox[message.seq]))
            return
        if message.seq < self.partition.lows.get(item.origin, 0):
            # A repeat that was long on its way, or of a sender that has been replaced: the
            # outcome is durably known at the origin and forgotten here.
            turn.answers.append((item.batch, item.index, STALE))
            return
        slot = self.slot(message.destination)
        if not self.slots[slot] or slot in item.batch.gone:
            item.batch.gone.add(slot)
            turn.answers.append((item.batch, item.index, Moved(slot)))
            return
        entity = self.entities[message.destination]
        decision = self.machine.decide(entity.state, message.body, turn.at)
        outcome = decision if type(decision) is Rejection else None
        if inbox is None:
            inbox = self.partition.inbox[item.origin] = {}
        received = turn.received.get(item.origin)
        if received is None:
            received = turn.received[item.origin] = Received(item.origin, item.low, [])
            turn.record.received.append(received)
            self._prune(item.origin, inbox, item.low)
        received.outcomes.append((message.seq, outcome))
        inbox[message.seq] = outcome
        if type(decision) is Decision:
            self._carry_out(turn, message.destination, entity, decision)
        turn.answers.append((item.batch, item.index, outcome))

    def _confirmed(self, turn: Turn, item: Confirmed) -> None:
        sent = self._arrived(item.seq)
        if sent is None:
            return
        turn.record.acknowledged.append(item.seq)
        turn.settled.append(sent)
        entity = self.entities[sent.source]
        decision = self.machine.acknowledge(entity.state, sent.body, item.outcome, turn.at)
        if decision.durable and decision.answers is not None:
            # Not for a message within a turn: there nothing is written yet.
            self._answer_waiting(turn.early, decision, decision.answers)
        self._carry_out(turn, sent.source, entity, decision)

    def _carry_out(self, turn: Turn, key: str, entity: Entity, decision: Decision) -> None:
        """Apply a decision; messages to entities in memory here are part of the same turn."""
        local: list[tuple[str, Message]] = []
        self._enact(turn, key, entity, decision, local)
        for sender, message in local:  # which grows meanwhile
            receiver = self.entities[message.to]
            reaction = self.machine.decide(receiver.state, message.body, turn.at)
            outcome = reaction if type(reaction) is Rejection else None
            if type(reaction) is Decision:
                self._enact(turn, message.to, receiver, reaction, local)
            source = self.entities[sender]
            follow = self.machine.acknowledge(source.state, message.body, outcome, turn.at)
            self._enact(turn, sender, source, follow, local)

    def _enact(
        self,
        turn: Turn,
        key: str,
        entity: Entity,
        decision: Decision,
        local: list[tuple[str, Message]],
    ) -> None:
        if decision.events:
            self._happen(turn, key, entity, decision.events)
            record = turn.record.events
            for event in decision.events:
                record.append((key, event))
            entity.dirty = True
            entity.used = self.round
        for message in decision.messages:
            receiver = self.entities.get(message.to)
            here = receiver is not None and self.slots[receiver.slot]
            # Not past a message that is still on its way to where the entity was before.
            if here and message.to not in self._away:
                local.append((key, message))
            else:
                sent = Sent(self.partition.sent_seq + 1, key, message.to, message.body)
                self._depart(sent)
                turn.record.sent.append(sent)
        if decision.answers is not None:
            self._answer_waiting(turn.answers, decision, decision.answers)
            if not self.remembers(decision.reply):
                # Who asks again now may have looked in the tables before this is written.
                answered = _Seen(decision.fingerprint, decision.reply, self.round)
                self.recent.setdefault(decision.answers, answered)
                for part, fingerprint, result in decision.parts:
                    self.recent.setdefault(part, _Seen(fingerprint, result, self.round))
                turn.remembered.append((decision.answers, decision.fingerprint, decision.reply))

    def _answer_waiting(
        self, answers: list[tuple[Batch, int, Any]], decision: Decision, command_id: bytes
    ) -> None:
        seen = self.recent.get(command_id)
        if seen is not None:
            reply = seen.reply = decision.reply
            for batch, index in seen.waiting or ():
                answers.append((batch, index, reply))
            seen.waiting = None

    def _depart(self, sent: Sent[Any]) -> None:
        self.partition.sent_seq = sent.seq
        self.partition.outbox[sent.seq] = sent
        self._away[sent.destination] = self._away.get(sent.destination, 0) + 1

    def _arrived(self, seq: int) -> Sent[Any] | None:
        sent = self.partition.outbox.pop(seq, None)
        if sent is not None:
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
        wrong = {asset: amount for asset, amount in self.books().items() if amount}
        if wrong:
            raise Imbalance(f"The books do not sum to zero: {wrong}")

    def books(self) -> dict[str, int]:
        """All ledger accounts of the partition together, by asset: zero when they are right."""
        books = dict(self.partition.entities)
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
        for key, event in record.events:
            entity = self.entities[key]
            self._happen(turn, key, entity, (event,))
            entity.dirty = True
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

    def _prune(self, origin: str, inbox: dict[int, Rejection | None], low: int) -> None:
        """Forget what will not come again; a repeat from before must not take that back.

        Oldest first, up to one that may come: what stands behind it is forgotten with it later.
        """
        if low > self.partition.lows.get(origin, 0):
            self.partition.lows[origin] = low
            for seq in list(takewhile(low.__gt__, inbox)):
                del inbox[seq]

    # -- memory ---------------------------------------------------------------------------

    def dirty(self) -> list[tuple[str, int, bytes]]:
        """Key, slot and encoded state of each entity that changed since it was last asked."""
        changed = []
        for key, entity in self.entities.items():
            if entity.dirty:
                changed.append((key, slot_of(key), self.codec.encode(entity.state)))
                entity.dirty = False
        return changed

    def forget(self, entities_max: int) -> None:
        """Start a new round; drop entities untouched for long, and ids seen long ago.

        Called after each checkpoint. What was decided before the last one is written; an id that
        is not must stay, since no table knows it.
        """
        self.round += 1
        if len(self.entities) > entities_max:
            idle = [
                key
                for key, entity in self.entities.items()
                if not entity.dirty and entity.used < self.round - 2
            ]
            for key in idle[: len(self.entities) - entities_max]:
                del self.entities[key]
        surplus = len(self.recent) - RECENT_MAX
        if surplus > 0:
            for command_id in list(islice(self.recent, surplus)):
                seen = self.recent[command_id]
                if seen.waiting is None and seen.round < self.round - 1:
                    del self.recent[command_id]

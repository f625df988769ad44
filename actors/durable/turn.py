"""One turn: pure decisions over the entities in memory, collected until they are written.

A ``Workspace`` is everything of a partition that lives in memory. ``Turn`` gathers what the
commands, messages and confirmations that arrived together lead to; nothing of it is told to
anyone before the partition has committed it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

from actors.durable.records import Codec, PartitionState, Received, Sent, TurnRecord
from actors.durable.routing import slot_of
from domain.durable import Decision, Machine, Message, Rejection, Unavailable

RECENT_MAX: Final = 50_000
ID_REUSED: Final = "id_reused"
STALE: Final = Unavailable("stale")
"""Answers a message that is older than what its origin has durably noted."""


class Imbalance(Exception):
    """The books of a partition do not sum to zero: the turn must not be written."""


class Batch:
    """Requests that came together and are answered together, in their order."""

    __slots__ = ("_left", "done", "replies")

    def __init__(self, size: int, done: Callable[[list[Any]], None]) -> None:
        self.replies: list[Any] = [None] * size
        self.done = done
        self._left = size

    def answer(self, index: int, reply: Any) -> None:
        """Fill in one reply; the last one completes the batch."""
        self.replies[index] = reply
        self._left -= 1
        if not self._left:
            self.done(self.replies)


@final
class Request:
    """A command and where its reply goes."""

    __slots__ = ("batch", "command", "identities", "index", "key")

    def __init__(
        self, batch: Batch, index: int, key: str, command: Any, identities: Sequence[Any]
    ) -> None:
        self.batch = batch
        self.index = index
        self.key = key
        self.command = command
        self.identities = identities


@final
class Incoming:
    """A message from another partition and where its outcome goes."""

    __slots__ = ("batch", "index", "low", "message", "origin")

    def __init__(self, batch: Batch, index: int, origin: str, low: int, message: Sent[Any]) -> None:
        self.batch = batch
        self.index = index
        self.origin = origin
        self.low = low
        self.message = message


@final
class Confirmed:
    """What another partition answered to a message of ours."""

    __slots__ = ("outcome", "seq")

    def __init__(self, seq: int, outcome: Rejection | None) -> None:
        self.seq = seq
        self.outcome = outcome


Item = Request | Incoming | Confirmed


class Entity:
    """A state in memory; ``dirty`` until a checkpoint has it, ``used`` is the last checkpoint
    round in which it was touched."""

    __slots__ = ("dirty", "state", "used")

    def __init__(self, state: Any) -> None:
        self.state = state
        self.dirty = False
        self.used = 0


class _Seen:
    """A command decided lately: its first answer, or who waits for it."""

    __slots__ = ("fingerprint", "reply", "waiting")

    def __init__(self, fingerprint: bytes, reply: Any) -> None:
        self.fingerprint = fingerprint
        self.reply = reply
        self.waiting: list[tuple[Batch, int]] = []


class Turn:
    """What has been decided and is not written yet.

    ``answers`` are told once it is; ``early`` may be told at once (see ``Decision.durable``).
    """

    __slots__ = (
        "answers",
        "at",
        "before",
        "early",
        "received",
        "record",
        "remembered",
        "settled",
        "size",
    )

    def __init__(self, at: int) -> None:
        self.at = at
        self.record: TurnRecord[Any, Any] = TurnRecord([], [], [], [])
        self.received: dict[str, Received] = {}
        self.answers: list[tuple[Batch, int, Any]] = []
        self.early: list[tuple[Batch, int, Any]] = []
        self.remembered: list[tuple[bytes, bytes, Any]] = []
        self.settled: list[Sent[Any]] = []
        self.before: dict[str, dict[str, int]] = {}
        self.size = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        record = self.record
        return not (
            record.events or record.sent or self.received or record.acknowledged or self.remembered
        )


class Workspace:
    """The memory of a partition, and the rules for changing it."""

    def __init__(
        self,
        machine: Machine[Any],
        codec: Codec[Any, Any],
        remembers: Callable[[Any], bool],
        owns: Callable[[str], bool],
    ) -> None:
        self.machine = machine
        self.codec = codec
        self.remembers = remembers
        self.owns = owns
        self.entities: dict[str, Entity] = {}
        self.partition: PartitionState[Any] = PartitionState()
        self.recent: dict[bytes, _Seen] = {}
        self.round = 1

    # -- deciding -------------------------------------------------------------------------

    def keys(self, item: Item) -> Iterable[str]:
        """The entities that must be in memory before ``item`` is decided."""
        if type(item) is Request:
            others = self.machine.touches(item.command)
            return (item.key, *(key for key in others if self.owns(key)))
        if type(item) is Incoming:
            return (item.message.destination,)
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
            seen = _Seen(fingerprint, None)
            seen.waiting.append(place)
            self.recent[command_id] = seen
        self._carry_out(turn, request.key, entity, decision)
        if decision.reply is not None:
            self._answer(turn, place, request.identities, decision.reply)

    def _repeated(
        self, turn: Turn, request: Request, known: dict[bytes, tuple[bytes, Any]]
    ) -> bool:
        """Answer a command that was seen before, or whose parts were; tell whether it was."""
        command_id, fingerprint = request.identities[0]
        seen = self.recent.get(command_id)
        if seen is None and command_id in known:
            seen = _Seen(*known[command_id])
        if seen is not None:
            place = (request.batch, request.index)
            if seen.fingerprint != fingerprint:
                turn.answers.append((*place, Rejection(ID_REUSED)))
            elif seen.reply is None:
                seen.waiting.append(place)
            else:
                turn.answers.append((*place, seen.reply))
            return True
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
            self.recent[command_id] = _Seen(fingerprint, reply)
            parts = zip(identities[1:], self.machine.results(reply), strict=False)
            for (part, part_fingerprint), result in parts:
                if type(result) is not Rejection:
                    self.recent[part] = _Seen(part_fingerprint, result)
            if not self.remembers(reply):
                turn.remembered.append((command_id, fingerprint, reply))

    def _incoming(self, turn: Turn, item: Incoming) -> None:
        message = item.message
        inbox = self.partition.inbox.setdefault(item.origin, {})
        if message.seq in inbox:
            turn.answers.append((item.batch, item.index, inbox[message.seq]))
            return
        if message.seq < self.partition.lows.get(item.origin, 0):
            # A repeat that was long on its way, or of a sender that has been replaced: the
            # outcome is durably known at the origin and forgotten here.
            turn.answers.append((item.batch, item.index, STALE))
            return
        entity = self.entities[message.destination]
        decision = self.machine.decide(entity.state, message.body, turn.at)
        outcome = decision if type(decision) is Rejection else None
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
        sent = self.partition.outbox.pop(item.seq, None)
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
        local: deque[tuple[str, Message]] = deque()
        self._enact(turn, key, entity, decision, local)
        while local:
            sender, message = local.popleft()
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
        local: deque[tuple[str, Message]],
    ) -> None:
        if decision.events:
            if key not in turn.before:
                turn.before[key] = self.machine.balances(entity.state)
            for event in decision.events:
                self.machine.apply(entity.state, event)
                turn.record.events.append((key, event))
                self._post_house(event)
            entity.dirty = True
            entity.used = self.round
        for message in decision.messages:
            if message.to in self.entities and self.owns(message.to):
                local.append((key, message))
            else:
                self.partition.sent_seq += 1
                sent = Sent(self.partition.sent_seq, key, message.to, message.body)
                self.partition.outbox[sent.seq] = sent
                turn.record.sent.append(sent)
        if decision.answers is not None:
            self._answer_waiting(turn.answers, decision, decision.answers)
            if not self.remembers(decision.reply):
                # Who asks again now may have looked in the tables before this is written.
                answered = _Seen(decision.fingerprint, decision.reply)
                self.recent.setdefault(decision.answers, answered)
                turn.remembered.append((decision.answers, decision.fingerprint, decision.reply))

    def _answer_waiting(
        self, answers: list[tuple[Batch, int, Any]], decision: Decision, command_id: bytes
    ) -> None:
        seen = self.recent.get(command_id)
        if seen is not None:
            seen.reply = decision.reply
            answers.extend((*place, decision.reply) for place in seen.waiting)
            seen.waiting = []

    # -- books ----------------------------------------------------------------------------

    def _post_house(self, event: Any) -> None:
        house = self.partition.house
        for account, asset, amount in self.machine.house_postings(event):
            sums = house.setdefault(account, {})
            sums[asset] = sums.get(asset, 0) + amount

    def balance(self, turn: Turn) -> None:
        """Bring the entities' totals up to date and prove that the books sum to zero."""
        totals = self.partition.entities
        for key, before in turn.before.items():
            for asset, amount in self.machine.balances(self.entities[key].state).items():
                change = amount - before.get(asset, 0)
                if change:
                    totals[asset] = totals.get(asset, 0) + change
        books = dict(totals)
        for sums in self.partition.house.values():
            for asset, amount in sums.items():
                books[asset] = books.get(asset, 0) + amount
        wrong = {asset: amount for asset, amount in books.items() if amount}
        if wrong:
            raise Imbalance(f"The books do not sum to zero: {wrong}")

    # -- replay ---------------------------------------------------------------------------

    def replay(self, record: TurnRecord[Any, Any], at: int) -> None:
        """Make a stored turn happen again; its entities are in memory."""
        turn = Turn(at)
        for key, event in record.events:
            entity = self.entities[key]
            if key not in turn.before:
                turn.before[key] = self.machine.balances(entity.state)
            self.machine.apply(entity.state, event)
            self._post_house(event)
            entity.dirty = True
        for sent in record.sent:
            self.partition.outbox[sent.seq] = sent
            self.partition.sent_seq = sent.seq
        for received in record.received:
            inbox = self.partition.inbox.setdefault(received.origin, {})
            self._prune(received.origin, inbox, received.low)
            inbox.update(received.outcomes)
        for seq in record.acknowledged:
            self.partition.outbox.pop(seq, None)
        self.partition.at = at
        self.balance(turn)

    def _prune(self, origin: str, inbox: dict[int, Rejection | None], low: int) -> None:
        """Forget what will not come again; a repeat from before must not take that back."""
        if low > self.partition.lows.get(origin, 0):
            self.partition.lows[origin] = low
            for seq in [seq for seq in inbox if seq < low]:
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
        """Start a new round; drop entities untouched for long, and ids seen long ago."""
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
            for command_id in list(self.recent)[:surplus]:
                if self.recent[command_id].reply is not None:
                    del self.recent[command_id]

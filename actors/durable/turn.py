"""Deciding a turn: pure, over what is in memory, collected until it is written.

Nothing of what the commands, messages and confirmations of a turn lead to is told to anyone
before the partition has committed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from actors.durable.items import Batch, Confirmed, Entity, Incoming, Item, Request, Turn
from actors.durable.memory import Memory, Seen
from actors.durable.records import Answer, Received, Sent, Verdict
from domain.durable import Decision, Message, Moved, Rejection, Unavailable, Version

ID_REUSED: Final = "id_reused"
STALE: Final = Unavailable("stale")
"""Answers a message that is older than what its origin has durably noted."""


class Workspace(Memory):
    """The memory of a partition, and the rules for deciding over it."""

    def keys(self, item: Item) -> Iterable[str]:
        """The entities that must be in memory before ``item`` is decided.

        Only those that live here: of others nothing may stay behind, or it would be taken for
        the truth when they come.
        """
        if type(item) is Request:
            if not self.slots[item.slot]:
                return ()
            touched = self.machine.touches(item.command)
            if not touched:
                return (item.key,)
            entities = self.entities
            return [item.key, *[key for key in touched if key in entities or self.owns(key)]]
        if type(item) is Incoming:
            key = item.message.destination
            # What is in memory lives here, and looking there is cheaper than hashing.
            return (key,) if key in self.entities or self.owns(key) else ()
        sent = self.partition.outbox.get(item.seq)
        return () if sent is None else (sent.source,)

    def describe(self, turn: Turn) -> dict[str, Any]:
        """What is in memory, with an open turn, for operators."""
        totals, partition = self.totals(turn), self.partition
        return {
            "slots": sum(self.slots),
            "private": self.private_keys(),
            "entities": len(self.entities),
            "packed": sum(map(len, self.packed.values())),
            "in_transit": len(partition.outbox),
            "books": self.books(totals),
            "entity_sums": totals,
            "house": {name: dict(sums) for name, sums in partition.house.items()},
        }

    def at_hand(self, items: Iterable[Item]) -> bool:
        """Whether deciding needs nothing of the database.

        So it is with confirmations and messages to entities in memory; some of them complete
        answers that may leave at once.
        """
        entities = self.entities
        return all(
            type(item) is not Request and all(key in entities for key in self.keys(item))
            for item in items
        )

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
            self.recent[command_id] = Seen(fingerprint, None, self.era, [place])
        self._carry_out(turn, request.key, entity, decision)
        if type(decision.reply) is Version:
            turn.answers.append((*place, Version(f"{self.life}/{entity.changed}")))
        elif decision.reply is not None:
            self._answer(turn, place, request.identities, decision.reply)
        elif not request.identities:
            # Nothing will ever answer it later: a wake, of which only the end is of interest.
            turn.answers.append((*place, None))

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
            seen = Seen(*known[command_id], self.era)
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
            self.recent[command_id] = Seen(fingerprint, reply, self.era)
            if len(identities) > 1:
                parts = zip(identities[1:], self.machine.results(reply), strict=False)
                for (part, part_fingerprint), result in parts:
                    if type(result) is not Rejection:
                        self.recent[part] = Seen(part_fingerprint, result, self.era)
                        self._remember(turn, part, part_fingerprint, result)
            self._remember(turn, command_id, fingerprint, reply)

    def _remember(self, turn: Turn, command_id: bytes, fingerprint: bytes, reply: Any) -> None:
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
        entity = self.entities.get(message.destination)
        slot = self.slot(message.destination) if entity is None else entity.slot
        if not self.slots[slot] or slot in item.batch.gone:
            item.batch.gone.add(slot)
            turn.answers.append((item.batch, item.index, Moved(slot)))
            return
        assert entity is not None, "an entity was not loaded"
        decision = self.machine.decide(entity.state, message.body, turn.at)
        outcome = self._verdict(decision)
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

    def _verdict(self, decision: Decision | Rejection) -> Verdict:
        if type(decision) is Rejection:
            return decision
        assert type(decision) is Decision
        if decision.reply is None:
            return None
        return Answer(msgspec.Raw(self.codec.encode(decision.reply)))

    def _confirmed(self, turn: Turn, item: Confirmed) -> None:
        sent = self._arrived(item.seq)
        if sent is None:
            return
        turn.record.acknowledged.append(item.seq)
        turn.settled.append(sent)
        entity = self.entities[sent.source]
        outcome: Any = item.outcome
        if type(outcome) is Answer:
            outcome = self.codec.decode_answer(outcome.value)
        decision = self.machine.acknowledge(entity.state, sent.body, outcome, turn.at)
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
            outcome: Any = reaction
            if type(reaction) is Decision:
                outcome = reaction.reply
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
        if decision.news:
            turn.news.extend(decision.news)
        if decision.events:
            if decision.applied:
                self._happened(turn, key, entity, decision)
            else:
                self._happen(turn, key, entity, decision.events)
            record = turn.record.events
            for event in decision.events:
                record.append((key, event))
            entity.dirty = True
            entity.used = self.round
            self.changes += 1
            entity.changed = self.changes
        for message in decision.messages:
            receiver = None if message.kind else self.entities.get(message.to)
            here = receiver is not None and self.slots[receiver.slot]
            # Not past a message that is still on its way to where the entity was before.
            if here and message.to not in self._away:
                local.append((key, message))
            else:
                seq = self.partition.sent_seq + 1
                sent = Sent(seq, key, message.to, message.body, message.kind)
                self._depart(sent)
                turn.record.sent.append(sent)
        if decision.answers is not None:
            self._answer_waiting(turn.answers, decision, decision.answers)
            if not self.remembers(decision.reply):
                # Who asks again now may have looked in the tables before this is written.
                answered = Seen(decision.fingerprint, decision.reply, self.era)
                self.recent.setdefault(decision.answers, answered)
                for part, fingerprint, result in decision.parts:
                    self.recent.setdefault(part, Seen(fingerprint, result, self.era))
                    self._remember(turn, part, fingerprint, result)
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

"""Sees every turn as it becomes durable and every answer as it is told, and holds them against
the model, against a full replay, and against what was told before.

A promise that is not kept is noted once, as the first ``Violation``; the run ends there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from actors.durable.partition import Partition
from actors.durable.records import Adopted, Codec, Split, TurnRecord
from actors.durable.replay import Replay
from actors.durable.routing import slot_of
from actors.durable.turn import Workspace
from cluster.simulation.database import Database
from cluster.simulation.ledger import Asked, Ledger
from cluster.simulation.model import Violation, must, refusal_of
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import TransferStatus
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import Policy
from domain.durable import Moved, Rejection
from persistence.journal import GENESIS, JournalRow, Statement, check_link

Open = tuple[str, Callable[[], bool], Any]
"""An answer that the model must give, too: whose it is, whether it agrees now, what it is."""

Since = tuple[int, int]
"""When somebody asked: a count of questions and answers, and of durable turns."""

MOVES = (ev.TransferSent, ev.TransferReceived, ev.TransferReturned, ev.BonusCredited)


class Witness:
    """The online checks. ``failed`` is resolved with the first promise that is not kept."""

    def __init__(self, database: Database, codec: Codec[Any, Any], policy: Policy) -> None:
        self.database = database
        self.codec = codec
        self.asked: Asked = {}
        self.ledger = Ledger(policy, self.asked)
        self.machine = AccountsMachine(policy)
        self.policy = policy
        self.failed: asyncio.Future[Violation] = asyncio.get_running_loop().create_future()
        self.replay = Replay(codec, self._workspace)
        self.rows = 0
        self.told: dict[tuple[bytes, bytes], Any] = {}
        self.epochs: dict[str, int] = {}
        self.debits: dict[bytes, int] = {}
        self.credits: dict[bytes, int] = {}
        self._last: dict[str, tuple[int, bytes, int]] = {}
        self._messages: dict[tuple[str, int], Any] = {}
        self._outcomes: dict[tuple[str, int], Rejection | None] = {}
        self._versions: dict[str, list[tuple[int, Any]]] = {}
        self._reserved_groups: set[bytes] = set()
        self._events_of: dict[tuple[str, int], list[Any]] = {}
        self._moved: dict[int, int] = {}
        self._remote: set[tuple[bytes, type]] = set()
        self._open: dict[tuple[str, str], deque[Any]] = {}
        self._final: dict[tuple[bytes, bytes], int] = {}
        self._moment = 0

    def fail(self, violation: Violation) -> None:
        """Note the first promise that was not kept."""
        if not self.failed.done():
            self.failed.set_result(violation)

    def guarded(self, check: Callable[..., None], *arguments: Any) -> None:
        """Run a check inside the code under test without disturbing it."""
        if self.failed.done():
            return
        try:
            check(*arguments)
        except Violation as violation:
            self.fail(violation)
        except Exception as error:
            self.fail(Violation(8, f"{check.__name__}: {type(error).__name__}: {error}"))

    # -- what becomes durable -------------------------------------------------------------

    def owned(self, stream: str, epoch: int) -> None:
        """A new incarnation has the stream."""
        self.epochs[stream] = epoch

    def went_back(self, stream: str, seq: int, last: int) -> None:
        """A checkpoint is older than the one before it: only a stale incarnation has such."""
        self.fail(Violation(11, f"a checkpoint of {stream} goes back from {last} to {seq}"))

    def confirmed(self, origin: str, seqs: Sequence[int], outcomes: Sequence[Any]) -> None:
        """A partition has answered messages; what it says is durable, and the only answer."""
        for seq, outcome in zip(seqs, outcomes, strict=True):
            place = (origin, seq)
            known = place in self._outcomes and self._outcomes[place] == outcome
            if type(outcome) is not Moved and not known:
                self.fail(Violation(3, f"message {place} is answered otherwise: {outcome}"))

    def committed(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        """A turn has just been written."""
        self.rows += 1
        self.guarded(self._row, row, statements)

    def _workspace(self) -> Workspace:
        return Workspace(self.machine, self.codec, lambda _: False)

    def replica(self, stream: str) -> Workspace:
        """What a full replay of the stream comes to."""
        work = self.replay.works.get(stream)
        if work is None:
            work = self.replay.works[stream] = self._workspace()
        return work

    def _row(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        record = self._linked(row)
        stream = row.stream
        operations = [o for s in statements if s.sql == "twin" for o in s.arguments]
        told = [(i, v) for name, i, v in operations if name == "command"]
        for name, command_id, value in operations:
            if name == "transfer":
                self.debits[command_id] = row.at
            elif name == "end":
                self.credits.setdefault(command_id, row.at)
            elif name == "command":
                body = self.asked.get(command_id, {}).get(value[0])
                if isinstance(body, cmd.VoidHold) and isinstance(value[1], cmd.HoldReply):
                    self.ledger.voids.add(body.hold)
        for sent in record.sent:
            self._messages[stream, sent.seq] = sent
            self._remote.add((sent.body.transfer, type(sent.body)))
            self._open.setdefault((sent.source, sent.destination), deque()).append(sent)
        reserved = (event.group for _, event in record.events if type(event) is ev.GroupReserved)
        self._reserved_groups.update(reserved)
        open_answers = self._answers(told) + self._received(stream, record)
        self._events(row, record, open_answers)
        self._replay(row, record)
        self._same_pots(row, record)

    def _linked(self, row: JournalRow) -> TurnRecord[Any, Any]:
        """What is in a row that has its place in the chain, and was written by the owner."""
        stream = row.stream
        must(11, row.epoch == self.epochs.get(stream), "written by a stale incarnation:", stream)
        seq, previous, at = self._last.get(stream, (0, GENESIS, 0))
        check_link(row, seq + 1, previous)
        must(8, row.at >= at, "time goes back at", stream, row.seq)
        self._last[stream] = (row.seq, row.hash, row.at)
        record: TurnRecord[Any, Any] = self.codec.decode_turn(row.entries)
        self._events_of.setdefault((stream, row.at), []).append(record.events)
        return record

    def _answers(self, told: list[tuple[bytes, Any]]) -> list[Open]:
        """Stored answers that the model must give, too, somewhere within the turn."""
        ledger = self.ledger
        result: list[Open] = []
        for command_id, (fingerprint, reply) in told:
            command = self.asked.get(command_id, {}).get(fingerprint)
            must(3, command is not None, "an answer that nobody asked for:", reply)
            refusal = refusal_of(reply)
            if isinstance(command, cmd.LinkedTransfers) and not self._decides(command, reply):
                continue
            key = self.machine.key(command)

            def agrees(command: Any = command, refusal: str | None = refusal) -> bool:
                return ledger.verdict(command, ledger.at) == refusal

            result.append((key, agrees, (command, reply)))
        return result

    def _decides(self, command: cmd.LinkedTransfers, reply: Any) -> bool:
        """Whether the answer to a group was given by the sender's rules alone."""
        if isinstance(reply, Rejection):
            others = (len(self.asked[leg.id]) > 1 for leg in command.transfers)
            must(8, reply.code != "id_reused" or any(others), "no id was used twice:", command)
            return False
        inside = {leg.source // 10_000 for leg in command.transfers}
        outside = [leg for leg in command.transfers if leg.destination // 10_000 not in inside]
        if not outside:
            return True
        # A group that waited was judged when it was reserved.
        reserved = command.id in self._reserved_groups
        return not reserved and refusal_of(reply) is not None

    def _received(self, stream: str, record: Any) -> list[Open]:
        """Answers to messages: each message once, and what the model says to it."""
        ledger = self.ledger
        result: list[Open] = []
        for received in record.received:
            for seq, outcome in received.outcomes:
                place = (received.origin, seq)
                must(3, place in self._messages, "a message that was never written:", place)
                must(3, place not in self._outcomes, "a message was taken twice:", place)
                self._outcomes[place] = outcome
                message = self._messages[place]
                line = self._open[message.source, message.destination]
                must(8, line.popleft() == message, "messages overtake each other:", message)
                refusal = None if outcome is None else outcome.code
                if refusal is not None:
                    body = message.body
                    group = body.group if type(body) is cmd.PrepareCredit else None
                    ledger.refused[body.transfer, group] = refusal

                def agrees(body: Any = message.body, refusal: str | None = refusal) -> bool:
                    return ledger.message(body) == refusal

                result.append((message.destination, agrees, (place, message, outcome)))
        return result

    def _events(self, row: JournalRow, record: Any, answers: list[Open]) -> None:
        ledger, machine = self.ledger, self.machine
        ledger.at = row.at
        answers = [answer for answer in answers if not answer[1]()]
        for key, event in record.events:
            sums: dict[str, int] = {}
            if isinstance(event, MOVES):
                for posting in machine.postings(event):
                    sums[posting.asset] = sums.get(posting.asset, 0) + posting.amount
                must(1, not any(sums.values()), "an event creates money:", event)
            owner = self.database.owner(key)
            must(11, owner == row.stream, row.stream, row.seq, "decides for", key, "of", owner)
            account = ledger.follow(key, event, row.at)
            if type(event) is ev.TransferSent:
                stored = self.database.transfers.get(event.transfer)
                must(5, stored is not None, "money moved and left no transaction:", event)
            if type(event) is ev.TransferReceived or type(event) is ev.CreditPrepared:
                self._in_line(key, event)
            if account:
                view = ledger.party(account // 10_000).view()
                self._versions.setdefault(key, []).append((self.rows, view))
            if answers:
                answers = [answer for answer in answers if answer[0] != key or not answer[1]()]
        must(8, not answers, "the model answers otherwise:", [answer[2] for answer in answers])

    def _in_line(self, key: str, event: Any) -> None:
        """What is taken within a turn must not overtake what is still on its way."""
        prepared = type(event) is ev.CreditPrepared
        if (event.transfer, cmd.PrepareCredit if prepared else cmd.Credit) in self._remote:
            return
        if prepared:
            group = self.asked.get(event.group, {}).get(b"first")
            source = self.machine.key(group) if group is not None else ""
        else:
            source = str(event.source // 10_000)
        must(8, not self._open.get((source, key)), "overtakes messages on their way:", event)

    def _replay(self, row: JournalRow, record: Any) -> None:
        """The same turn by the platform's own replay: money agrees, and books are zero."""
        work = self.replica(row.stream)
        for moving in record.moved:
            if type(moving) is not Split:
                self._moved.update(dict.fromkeys(moving.slots, self.rows))
            known = (
                type(moving) is not Adopted or (moving.origin, moving.seq) in self.replay.parcels
            )
            must(3, known, "adopted twice, or never released:", moving)
        self.replay._happen(row.stream, row, record, _ignore)
        for received in record.received:
            inbox = work.partition.inbox.get(received.origin)
            oldest = next(iter(inbox)) if inbox else None
            low = work.partition.lows.get(received.origin, 0)
            must(12, oldest is None or oldest >= low, "an inbox is not pruned:", oldest, low)
        books = dict(work.partition.entities)
        for sums in work.partition.house.values():
            for asset, amount in sums.items():
                books[asset] = books.get(asset, 0) + amount
        must(1, not any(books.values()), "the books of", row.stream, row.seq, "sum to", books)

    def _same_pots(self, row: JournalRow, record: Any) -> None:
        """What the turn has changed is in memory as it is in the model."""
        work = self.replica(row.stream)
        for key in dict.fromkeys(key for key, _ in record.events):
            accounts = work.entities[key].state.accounts
            pots = self.ledger.party(int(key)).pots
            for number, pot in pots.items():
                account = accounts[number]
                have = (account.posted, account.held, account.pending, account.expecting)
                model = (pot.posted, pot.held, pot.pending, pot.expecting)
                must(8, have == model, "account", number, "has", have, "and in the model", model)
                must(2, account.posted >= account.held, "overdrawn:", number, have)

    # -- memory ---------------------------------------------------------------------------

    def recovered(self, partition: Partition) -> None:
        """A partition has read its memory back: it is what a full replay gives."""
        self.guarded(self._same_memory, partition)

    def _same_memory(self, partition: Partition) -> None:
        encode, stream = self.codec.encode, partition.journal.stream
        if partition.journal.epoch != self.epochs[stream]:
            # Overtaken while it was reading: it will be fenced.
            return
        work, full = partition._work, self.replica(stream)
        must(
            7,
            encode(work.partition) == encode(full.partition),
            f"recovery of {stream} is not its full replay:",
            work.partition,
            full.partition,
        )
        for key, entity in work.entities.items():
            replayed = full.entities.get(key)
            state = self.machine.new(key) if replayed is None else replayed.state
            same = encode(entity.state) == encode(state)
            must(7, same, f"{key} in {stream} is not its full replay:", entity.state, state)

    # -- what is told ---------------------------------------------------------------------

    def published(self, stream: str, at: int, events: Any) -> None:
        """Events have gone out to whoever looks on."""
        if events not in self._events_of.get((stream, at), []):
            self.fail(Violation(3, f"published before it was durable: {stream} {events}"))

    def sent_away(
        self, stream: str, since: int, commands: Sequence[Any], replies: Sequence[Any]
    ) -> None:
        """A partition has answered what came after turn ``since``: what it calls moved must have
        had another owner meanwhile, be it with the others of its slot, before it got its own."""
        for command, reply in zip(commands, replies, strict=True):
            if type(reply) is Moved:
                key = self.machine.key(command)
                slots = (self.database.slot(key), slot_of(key))
                moved = any(self._moved.get(slot, 0) > since for slot in slots)
                here = self.database.owner(key) == stream and not self.database.coming(key)
                if here and not moved:
                    self.fail(Violation(11, f"{stream} says that {key} has moved, and it has not"))

    def ask(self, command: Any) -> Since:
        """Somebody asks; the moment, and the number of turns that are durable by then."""
        for command_id, fingerprint in self.machine.identities(command):
            bodies = self.asked.setdefault(command_id, {})
            bodies.setdefault(fingerprint, command)
        if isinstance(command, cmd.LinkedTransfers):
            for leg in command.transfers:
                self.asked[leg.id][leg.fingerprint] = leg
        self._moment += 1
        return self._moment, self.rows

    def tell(self, command: Any, reply: Any, since: Since) -> None:
        """Somebody is answered."""
        self._moment += 1
        self.guarded(self._tell, command, reply, since)

    def _tell(self, command: Any, reply: Any, since: Since) -> None:
        identities = self.machine.identities(command)
        if not identities:
            if isinstance(command, cmd.ReadCustomer):
                self._read(command, reply, since[1])
            return
        command_id, fingerprint = identities[0]
        place = (command_id, fingerprint)
        stored = self.database.remembered(command_id)
        if isinstance(reply, Rejection) and reply.code == "id_reused":
            reused = any(len(self.asked[i]) > 1 for i, _ in identities)
            must(4, reused, "refused as reused, and nobody did:", command)
            must(4, place not in self.told, "first answered and then reused:", command)
            return
        must(3, stored is not None, "told before it was durable:", command, reply)
        assert stored is not None
        must(4, stored[0] == fingerprint, "answered with another command's answer:", command)
        first = self.told.setdefault(place, reply)
        if isinstance(reply, cmd.Receipt):
            must(4, unchanging(reply) == unchanging(first), "answers differ:", first, reply)
            must(3, unchanging(reply) == unchanging(stored[1]), "not as stored:", reply, stored)
            self._status(reply)
            # Who asked before another was told the end may still be told the state before.
            final = self._final.get(place, self._moment) < since[0]
            must(4, not final or first.status == reply.status, "answers differ:", first, reply)
            if reply.status != TransferStatus.PENDING and place not in self._final:
                self.told[place] = reply
                self._final[place] = self._moment
        else:
            must(4, reply == first, "answers differ:", first, reply)
            must(3, reply == stored[1], "not as stored:", reply, stored)

    def _status(self, reply: cmd.Receipt) -> None:
        """What is told about the end of a transfer has durably happened."""
        ended = self.ledger.ended.get(reply.id)
        must(3, reply.id in self.ledger.sent, "told of a transfer that is not durable:", reply)
        if reply.status == TransferStatus.COMPLETED:
            must(3, ended == "received", "told that it arrived, and it has not:", reply)
        elif reply.status == TransferStatus.RETURNED:
            must(3, ended == "returned", "told that it came back, and it has not:", reply)

    def _read(self, command: cmd.ReadCustomer, reply: Any, since: int) -> None:
        """What was read was so at some moment between question and answer."""
        versions = self._versions.get(str(command.customer), [])
        view: Any = ()
        if isinstance(reply, cmd.CustomerView):
            view = tuple((a.posted, a.held, int(a.status)) for a in reply.accounts)
        for index, version in reversed(versions):
            if version == view:
                return
            if index <= since:
                break
        empty = not versions or versions[0][0] > since
        must(8, view == () and empty, "read what was not so any more:", command, view)


def _ignore(
    stream: str, row: JournalRow, record: TurnRecord[Any, Any], came: dict[str, bytes]
) -> None:
    """Nothing is to be told of a turn."""


def unchanging(receipt: cmd.Receipt) -> tuple[Any, ...]:
    """What of a receipt never changes."""
    return (
        receipt.id,
        receipt.source,
        receipt.destination,
        receipt.amount,
        receipt.fee,
        receipt.credited,
        receipt.rate,
        receipt.reference,
    )

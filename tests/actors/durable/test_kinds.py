"""Messages between entities of different kinds, their answers, and machines that apply at once."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from actors.durable.items import Batch, Confirmed, Incoming, Request, Turn
from actors.durable.post import Post
from actors.durable.records import Answer, Codec, PartitionState, Sent, Shipment, TurnRecord
from actors.durable.turn import Workspace
from cluster.simulation.virtual import run_virtual
from domain.durable import Decision, Message, Rejection


class Order(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A command, and the message that comes of it."""

    id: bytes
    amount: int


class Made(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """What a workshop answers, and what each of the two notes."""

    amount: int
    at: int


class State(msgspec.Struct, array_like=True):
    """What was made."""

    made: list[int] = []
    due: int = 0


class Plain:
    """What the two machines have in common."""

    def new(self, key: str) -> State:
        return State()

    def apply(self, state: State, event: Made) -> None:
        state.made.append(event.amount)
        state.due = event.at + event.amount

    def postings(self, event: Any) -> tuple[()]:
        return ()

    def house_postings(self, event: Any) -> tuple[()]:
        return ()

    def balances(self, state: State) -> dict[str, int]:
        return {}

    def due(self, state: State) -> int:
        return state.due

    def wake(self, key: str) -> Any:
        return None

    def identities(self, command: Any) -> list[tuple[bytes, bytes]]:
        return [(command.id, b"")]

    def results(self, reply: Any) -> tuple[()]:
        return ()

    def key(self, command: Any) -> str:
        return "same"

    def touches(self, command: Any) -> tuple[()]:
        return ()

    def acknowledge(self, state: State, message: Order, outcome: Any, now: int) -> Decision:
        if type(outcome) is Rejection:
            return Decision([], outcome, answers=message.id)
        return Decision([outcome], outcome, answers=message.id)


class Shop(Plain):
    """Passes each order on to a workshop of the same name."""

    def decide(self, state: State, command: Order, now: int) -> Decision:
        return Decision([], None, [Message("same", command, "workshops")])


class Workshop(Plain):
    """Makes what is ordered, while it decides."""

    def decide(self, state: State, command: Order, now: int) -> Decision | Rejection:
        if command.amount < 0:
            return Rejection("negative")
        before, made = state.due, Made(command.amount, now)
        self.apply(state, made)
        return Decision([made], made, applied=True, due_before=before, news=[command.amount])


CODEC: Codec[Any, Any] = Codec(State, Made, Order, Order, Made | Rejection, Made)


def workspace(machine: Any) -> Workspace:
    work = Workspace(machine, CODEC, lambda reply: True)
    work.slots[work.slot("same")] = 1
    work.admit("same", State())
    return work


def order(work: Workspace, amount: int) -> tuple[Turn, list[Any]]:
    turn, replies = Turn(1_000), list[Any]()
    command = Order(bytes(15) + bytes([abs(amount)]), amount)
    identities = work.machine.identities(command)
    batch = Batch(1, replies.extend)
    request = Request(batch, 0, "same", work.slot("same"), command, identities)
    work.decide(turn, request, {})
    return turn, replies


def taken(work: Workspace, sent: Sent[Any]) -> tuple[Turn, Any]:
    """What the other side makes of a message, and the outcome as it goes over the wire."""
    turn, outcomes = Turn(2_000), list[Any]()
    work.decide(turn, Incoming(Batch(1, outcomes.extend), 0, "shops/0", 1, sent), {})
    work.balance(turn)
    for batch, index, outcome in turn.answers:
        batch.answer(index, outcome)
    return turn, CODEC.decode_outcomes(CODEC.encode(outcomes))[0]


def test_an_order_goes_to_another_kind_and_its_answer_is_the_outcome() -> None:
    shop, workshop = workspace(Shop()), workspace(Workshop())
    turn, replies = order(shop, 7)
    # An entity of its own kind has the same key, and must not get it.
    assert shop.entities["same"].state.made == []
    (sent,) = turn.record.sent
    assert (sent.destination, sent.kind) == ("same", "workshops")

    there, outcome = taken(workshop, sent)
    assert there.news == [7]
    assert type(outcome) is Answer
    assert not replies

    back = Turn(3_000)
    shop.decide(back, Confirmed(sent.seq, outcome), {})
    assert back.record.events == [("same", Made(7, 2_000))]
    ((_, _, reply),) = back.answers
    assert reply == Made(7, 2_000)
    assert not shop.partition.outbox


def test_a_refusal_comes_back_as_one() -> None:
    shop, workshop = workspace(Shop()), workspace(Workshop())
    (sent,) = order(shop, -1)[0].record.sent
    there, outcome = taken(workshop, sent)
    assert outcome == Rejection("negative")
    assert there.record.events == []
    back = Turn(3_000)
    shop.decide(back, Confirmed(sent.seq, outcome), {})
    assert [reply for _, _, reply in back.answers] == [Rejection("negative")]


def test_what_was_applied_while_deciding_happens_once_and_again_in_a_replay() -> None:
    workshop = workspace(Workshop())
    (sent,) = order(workspace(Shop()), 7)[0].record.sent
    turn, outcome = taken(workshop, sent)
    state = workshop.entities["same"].state
    assert state == State([7], 2_007)
    assert turn.timers == [("same", 2_007)]

    again = workspace(Workshop())
    row = CODEC.encode(turn.record)
    record: TurnRecord[Any, Any] = CODEC.decode_turn(row)
    again.replay(record, turn.at)
    assert again.entities["same"].state == state
    encode = CODEC.encode
    workshop.partition.at = turn.at
    assert encode(again.partition) == encode(workshop.partition)
    # A repeat is answered with the first outcome, also after a recovery.
    stored: PartitionState[Any] = CODEC.decode_partition(encode(again.partition))
    recovered = workspace(Workshop())
    recovered.resume(stored)
    recovered.entities["same"].state = state
    repeated, answered = taken(recovered, sent)
    assert CODEC.decode_answer(answered.value) == CODEC.decode_answer(outcome.value)
    assert repeated.empty
    assert state.made == [7]


class Maps:
    """Slot maps of two kinds, of which the other one is not known at first."""

    def __init__(self) -> None:
        self.read = 0

    def owner(self, key: str, kind: str = "") -> str | None:
        if kind:
            return f"{kind}/0" if self.read > 1 else None
        return "shops/1"

    async def load(self) -> None:
        await asyncio.sleep(0.001)
        self.read += 1


def test_messages_wait_until_the_other_kind_is_found_and_keep_their_order() -> None:
    async def main() -> None:
        arrived: list[tuple[str, int]] = []
        settled: list[int] = []

        async def deliver(stream: str, payload: bytes) -> bytes:
            shipment: Shipment[Any] = CODEC.decode_shipment(payload)
            arrived.extend((stream, message.seq) for message in shipment.messages)
            return CODEC.encode([None] * len(shipment.messages))

        post = Post(
            "shops/0", deliver, CODEC, Maps(), lambda done: settled.extend(seq for seq, _ in done)
        )
        body = Order(bytes(16), 1)
        for seq in (1, 2):
            post.send(Sent(seq, "same", "same", body, "workshops"))
        post.send(Sent(3, "same", "same", body))
        await asyncio.sleep(1)
        assert [item for item in arrived if item[0] == "workshops/0"] == [
            ("workshops/0", 1),
            ("workshops/0", 2),
        ]
        assert ("shops/1", 3) in arrived
        assert sorted(settled) == [1, 2, 3]
        post.stop()

    run_virtual(main)

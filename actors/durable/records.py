"""What a turn leaves in the journal, and what a partition keeps beside its entities."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from domain.durable import Rejection

Event = TypeVar("Event")
Body = TypeVar("Body")


class Sent(msgspec.Struct, Generic[Body], frozen=True, array_like=True):
    """A message on its way; ``seq`` is unique in the stream that sent it."""

    seq: int
    source: str
    destination: str
    body: Body


class Received(msgspec.Struct, frozen=True, array_like=True):
    """Messages taken from ``origin``, with what was answered.

    All before ``low`` have been confirmed to the origin and will not come again.
    """

    origin: str
    low: int
    outcomes: list[tuple[int, Rejection | None]]


class TurnRecord(msgspec.Struct, Generic[Event, Body], array_like=True):
    """One turn: events by entity in order, messages sent, taken and confirmed."""

    events: list[tuple[str, Event]]
    sent: list[Sent[Body]]
    received: list[Received]
    acknowledged: list[int]


class PartitionState(msgspec.Struct, Generic[Body], array_like=True):
    """What a partition keeps beside its entities.

    ``lows`` says, by origin, below which number its messages will not come again for the first
    time: what comes late from there is a repeat, even though ``inbox`` has forgotten it.
    ``house`` are the ledger accounts outside entities, by account and asset; ``entities`` what
    all entities hold, by asset. Both together are zero for each asset.
    """

    at: int = 0
    sent_seq: int = 0
    house: dict[str, dict[str, int]] = {}
    entities: dict[str, int] = {}
    outbox: dict[int, Sent[Body]] = {}
    inbox: dict[str, dict[int, Rejection | None]] = {}
    lows: dict[str, int] = {}


class Shipment(msgspec.Struct, Generic[Body], frozen=True, array_like=True):
    """A batch of messages from one stream to another."""

    origin: str
    low: int
    messages: list[Sent[Body]]


Outcomes = list[Rejection | None]
"""The answer to a shipment, in its order: ``None`` where the message was accepted."""


class Codec(Generic[Event, Body]):
    """Encoders and decoders of one context's types."""

    def __init__(self, state: Any, event: Any, command: Any, body: Any, reply: Any) -> None:
        pack = msgspec.msgpack.Decoder
        self.encode = msgspec.msgpack.Encoder().encode
        self.decode_entity = pack(state).decode
        self.decode_turn = pack(TurnRecord[event, body]).decode
        self.decode_partition = pack(PartitionState[body]).decode
        self.decode_commands = pack(list[command]).decode
        self.decode_shipment = pack(Shipment[body]).decode
        self.decode_replies = pack(list[reply]).decode
        self.decode_outcomes = pack(Outcomes).decode

"""What a turn leaves in the journal, and what a partition keeps beside its entities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from domain.durable import Moved, Rejection

Event = TypeVar("Event")
Body = TypeVar("Body")


class Sent(msgspec.Struct, Generic[Body], frozen=True, array_like=True, gc=False):
    """A message on its way; ``seq`` is unique in the stream that sent it."""

    seq: int
    source: str
    destination: str
    body: Body
    kind: str = ""
    """The kind of the destination, where it is another than the sender's."""


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """What the receiver of a message replied, encoded once for all who keep or carry it."""

    value: msgspec.Raw


Verdict = Rejection | Answer | None
"""How the receiver judged a message; ``None`` where it took it and has nothing to say."""


class Received(msgspec.Struct, frozen=True, array_like=True):
    """Messages taken from ``origin``, with what was answered.

    All before ``low`` have been confirmed to the origin and will not come again.
    """

    origin: str
    low: int
    outcomes: list[tuple[int, Verdict]]


Inbox = dict[str, dict[int, Verdict]]
"""By origin, what was answered to its messages by their numbers."""


class Parcel(msgspec.Struct, array_like=True):
    """What goes along when slots change their stream, beside the entities' snapshots.

    ``totals`` are, by slot and asset, what the entities hold; ``private`` the keys that have one
    of the slots to themselves, or would be in one of them had they none to themselves. ``inbox``
    and ``lows`` are all of the former owner's: more than the new one needs, and never wrong.
    ``at`` is the time of the release: for nobody does time go back by moving.
    """

    totals: dict[int, dict[str, int]]
    private: dict[str, int]
    inbox: Inbox
    lows: dict[str, int]
    at: int = 0


class Released(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Slots left this stream for ``to``."""

    to: str
    slots: list[int]


class Adopted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Slots came to this stream; ``origin`` let go of them in its row ``seq``."""

    origin: str
    seq: int
    slots: list[int]
    parcel: Parcel


class Split(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A key has a slot to itself from here on; ``totals`` is what the entity held."""

    key: str
    slot: int
    totals: dict[str, int]


Moving = Released | Adopted | Split


class TurnRecord(msgspec.Struct, Generic[Event, Body], array_like=True):
    """One turn: events by entity in order, messages sent, taken and confirmed.

    What is ``moved`` comes first: the rest of the turn already happens with it.
    """

    events: list[tuple[str, Event]]
    sent: list[Sent[Body]]
    received: list[Received]
    acknowledged: list[int]
    moved: list[Moving] = []


class PartitionState(msgspec.Struct, Generic[Body], array_like=True):
    """What a partition keeps beside its entities.

    ``lows`` says, by origin, below which number its messages will not come again for the first
    time: what comes late from there is a repeat, even though ``inbox`` has forgotten it.
    ``house`` are the ledger accounts outside entities, by account and asset; ``entities`` what
    all entities hold, by asset. Both together are zero for each asset. ``slots`` is ``entities``
    by slot, and ``private`` the slot of each key that has one to itself, as far as this stream
    has had to do with it: a key that once has a slot keeps it.
    """

    at: int = 0
    sent_seq: int = 0
    house: dict[str, dict[str, int]] = {}
    entities: dict[str, int] = {}
    outbox: dict[int, Sent[Body]] = {}
    inbox: Inbox = {}
    lows: dict[str, int] = {}
    slots: dict[int, dict[str, int]] = {}
    private: dict[str, int] = {}


class Shipment(msgspec.Struct, Generic[Body], frozen=True, array_like=True):
    """A batch of messages from one stream to another."""

    origin: str
    low: int
    messages: list[Sent[Body]]


Outcome = Verdict | Moved
"""``Moved`` where the entity of a message is not here any more."""


class Codec(Generic[Event, Body]):
    """Encoders and decoders of one context's types.

    ``body`` are messages sent and taken, ``answer`` what is replied to those sent. Hooks are for
    states that are not made of msgspec's types: see there.
    """

    def __init__(
        self,
        state: Any,
        event: Any,
        command: Any,
        body: Any,
        reply: Any,
        answer: Any = None,
        *,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[type, Any], Any] | None = None,
    ) -> None:
        pack = msgspec.msgpack.Decoder
        self.encode = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode
        self.decode_entity = pack(state, dec_hook=dec_hook).decode
        self.decode_turn = pack(TurnRecord[event, body]).decode
        self.decode_partition = pack(PartitionState[body]).decode
        self.decode_parcel = pack(Parcel).decode
        self.decode_commands = pack(list[command]).decode
        self.decode_shipment = pack(Shipment[body]).decode
        self.decode_replies = pack(list[reply]).decode
        self.decode_outcomes = pack(list[Outcome]).decode
        self.decode_answer = pack(answer).decode

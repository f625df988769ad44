"""What a state machine must offer to become a durable entity.

A machine is pure: ``decide`` reads a state and answers with what should happen, ``apply`` makes
one event happen. Time is an argument. The runtime in ``actors.durable`` journals the events,
delivers the messages and sends the replies; nothing here knows how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar, final

import msgspec

State = TypeVar("State")


@final
class Rejection(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An expected refusal. ``code`` is documented and stable, ``fields`` say what was wrong."""

    code: str
    fields: dict[str, str] = {}


class Unavailable(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The outcome is unknown: ask again with the same id, which answers it."""

    reason: str


class Moved(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The entity is not here any more: read the slot map again."""

    slot: int


@final
class Version(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Stands for all that has happened to an entity; a reply that the runtime fills in.

    Whatever is read from the tables after this was answered may be kept under it: as long as the
    same version is answered, nothing of the entity's has changed. It never comes again.
    """

    value: str = ""


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message from one entity to another, which is of the same kind unless ``kind`` says so.

    ``body`` is a type that both machines know. What the receiver replies is its outcome.
    """

    to: str
    body: Any
    kind: str = ""


@final
class Decision(msgspec.Struct, gc=False):
    """What a command leads to.

    ``reply`` answers the command; when it is ``None`` the answer comes later, from the decision
    whose ``answers`` is the id of this command (and ``fingerprint`` its fingerprint). ``durable``
    says that the reply rests on nothing that is yet to be written: the command's own turn is, or
    no message would have left, and so is what the receiver did. ``parts`` are id, fingerprint
    and reply of each part of the command answered that has an id of its own and was carried out.

    A machine for which deciding is as much work as changing the state may do both at once: then
    it is ``applied``, and ``due_before`` is when the entity was due before. ``apply`` is left for
    replays, and must lead to the same. Only for entities that hold no balances. ``news`` is for
    whoever follows what is published: told after the commit, and written nowhere.
    """

    events: Sequence[Any] = ()
    reply: Any = None
    messages: Sequence[Message] = ()
    answers: bytes | None = None
    fingerprint: bytes = b""
    durable: bool = False
    parts: Sequence[tuple[bytes, bytes, Any]] = ()
    applied: bool = False
    due_before: int = 0
    news: Sequence[Any] = ()


class Diverged(Exception):
    """A replay has led to something else than what the journal says: nobody may go on from it."""


class Posting(msgspec.Struct, frozen=True, array_like=True):
    """A change of one ledger account; the postings of an event sum to zero for each asset."""

    account: str
    asset: str
    amount: int


class Machine(Protocol[State]):
    """The contract between a context's rules and the runtime."""

    def new(self, key: str) -> State:
        """The state of an entity that nothing has happened to yet."""

    def decide(self, state: State, command: Any, now: int) -> Decision | Rejection:
        """Judge ``command`` at ``now`` (microseconds since the epoch); change nothing."""

    def acknowledge(self, state: State, message: Any, outcome: Any, now: int) -> Decision:
        """Judge the outcome of a message that this entity sent: a ``Rejection``, or the reply.

        The reply is ``None`` where a message is merely accepted.
        """

    def apply(self, state: State, event: Any) -> None:
        """Make ``event`` happen. Never fails, never looks at anything but its arguments.

        Only of what was ``applied`` when it was decided it raises ``Diverged`` when it leads to
        something else.
        """

    def postings(self, event: Any) -> Iterable[Posting]:
        """What ``event`` moves between ledger accounts."""

    def house_postings(self, event: Any) -> Iterable[tuple[str, str, int]]:
        """Of ``postings``, those outside the entities, as (account, asset, amount)."""

    def balances(self, state: State) -> dict[str, int]:
        """What the entity's ledger accounts hold in all, by asset."""

    def due(self, state: State) -> int:
        """When the entity wants to be woken, in microseconds since the epoch; 0 for never."""

    def wake(self, key: str) -> Any:
        """The command that an entity gets when its time has come, now and then once too often."""

    def identities(self, command: Any) -> Sequence[tuple[bytes, bytes]]:
        """Id and fingerprint of the command, then of its parts; empty for a mere question."""

    def results(self, reply: Any) -> Sequence[Any]:
        """The replies to the parts of a command, in their order; empty where it has none."""

    def key(self, command: Any) -> str:
        """The key of the entity that the command is for."""

    def touches(self, command: Any) -> Iterable[str]:
        """Keys of other entities that the command will send messages to."""

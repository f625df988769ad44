"""What a partition sends to others: in order from entity to entity, until answered.

The journal behind it makes it at-least-once, the receiver's inbox exactly-once in effect. A few
shipments are under way to each stream, and never two with messages between the same two entities:
whichever of them is lost, or arrives first, nothing overtakes what was sent before. An
entity that has moved answers nothing itself: its former partition says so, the slot map is read
again, and everything for that entity goes on to the new place, in the order in which it was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog

from actors.durable.channel import NoAnswer
from actors.durable.records import Codec, Outcome, Sent, Shipment, Verdict
from actors.durable.routing import Router
from domain.durable import Moved

log = structlog.get_logger(__name__)

Deliver = Callable[[str, bytes], Awaitable[bytes]]
"""Bring an encoded shipment to a stream and come back with its encoded answer."""

Confirm = Callable[[Sequence[tuple[int, Verdict]]], None]

_SHIPMENT_MAX: Final = 2_000
FLIGHTS_MAX: Final = 4
"""Shipments under way to a stream."""

_RETRY_FIRST_S: Final = 0.02
_RETRY_MAX_S: Final = 0.2
_FIND_S: Final = 0.02


Address = tuple[str, str]
"""Kind and key of an entity; the kind is empty for one of the sender's own."""


Pair = tuple[str, str, str]
"""The entity that sends, then kind and key of the one that receives."""


def _address(sent: Sent[Any]) -> Address:
    return (sent.kind, sent.destination)


def _pair(sent: Sent[Any]) -> Pair:
    return (sent.source, sent.kind, sent.destination)


class _Way:
    """Where the unanswered messages to one entity go; nowhere while it is being looked for."""

    __slots__ = ("count", "stream")

    def __init__(self, stream: str | None) -> None:
        self.stream = stream
        self.count = 0


class _Line:
    """Messages waiting for one stream; ``flights`` is how many shipments are under way to it."""

    __slots__ = ("flights", "queue", "wake")

    def __init__(self) -> None:
        self.queue: deque[Sent[Any]] = deque()
        self.wake = asyncio.Event()
        self.flights = 0


class Post:
    """Messages of one stream to all others. ``confirm`` is told the outcomes."""

    def __init__(
        self,
        origin: str,
        deliver: Deliver,
        codec: Codec[Any, Any],
        router: Router,
        confirm: Confirm,
    ) -> None:
        self._origin = origin
        self._deliver = deliver
        self._codec = codec
        self._router = router
        self._confirm = confirm
        self._unsettled: dict[int, None] = {}
        self._ways: dict[Address, _Way] = {}
        self._lines: dict[str, _Line] = {}
        self._limbo: dict[Address, list[Sent[Any]]] = {}
        self._behind: dict[Pair, list[Sent[Any]]] = {}
        """Where a message between two entities is under way, those that wait for its answer."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._finding: asyncio.Task[None] | None = None

    def send(self, sent: Sent[Any]) -> None:
        """Deliver a message whose turn is durable. Call in the order of ``seq``."""
        self._unsettled[sent.seq] = None
        address = _address(sent)
        way = self._ways.get(address)
        if way is None:
            way = self._ways[address] = _Way(self._router.owner(sent.destination, sent.kind))
        way.count += 1
        behind = self._behind.get(_pair(sent))
        if behind is not None:
            behind.append(sent)
        else:
            self._route(address, way, sent)

    def settle(self, seq: int) -> None:
        """The sender has durably noted the outcome: this message will never be sent again."""
        self._unsettled.pop(seq, None)

    @property
    def low(self) -> int | None:
        """The first message that is not settled; receivers may forget all before it."""
        return next(iter(self._unsettled), None)

    def stop(self) -> None:
        """Deliver nothing more."""
        for task in (*self._tasks.values(), *self._flights):
            task.cancel()
        if self._finding is not None:
            self._finding.cancel()

    def _route(self, address: Address, way: _Way, sent: Sent[Any]) -> None:
        if way.stream is None:
            self._wait(address, sent)
        else:
            self._enqueue(way.stream, sent)

    def _enqueue(self, stream: str, sent: Sent[Any]) -> None:
        line = self._lines.get(stream)
        if line is None:
            line = self._lines[stream] = _Line()
            self._tasks[stream] = asyncio.create_task(self._pump(stream, line))
        line.queue.append(sent)
        line.wake.set()

    async def _pump(self, stream: str, line: _Line) -> None:
        while True:
            while not line.queue or line.flights >= FLIGHTS_MAX:
                line.wake.clear()
                await line.wake.wait()
            messages = self._load(line.queue)
            line.flights += 1
            flight = asyncio.create_task(self._fly(stream, line, messages))
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    def _load(self, queue: deque[Sent[Any]]) -> list[Sent[Any]]:
        """The oldest messages, up to what a shipment has room for."""
        messages = [queue.popleft() for _ in range(min(len(queue), _SHIPMENT_MAX))]
        behind = self._behind
        for message in messages:
            behind.setdefault(_pair(message), [])
        if queue:
            rest = list(queue)
            queue.clear()
            for message in rest:
                waiting = behind.get(_pair(message))
                if waiting is None:
                    queue.append(message)
                else:
                    waiting.append(message)
        return messages

    async def _fly(self, stream: str, line: _Line, messages: list[Sent[Any]]) -> None:
        """Bring a shipment to its stream, however often that takes."""
        delay = _RETRY_FIRST_S
        while messages:
            # Below ``low`` the receiver may forget. What it answered but we have not durably
            # noted would be sent again after a crash, so it counts as still on its way; and what
            # goes to others counts too, because it may have to go here tomorrow.
            low = self.low
            assert low is not None
            shipment = self._codec.encode(Shipment(self._origin, low, messages))
            try:
                outcomes = self._codec.decode_outcomes(await self._deliver(stream, shipment))
            except Exception as error:
                # Even a bug must not leave a message on its way for ever.
                expected = isinstance(error, NoAnswer | OSError)
                log.info(
                    "shipment is repeated",
                    to=stream,
                    error=f"{type(error).__name__}: {error}",
                    exc_info=not expected,
                )
                await asyncio.sleep(delay)
                delay = min(_RETRY_MAX_S, delay * 2)
                messages = await self._leave_behind(stream, line.queue, messages)
                continue
            self._answered(stream, line.queue, messages, outcomes)
            break
        line.flights -= 1
        line.wake.set()

    async def _leave_behind(
        self, stream: str, queue: deque[Sent[Any]], messages: list[Sent[Any]]
    ) -> list[Sent[Any]]:
        """Who does not answer may have been given up: what has moved is not waiting there.

        A stream that has let go of an entity takes nothing for it any more, and whatever it took
        before went along. So this is safe even while the lost shipment is still on its way.
        Returns those of ``messages`` that are to go there again.
        """
        if not await self._read_map():
            return messages
        owner = self._router.owner
        gone = {_address(m) for m in (*messages, *queue) if owner(m.destination, m.kind) != stream}
        if gone:
            moved = [message for message in messages if _address(message) in gone]
            self._look_for(stream, gone, moved, queue)
        return [message for message in messages if _address(message) not in gone]

    async def _read_map(self) -> bool:
        try:
            await self._router.load()
        except Exception as error:
            log.info("slot map is not read", error=f"{type(error).__name__}: {error}")
            return False
        return True

    def _answered(
        self,
        stream: str,
        queue: deque[Sent[Any]],
        messages: list[Sent[Any]],
        outcomes: Sequence[Outcome],
    ) -> None:
        confirmed: list[tuple[int, Verdict]] = []
        moved: list[Sent[Any]] = []
        for message, outcome in zip(messages, outcomes, strict=True):
            if type(outcome) is Moved:
                moved.append(message)
            else:
                confirmed.append((message.seq, outcome))  # type: ignore[arg-type]
        if moved:
            self._look_for(stream, {_address(message) for message in moved}, moved, queue)
        for message in messages:
            # Of those that have moved, ``_look_for`` has taken care.
            for waiting in self._behind.pop(_pair(message), ()):
                address = _address(waiting)
                self._route(address, self._ways[address], waiting)
        for message, outcome in zip(messages, outcomes, strict=True):
            if type(outcome) is not Moved:
                self._arrive(_address(message))
        if confirmed:
            self._confirm(confirmed)

    def _arrive(self, address: Address) -> None:
        way = self._ways[address]
        way.count -= 1
        if not way.count:
            del self._ways[address]

    def _look_for(
        self,
        stream: str,
        gone: set[Address],
        moved: list[Sent[Any]],
        queue: deque[Sent[Any]],
    ) -> None:
        """Everything for entities that have left a stream waits until it is known where they are.

        ``moved`` were under way to it; what waited for their answers follows them. An entity may
        have been found meanwhile: then the rest for it is there already, and they go there too.
        """
        for address in gone:
            way = self._ways[address]
            if way.stream == stream:
                way.stream = None
        rest: list[Sent[Any]] = []
        waiting = [*moved]
        for message in moved:
            waiting += self._behind.pop(_pair(message), ())
        for message in queue:
            (waiting if _address(message) in gone else rest).append(message)
        queue.clear()
        queue.extend(rest)
        for message in waiting:
            address = _address(message)
            self._route(address, self._ways[address], message)

    def _wait(self, address: Address, message: Sent[Any]) -> None:
        self._limbo.setdefault(address, []).append(message)
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._find())

    async def _find(self) -> None:
        while self._limbo:
            if await self._read_map():
                limbo, self._limbo = self._limbo, {}
                for address, messages in limbo.items():
                    kind, key = address
                    stream = self._ways[address].stream = self._router.owner(key, kind)
                    for message in messages:
                        if stream is None:
                            self._limbo.setdefault(address, []).append(message)
                        else:
                            self._enqueue(stream, message)
            # The new owner may not have taken it in yet, and say so as well.
            await asyncio.sleep(_FIND_S)

"""A network in memory: connections that are slow, cut, reset, and frames that come again.

It offers the loop's ``create_connection`` and ``create_server``, so that the runtime's own
channels speak over it. Within a connection bytes keep their order, as in TCP; what is repeated
late comes out of order, as from a sender that has long been replaced.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, cast

_HEAD = struct.Struct("<IQB")


@dataclass
class Weather:
    """How likely it is that a frame meets trouble on its way; times in seconds."""

    reset: float = 0.0
    repeated: float = 0.0
    delayed: float = 0.0
    delayed_s: float = 0.5
    late_s: float = 5.0


class Place:
    """A process: what reaches it waits while it is frozen, and nothing leaves it."""

    def __init__(self, name: str, stream: str = "") -> None:
        self.name = name
        self.stream = stream
        self.frozen = False
        self.dead = False
        self._backlog: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def run(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call now, or when the process goes on."""
        if self.frozen:
            self._backlog.append((callback, arguments))
        elif not self.dead:
            callback(*arguments)

    async def gate(self) -> None:
        """Wait until the process goes on."""
        while self.frozen:
            passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._backlog.append((_pass, (passed,)))
            await passed

    def thaw(self) -> None:
        """Go on, with all that has come meanwhile, in its order."""
        self.frozen = False
        while self._backlog and not self.frozen:
            callback, arguments = self._backlog.popleft()
            if not self.dead or callback is _pass:
                callback(*arguments)

    def handle(self, kind: int, body: bytes) -> Any:
        """Take a frame; see ``actors.durable.channel``."""
        raise TypeError(f"{self.name} takes no frames")


def _pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


class _Socket:
    """What a listener shows of itself."""

    def __init__(self, host: str, port: int) -> None:
        self._name = (host, port)

    def getsockname(self) -> tuple[str, int]:
        return self._name


class _Listener:
    def __init__(self, network: Network, host: str, port: int) -> None:
        self.sockets = [_Socket(host, port)]
        self._network = network
        self._host = host

    def close(self) -> None:
        self._network.listeners.pop(self._host, None)


class Wire(asyncio.Transport):
    """One end of a connection. What is written comes out of ``peer`` in order, later."""

    def __init__(self, network: Network, here: Place, there: Place, *, dialled: bool) -> None:
        super().__init__()
        self.network = network
        self.here = here
        self.there = there
        self.dialled = dialled
        self.peer: Wire = self
        self.protocol: Any = None
        self.ended = False
        self._last = 0.0
        self._first = True
        self._stalled: deque[bytes] = deque()

    def is_closing(self) -> bool:
        return self.ended

    def write(self, data: Any) -> None:
        self.here.run(self._send, data)

    def _send(self, data: bytes) -> None:
        if self.ended:
            return
        network = self.network
        weather, chance = network.weather, network.random.random
        if self.dialled and not self._first:
            if chance() < weather.reset:
                self.reset()
                return
            if self.there.stream and chance() < weather.repeated:
                network.loop.call_later(
                    chance() * weather.late_s, network.again, self.there.stream, data
                )
        self._first = False
        at = network.loop.time() + 0.0002 + chance() * 0.001
        if weather.delayed and chance() < weather.delayed:
            at += chance() * weather.delayed_s
        self._last = max(self._last, at)
        network.loop.call_at(self._last, self._arrive, data)

    def _arrive(self, data: bytes) -> None:
        if self.peer.ended:
            return
        if self._stalled or self.network.cut(self.here, self.there):
            self._stalled.append(data)
        else:
            self.there.run(self.peer.receive, data)

    def receive(self, data: bytes) -> None:
        """Hand bytes to the protocol."""
        if not self.ended:
            self.protocol.data_received(data)

    def flush(self) -> None:
        """The way is free again."""
        while self._stalled:
            self.there.run(self.peer.receive, self._stalled.popleft())

    def close(self) -> None:
        """End the connection; the other side learns of it later."""
        if not self.ended:
            self._end()
            self.network.loop.call_later(0.0005, self.there.run, self.peer.abort)

    def abort(self) -> None:
        """This side learns that the connection is no more."""
        if not self.ended:
            self._end()

    def reset(self) -> None:
        """Both sides lose the connection and all that is on its way."""
        for end in (self, self.peer):
            if not end.ended:
                end.here.run(end.abort)

    def _end(self) -> None:
        self.ended = True
        self.network.wires.pop(self, None)
        self.network.loop.call_soon(self.protocol.connection_lost, None)


class Network:
    """All connections between all places."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.weather = Weather()
        self.loop = asyncio.get_running_loop()
        self.listeners: dict[str, tuple[Callable[[], asyncio.BaseProtocol], Place]] = {}
        self.places: dict[str, Place] = {}
        self.wires: dict[Wire, None] = {}
        self.current: Callable[[str], Place | None] = lambda stream: None
        self.readdress: Callable[[str, int, bytes], str] = lambda stream, kind, body: stream
        self._cuts: dict[tuple[str, str], int] = {}
        self._healed: list[asyncio.Future[None]] = []

    # -- the loop's side ------------------------------------------------------------------

    async def dial(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, Any]:
        """Connect. ``host`` names the caller, too: ``caller>listener``."""
        caller, _, name = host.partition(">")
        here = self.places[caller]
        await asyncio.sleep(0.0003 + self.random.random() * 0.001)
        await here.gate()
        listener = self.listeners.get(name)
        if listener is None:
            raise ConnectionRefusedError(name)
        serve, there = listener
        while self.cut(here, there):
            healed: asyncio.Future[None] = self.loop.create_future()
            self._healed.append(healed)
            await healed
        ends = Wire(self, here, there, dialled=True), Wire(self, there, here, dialled=False)
        for end, peer, protocol in zip(ends, reversed(ends), (factory(), serve()), strict=True):
            end.peer, end.protocol = peer, cast(asyncio.Protocol, protocol)
            self.wires[end] = None
        ends[0].protocol.connection_made(ends[0])
        there.run(ends[1].protocol.connection_made, ends[1])
        return ends[0], ends[0].protocol

    def listen(self, factory: Callable[[], asyncio.BaseProtocol], host: str) -> _Listener:
        """Take connections at ``host``, the name of a place."""
        self.listeners[host] = (factory, self.places[host])
        return _Listener(self, host, 1)

    # -- trouble --------------------------------------------------------------------------

    def cut(self, here: Place, there: Place) -> bool:
        """Whether nothing passes between two places."""
        if not self._cuts:
            return False
        return _pair(here, there) in self._cuts

    def separate(self, one: str, other: str) -> None:
        """Nothing passes between two names (streams, or gateways) until ``join``."""
        pair = (min(one, other), max(one, other))
        self._cuts[pair] = self._cuts.get(pair, 0) + 1

    def join(self, one: str, other: str) -> None:
        """End one ``separate``; what was held up comes through."""
        pair = (min(one, other), max(one, other))
        self._cuts[pair] -= 1
        if not self._cuts[pair]:
            del self._cuts[pair]
            for wire in list(self.wires):
                if not self.cut(wire.here, wire.there):
                    wire.flush()
            healed, self._healed = self._healed, []
            for future in healed:
                _pass(future)

    def remove(self, place: Place) -> None:
        """A process is no more: its connections are reset."""
        place.dead = True
        place.thaw()
        self.hang_up(place)

    def hang_up(self, place: Place) -> None:
        """A process takes no connections any more, and ends those it has."""
        self.listeners.pop(place.name, None)
        for wire in list(self.wires):
            if wire.here is place:
                wire.ended = True
                self.wires.pop(wire, None)
                self.loop.call_later(0.0005, wire.there.run, wire.peer.abort)

    def again(self, stream: str, data: bytes) -> None:
        """A frame comes once more, at whoever has the stream now."""
        _, _, kind = _HEAD.unpack_from(data)
        body = data[_HEAD.size :]
        place = self.current(self.readdress(stream, kind, body))
        if place is not None and not place.dead:
            place.run(self._deliver_again, place, kind, body)

    def _deliver_again(self, place: Place, kind: int, body: bytes) -> None:
        task = asyncio.ensure_future(place.handle(kind, body))
        task.add_done_callback(_forget)


def _forget(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _pair(here: Place, there: Place) -> tuple[str, str]:
    one, other = here.stream or here.name, there.stream or there.name
    return (one, other) if one <= other else (other, one)

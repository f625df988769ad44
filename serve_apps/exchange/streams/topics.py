"""Names of streams, and who follows which.

A topic is one stream; what it says is encoded once, and the same bytes go to all its followers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from persistence.trading.queries import INTERVALS
from serve_apps.exchange.streams.wire import frames

FAST_MS: Final = 100
SLOW_MS: Final = 1_000
MARKETS: Final = ("!ticker@arr", "!miniTicker@arr", "!bookTicker")

_NAME: Final = re.compile(r"([a-z0-9]{2,20})@([A-Za-z0-9_@]{1,40})", re.ASCII)
_DEPTH: Final = re.compile(r"depth(5|10|20)?(?:@(100|1000)ms)?")
_PLAIN: Final = {
    "trade", "aggTrade", "bookTicker", "ticker", "miniTicker", "state", "heartbeat", "l3",
}  # fmt: skip


class StreamName(NamedTuple):
    """A stream: what it tells of which symbol, capitals, empty for all of them.

    ``argument`` is the interval of a candle or the number of levels, 0 for all; ``speed_ms`` how
    often it comes at most, 0 for at once.
    """

    kind: str
    symbol: str
    argument: str = ""
    speed_ms: int = 0


def parse(name: str) -> StreamName | None:
    """What a stream's name asks for; ``None`` when there is no such stream."""
    if name in MARKETS:
        return StreamName(name, "")
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    symbol, kind = match[1].upper(), match[2]
    if kind in _PLAIN:
        return StreamName(kind, symbol)
    if kind.startswith("kline_") and kind[6:] in INTERVALS:
        return StreamName("kline", symbol, kind[6:])
    if (depth := _DEPTH.fullmatch(kind)) is not None:
        speed = FAST_MS if depth[2] == "100" else SLOW_MS
        return StreamName("partial" if depth[1] else "depth", symbol, depth[1] or "", speed)
    return None


class Follower(Protocol):
    """A connection that follows streams."""

    def send(self, frames: bytes, payloads: Sequence[bytes]) -> None:
        """Send messages, given as frames too; never waits."""


class Topic:
    """One stream. ``combined`` followers get each event with the stream's name around it."""

    __slots__ = ("_head", "combined", "name", "raw")

    def __init__(self, name: str) -> None:
        self.name = name
        self.raw: set[Follower] = set()
        self.combined: set[Follower] = set()
        self._head = b'{"stream":"' + name.encode() + b'","data":'

    def __bool__(self) -> bool:
        """Whether anybody follows it."""
        return bool(self.raw or self.combined)

    def add(self, follower: Follower, *, combined: bool) -> None:
        """Send to this one from now on, in this form."""
        self.discard(follower)
        (self.combined if combined else self.raw).add(follower)

    def discard(self, follower: Follower) -> None:
        """Send to this one no more."""
        self.raw.discard(follower)
        self.combined.discard(follower)

    def send(self, payloads: Sequence[bytes]) -> None:
        """Tell all followers."""
        if self.raw:
            data = frames(payloads)
            for follower in tuple(self.raw):
                follower.send(data, payloads)
        if self.combined:
            wrapped = [self.wrap(payload) for payload in payloads]
            data = frames(wrapped)
            for follower in tuple(self.combined):
                follower.send(data, wrapped)

    def wrap(self, payload: bytes) -> bytes:
        """An event as a combined stream has it."""
        return self._head + payload + b"}"

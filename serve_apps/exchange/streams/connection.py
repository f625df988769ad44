"""One websocket of the stream server: what it asks for, and what it is answered.

Requests are few and small; who sends more, or asks for more streams than are allowed, is refused
and, if it goes on, disconnected. Whatever cannot be understood is answered with the dialect's
error and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from serve_apps.exchange.streams.board import Board
from serve_apps.exchange.streams.market import Market
from serve_apps.exchange.streams.topics import StreamName, Topic, parse
from serve_apps.exchange.streams.users import Users
from serve_apps.exchange.streams.wire import Wire, frame, wire_of

STREAMS_MAX: Final = 1_024
REQUESTS_PER_S: Final = 5.0
REQUESTS_BURST: Final = 50.0
REQUEST_SIZE_MAX: Final = 512 * 1024
METHODS: Final = (
    "SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY",
)  # fmt: skip
_LISTEN_KEY_MIN: Final = 20
_ID_MAX: Final = 36

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Server(Protocol):
    """What a connection works with."""

    @property
    def market(self) -> Market:
        """All markets."""

    @property
    def users(self) -> Users:
        """Customers' own events."""

    @property
    def customer_of(self) -> Callable[[str], Awaitable[int | None]]:
        """Whose listen key it is."""


class _Failed(Exception):
    """A request is answered with an error."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg


class Connection:
    """Follows streams for one client."""

    def __init__(self, streams: Server, scope: Scope, receive: Receive, send: Send) -> None:
        self._streams = streams
        self._scope = scope
        self._receive = receive
        self._send = send
        self._wire: Wire | None = None
        self._task = asyncio.current_task()
        self._cut = False
        self._names: dict[str, tuple[StreamName, Board | None]] = {}
        self._customers: dict[str, Callable[[], None]] = {}
        self._tokens = REQUESTS_BURST
        self._asked_at = time.monotonic()
        path: str = scope["path"]
        self.combined = path.startswith("/stream") and not path.startswith("/stream/ws")

    # -- what topics call -----------------------------------------------------------------

    def send(self, frames: bytes, payloads: Sequence[bytes]) -> None:
        """Send messages, given as frames too; never waits."""
        if self._wire is not None:
            self._wire.send(frames, payloads)

    def cut(self) -> None:
        """End the connection."""
        self._cut = True
        if self._task is not None:
            self._task.cancel()

    # -- the handler ----------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the client until it, or we, have enough."""
        message = await self._receive()
        if message["type"] != "websocket.connect":
            return
        await self._send({"type": "websocket.accept"})
        self._wire = wire_of(self._scope, self._send, self.cut)
        try:
            await self._begin()
            while await self._take(await self._receive()):
                pass
        except asyncio.CancelledError:
            if not self._cut:
                raise
        finally:
            self._leave()
            await self._wire.close()

    async def _begin(self) -> None:
        """Follow what the address names; what it names in vain is passed over, as elsewhere."""
        path: str = self._scope["path"]
        names: list[str] = []
        if self.combined:
            query = parse_qs(self._scope.get("query_string", b"").decode("latin-1"))
            for value in query.get("streams", []):
                names += value.split("/")
        else:
            names = path.removeprefix("/stream").removeprefix("/ws").split("/")
        for name in list(dict.fromkeys(names))[:STREAMS_MAX]:
            if parse(name) is not None:
                self._follow([name])
            elif len(name) >= _LISTEN_KEY_MIN:
                await self._follow_customer(name)

    async def _take(self, message: Any) -> bool:
        """Answer one message; whether to go on."""
        if message["type"] != "websocket.receive":
            return False
        if not self._may_ask():
            await self._close(1008)
            return False
        text = message.get("text")
        if text is not None and len(text) > REQUEST_SIZE_MAX:
            await self._close(1009)
            return False
        number: Any = None
        after: list[str] = []
        try:
            request = self._read(text)
            number = _id_of(request)
            result = await self._answer(request, after)
        except _Failed as failure:
            error = {"code": failure.code, "msg": failure.msg}
            self._tell(_encode({"error": error, "id": number}))
            return True
        self._tell(_encode({"result": result, "id": number}))
        self._tell_initial(after)
        return True

    async def _close(self, code: int) -> None:
        if self._wire is not None:
            self._wire.flush()
        await self._send({"type": "websocket.close", "code": code})

    def _may_ask(self) -> bool:
        now = time.monotonic()
        gained = (now - self._asked_at) * REQUESTS_PER_S
        self._tokens = min(REQUESTS_BURST, self._tokens + gained) - 1
        self._asked_at = now
        return self._tokens >= 0

    def _read(self, text: str | None) -> dict[str, Any]:
        try:
            request = _decode(text) if text is not None else None
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            request, text = None, None
        if text is None:
            raise _Failed(3, "Invalid JSON: expected value at line 1 column 1")
        if not isinstance(request, dict):
            raise _Failed(2, "Invalid request: expected an object")
        return request

    async def _answer(self, request: dict[str, Any], after: list[str]) -> Any:
        method, params = request.get("method"), request.get("params")
        if method is None:
            raise _Failed(2, "Invalid request: missing field `method` at line 1 column 1")
        if method not in METHODS:
            expected = ", ".join(f"`{name}`" for name in METHODS)
            shown = method[:40] if isinstance(method, str) else "?"
            raise _Failed(
                2, f"Invalid request: unknown variant `{shown}`, expected one of {expected}"
            )
        if method == "LIST_SUBSCRIPTIONS":
            return [*self._names, *self._customers]
        if not isinstance(params, list):
            raise _Failed(2, "Invalid request: params must be an array")
        if method == "SET_PROPERTY":
            return self._set_property(params)
        if method == "GET_PROPERTY":
            if params != ["combined"]:
                raise _Failed(0, "Unknown property")
            return self.combined
        if not all(isinstance(name, str) for name in params):
            raise _Failed(2, "Invalid request: stream names must be strings")
        if method == "UNSUBSCRIBE":
            self._unfollow(params)
            return None
        await self._subscribe(params)
        after += params
        return None

    def _set_property(self, params: list[Any]) -> None:
        if len(params) != 2 or params[0] != "combined":
            raise _Failed(0, "Unknown property")
        if not isinstance(params[1], bool):
            raise _Failed(1, "Invalid value type: expected Boolean")
        self.combined = params[1]
        for name, (stream, board) in self._names.items():
            self._topic(name, stream, board).add(self, combined=self.combined)

    async def _subscribe(self, names: list[str]) -> None:
        """All of them, or none."""
        if len(set(names) | self._names.keys()) + len(self._customers) > STREAMS_MAX:
            raise _Failed(2, f"Invalid request: at most {STREAMS_MAX} streams on a connection")
        streams = [name for name in names if parse(name) is not None]
        for name in streams:
            stream = parse(name)
            if stream and stream.symbol and self._streams.market.board(stream.symbol) is None:
                raise _Failed(2, f"Invalid request: unknown symbol in {name[:60]}")
        for name in names:
            if name not in streams:
                known = len(name) >= _LISTEN_KEY_MIN and await self._follow_customer(name)
                if not known:
                    raise _Failed(2, f"Invalid request: unknown stream {name[:60]}")
        self._follow(streams)

    # -- following ------------------------------------------------------------------------

    def _topic(self, name: str, stream: StreamName, board: Board | None) -> Topic:
        if board is None:
            return self._streams.market.market_topic(name)
        return board.topic(name, stream)

    def _follow(self, names: Iterable[str]) -> None:
        market = self._streams.market
        for name in names:
            stream = parse(name)
            if stream is None or name in self._names:
                continue
            board = market.board(stream.symbol) if stream.symbol else None
            if stream.symbol and board is None:
                continue
            self._names[name] = (stream, board)
            self._topic(name, stream, board).add(self, combined=self.combined)
            if board is not None and stream.kind in ("kline", "ticker", "miniTicker"):
                market.seed(board)

    def _tell_initial(self, names: Iterable[str]) -> None:
        for name in names:
            stream, board = self._names.get(name, (None, None))
            if stream is not None and board is not None:
                event = board.initial(stream)
                if event is not None:
                    self._tell(board.topics[name].wrap(event) if self.combined else event)

    def _unfollow(self, names: Iterable[str]) -> None:
        for name in names:
            stream, board = self._names.pop(name, (None, None))
            if stream is not None:
                self._topic(name, stream, board).discard(self)
                if board is None:
                    self._streams.market.release_market(name)
                else:
                    board.release(name)
            elif (end := self._customers.pop(name, None)) is not None:
                end()

    async def _follow_customer(self, key: str) -> bool:
        if key in self._customers:
            return True
        customer = await self._streams.customer_of(key)
        if customer is None:
            return False

        def deliver(event: bytes) -> None:
            self._tell(Topic(key).wrap(event) if self.combined else event)

        self._customers[key] = self._streams.users.subscribe(customer, deliver)
        await self._streams.users.ready(customer)
        return True

    def _leave(self) -> None:
        self._unfollow([*self._names, *self._customers])

    def _tell(self, payload: bytes) -> None:
        self.send(frame(payload), (payload,))


def _id_of(request: dict[str, Any]) -> Any:
    number = request.get("id")
    if number is None or (isinstance(number, int) and not isinstance(number, bool)):
        return number
    if isinstance(number, str) and len(number) <= _ID_MAX and number.isascii():
        return number
    raise _Failed(2, "Invalid request: request ID must be an unsigned integer")

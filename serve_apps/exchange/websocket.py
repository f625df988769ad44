"""The websocket API: requests of a connection are pipelined, and what arrives together goes on
together.

A request that trades is read and judged at once; its command waits until the loop has nothing more
to read, and then all that have gathered are one call to the customer's partition. Answers leave as
they come, many in one write; the ``id`` tells which request they are for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from domain.durable import Unavailable
from persistence.database import OUTAGES
from serve_apps.exchange import account, batch, errors, signing
from serve_apps.exchange import parameters as p
from serve_apps.exchange.batch import BatchBody, BatchFrame, Rows
from serve_apps.exchange.calls import Answer, Call, Operation, Ticket
from serve_apps.exchange.desk import Desk
from serve_apps.exchange.errors import Refused
from serve_apps.exchange.frames import (
    Id,
    Response,
    Waiting,
    binary_answer,
    encode,
    read_request,
)
from serve_apps.exchange.keys import ApiKey
from serve_apps.exchange.rest import Front
from serve_apps.exchange.streams.wire import Wire, frame, wire_of

log = structlog.get_logger("kontor.exchange")

FRAME_SIZE_MAX: Final = 1024 * 1024
WAITING_MAX: Final = 20_000
"""Requests of a connection that wait for their answers; then reading waits."""

TURN_MAX: Final = 500
"""Requests that are read before anybody else has a turn."""

RUBBISH_MAX: Final = 100
"""Frames that cannot be read; then the connection is closed."""

BEHIND_MAX: Final = 16 * 1024 * 1024
"""Bytes of answers that a client may be behind."""

DISCONNECTED_MS: Final = 1_000
"""How soon after a lost connection its orders are cancelled, if that was asked for."""

SUBSCRIPTIONS_MAX: Final = 100
CONNECT_WEIGHT: Final = 2

_POLICY: Final = 1008
_TRY_LATER: Final = 1013


class WebsocketApi:
    """Opens a session for each connection."""

    def __init__(self, desk: Desk, operations: Sequence[Operation]) -> None:
        self.desk = desk
        self.operations = {operation.name: operation for operation in operations if operation.name}
        self.batch = self.operations["order.placeBatch"]
        self._sessions: set[Session] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = Session(self, scope, receive, send)
        self._sessions.add(session)
        try:
            await session.run()
        finally:
            self._sessions.discard(session)

    async def close(self) -> None:
        """Tell everybody that this replica ends; they come back to another one."""
        event = {"event": {"e": "serverShutdown", "E": self.desk.now() // 1_000}}
        for session in list(self._sessions):
            session.tell(encode(event))


class Session:
    """One connection."""

    def __init__(self, api: WebsocketApi, scope: Scope, receive: Receive, send: Send) -> None:
        self._api = api
        self._desk = api.desk
        self._scope = scope
        self._receive = receive
        self._send = send
        self._address = Front(scope).address
        query = parse_qs(scope["query_string"].decode("latin-1"))
        self._rates_shown = query.get("returnRateLimits", ["true"])[0].lower() != "false"
        self._wire: Wire
        self._key: ApiKey | None = None
        self._logged_on_at = 0
        self._connected_at = self._desk.now()
        self._gathered: list[Waiting] = []
        self._waiting = 0
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[int, tuple[int, Callable[[], None]]] = {}
        self._subscribed = 0
        self._rubbish = 0
        self._switches: dict[tuple[int, str], Call] = {}
        self._cut = asyncio.Event()

    async def run(self) -> None:
        """Serve the connection until it ends."""
        message = await self._receive()
        if message["type"] != "websocket.connect":
            return
        try:
            self._charge(CONNECT_WEIGHT)
        except Refused:
            await self._send({"type": "websocket.close", "code": _TRY_LATER})
            return
        await self._send({"type": "websocket.accept"})
        self._wire = wire_of(self._scope, self._send, self._cut.set, behind_max=BEHIND_MAX)
        try:
            await self._read_frames()
        finally:
            for _, end in self._subscriptions.values():
                end()
            await self._fire_switches()
            await self._wire.close()

    def tell(self, payload: bytes) -> None:
        """Send a text frame."""
        self._wire.send(frame(payload), (payload,))

    async def _read_frames(self) -> None:
        count = 0
        while not self._wire.gone:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is not None:
                await self._on_text(text)
            else:
                await self._on_binary(message["bytes"])
            if self._rubbish > RUBBISH_MAX:
                with contextlib.suppress(RuntimeError):
                    await self._send({"type": "websocket.close", "code": _POLICY})
                return
            count += 1
            if self._waiting >= WAITING_MAX:
                self._room.clear()
                await self._room.wait()
            elif count % TURN_MAX == 0:
                await asyncio.sleep(0)

    # -- requests -------------------------------------------------------------------------

    async def _on_text(self, text: str) -> None:
        try:
            if len(text) > FRAME_SIZE_MAX:
                raise ValueError("too long")
            request = read_request(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            self._rubbish += 1
            self._refuse(None, self._of_rubbish("Invalid JSON Request"), {})
            return
        params = request.params
        try:
            method = request.method.removeprefix("v3/")
            special = _SPECIAL.get(method)
            if special is not None:
                await special(self, request.id, params)
                return
            operation = self._api.operations.get(method)
            if operation is None:
                raise Refused(-1020, "This operation is not supported.", 404)
            call = await self._admit(operation, params)
            if operation.batch:
                call.content = self._batch_body(params)
            self._start(operation, request.id, call, binary=False)
        except Refused as error:
            self._refuse(request.id, error, params)
        except OUTAGES as error:
            log.error("outage", method=request.method[:40], error=repr(error))
            self._refuse(request.id, errors.unavailable(), params)

    async def _on_binary(self, content: bytes) -> None:
        """A batch in MessagePack. There is nothing else in binary frames."""
        number: Id = None
        try:
            if len(content) > FRAME_SIZE_MAX:
                raise ValueError("too long")
            try:
                body: BatchFrame = batch.read_frame(content)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                self._rubbish += 1
                raise self._of_rubbish("Invalid MessagePack request") from None
            number = body.id
            call = await self._admit(self._api.batch, {})
            call.content = body
            self._start(self._api.batch, number, call, binary=True)
        except Refused as error:
            self._refuse_binary(number, error)
        except ValueError:
            self._rubbish += 1
            self._refuse_binary(number, self._of_rubbish("Invalid MessagePack request"))
        except OUTAGES as error:
            log.error("outage", method="batch", error=repr(error))
            self._refuse_binary(number, errors.unavailable())

    def _of_rubbish(self, text: str) -> Refused:
        """What cannot be read costs as much as what can."""
        try:
            self._charge(1)
        except Refused as error:
            return error
        return Refused(-1135, text)

    def _batch_body(self, params: p.Parameters) -> BatchBody:
        asked = {name: params[name] for name in ("symbol", "rows", "orders") if name in params}
        try:
            return msgspec.convert(asked, BatchBody)
        except msgspec.ValidationError as error:
            raise Refused(-1130, f"Data sent for parameter 'rows' is not valid: {error}") from error

    async def _admit(self, operation: Operation, params: p.Parameters) -> Call:
        """Count a request and find out whose it is. Raises ``Refused``."""
        desk = self._desk
        access = operation.access
        if access == "anyone":
            self._charge(operation.cost(params))
            return self._call(params, None, "")
        given = params.get("apiKey")
        mark = ""
        if given is None and self._key is not None:
            key = await signing.find_key(desk.services.api_keys, self._key.key)
            if "timestamp" in params:
                signing.check_time(params, desk.now())
        else:
            key, mark = await self._signed(params)
        if access == "trade":
            desk.limits.charge_requests(key.user)
        else:
            self._charge(operation.cost(params), key)
        if not key.may("trade" if access == "trade" else "read", self._address):
            raise signing.rejected_key()
        return self._call(params, key, mark)

    async def _signed(self, params: p.Parameters) -> tuple[ApiKey, str]:
        """Whose signature a request has. Raises ``Refused``."""
        try:
            key = await signing.find_key(self._desk.services.api_keys, p.text(params, "apiKey"))
            signing.check_time(params, self._desk.now())
            signature = p.text(params, "signature")
            signing.check_signature(key, p.canonical(params), signature)
        except Refused:
            self._charge(1)  # guessing is not free
            raise
        return key, signature

    def _call(self, params: p.Parameters, key: ApiKey | None, mark: str) -> Call:
        call = Call(params, self._desk.now(), key=key, mark=mark)
        call.address = self._address
        return call

    def _charge(self, weight: int, key: ApiKey | None = None) -> None:
        key = key or self._key
        name = self._address or (f"user {key.user}" if key is not None else "")
        self._desk.limits.charge(name, weight)

    def _start(self, operation: Operation, number: Id, call: Call, *, binary: bool) -> None:
        """Carry out what needs nothing to wait for; what trades gathers, the rest is a task."""
        if operation.order is None:
            assert operation.ask is not None
            self._run(self._ask(operation, number, call))
            return
        result = operation.order(self._desk, call)
        if type(result) is not Ticket:
            self._answer(number, call, result, binary)
            return
        if operation.name == "order.cancelAfter":
            self._note_switch(call)
        self._gathered.append(Waiting(number, result, call, binary))
        self._waiting += 1
        if len(self._gathered) == 1:
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        """Send on what has gathered."""
        gathered, self._gathered = self._gathered, []
        self._run(self._carry(gathered))

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, gathered: list[Waiting]) -> None:
        commands = [waiting.ticket.command for waiting in gathered]
        replies: Sequence[Any]
        try:
            replies = await self._desk.services.accounts.call_many(commands)
        except (*OUTAGES, asyncio.CancelledError) as error:
            log.error("orders_without_answer", count=len(commands), error=repr(error))
            replies = [Unavailable("no answer")] * len(commands)
        frames: list[bytes] = []
        payloads: list[bytes] = []
        for waiting, reply in zip(gathered, replies, strict=True):
            result, refused = _result(waiting, reply)
            if waiting.binary:
                payload = binary_answer(waiting.id, result, refused)
                frames.append(frame(payload, binary=True))
            else:
                payload = self._payload(waiting.id, waiting.call, result, refused)
                frames.append(frame(payload))
            payloads.append(payload)
        self._waiting -= len(gathered)
        if self._waiting < WAITING_MAX:
            self._room.set()
        if gathered[0].binary or gathered[-1].binary:
            for waiting, bytes_, payload in zip(gathered, frames, payloads, strict=True):
                self._wire.send(bytes_, (payload,), binary=waiting.binary)
        else:
            self._wire.send(b"".join(frames), payloads)

    async def _ask(self, operation: Operation, number: Id, call: Call) -> None:
        assert operation.ask is not None
        try:
            result = await operation.ask(self._desk, call)
        except Refused as error:
            self._refuse(number, error, call.params, call)
            return
        except OUTAGES as error:
            log.error("outage", method=operation.name, error=repr(error))
            self._refuse(number, errors.unavailable(), call.params, call)
            return
        except Exception:
            log.exception("request_failed", method=operation.name)
            self._refuse(number, errors.failure(500), call.params, call)
            return
        self._answer(number, call, result, binary=False)

    # -- answers --------------------------------------------------------------------------

    def _answer(self, number: Id, call: Call, result: Any, binary: bool) -> None:
        if binary:
            payload = binary_answer(number, result, None)
            self._wire.send(frame(payload, binary=True), (payload,), binary=True)
        else:
            self.tell(self._payload(number, call, result, None))

    def _refuse(
        self, number: Id, error: Refused, params: p.Parameters, call: Call | None = None
    ) -> None:
        self.tell(self._payload(number, call or self._call(params, self._key, ""), None, error))

    def _refuse_binary(self, number: Id, error: Refused) -> None:
        payload = binary_answer(number, None, error)
        self._wire.send(frame(payload, binary=True), (payload,), binary=True)

    def _payload(self, number: Id, call: Call, result: Any, refused: Refused | None) -> bytes:
        status = 200
        response = Response(number, status)
        if refused is not None:
            response.status = refused.status
            response.error = refused.body
            if refused.retry_after_s:
                now = call.now // 1_000
                again = now + refused.retry_after_s * 1_000
                response.error.data = {"serverTime": now, "retryAfter": again}
        elif type(result) is Answer:
            response.status, response.error = result.status, result.body
        elif type(result) is Rows:
            response.result = {"transactTime": result.at // 1_000, "rows": result.rows}
        else:
            response.result = result
        shown = call.params.get("returnRateLimits", self._rates_shown)
        if shown is True or shown == "true":
            response.rate_limits = self._rates(call)
        return encode(response)

    def _rates(self, call: Call) -> list[dict[str, Any]]:
        limits = self._desk.limits
        rates: list[dict[str, Any]] = []
        if call.count is not None:
            rates = account.order_rates(limits.settings, call.count)
        key = self._key
        name = self._address or (f"user {key.user}" if key is not None else "")
        rates.append(
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": limits.settings.weight_1m,
                "count": limits.weight(name),
            }
        )
        return rates

    # -- sessions and user streams --------------------------------------------------------

    async def _log_on(self, number: Id, params: p.Parameters) -> None:
        key, _ = await self._signed(params)
        self._charge(2, key)
        if not key.may("read", self._address):
            raise signing.rejected_key()
        self._key, self._logged_on_at = key, self._desk.now()
        await self._status(number, params)

    async def _status(self, number: Id, params: p.Parameters) -> None:
        key = self._key
        result = {
            "apiKey": None if key is None else key.key,
            "authorizedSince": None if key is None else self._logged_on_at // 1_000,
            "connectedSince": self._connected_at // 1_000,
            "returnRateLimits": self._rates_shown,
            "serverTime": self._desk.now() // 1_000,
            "userDataStream": bool(self._subscriptions),
        }
        self._answer(number, self._call(params, key, ""), result, binary=False)

    async def _log_out(self, number: Id, params: p.Parameters) -> None:
        self._key = None
        await self._status(number, params)

    async def _subscribe(self, number: Id, params: p.Parameters) -> None:
        if params.get("apiKey") is None and self._key is not None:
            key = await signing.find_key(self._desk.services.api_keys, self._key.key)
        else:
            key, _ = await self._signed(params)
        self._charge(2, key)
        if not key.may("read", self._address):
            raise signing.rejected_key()
        if any(user == key.user for user, _ in self._subscriptions.values()):
            raise Refused(-2035, "User Data Stream subscription already active.")
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise Refused(-2042, "Maximum subscription ID reached for this connection.")
        subscription = self._subscribed
        self._subscribed += 1
        head = b'{"subscriptionId":%d,"event":' % subscription

        def deliver(event: bytes) -> None:
            self.tell(head + event + b"}")

        users = self._desk.services.user_streams
        self._subscriptions[subscription] = (key.user, users.subscribe(key.user, deliver))
        await users.ready(key.user)
        result = {"subscriptionId": subscription}
        self._answer(number, self._call(params, key, ""), result, binary=False)

    async def _unsubscribe(self, number: Id, params: p.Parameters) -> None:
        chosen = p.integer(params, "subscriptionId")
        ended = list(self._subscriptions) if chosen is None else [chosen]
        if not all(one in self._subscriptions for one in ended):
            raise Refused(-2036, "User Data Stream subscription not active.")
        for one in ended:
            _, end = self._subscriptions.pop(one)
            end()
        self._answer(number, self._call(params, self._key, ""), {}, binary=False)

    async def _list(self, number: Id, params: p.Parameters) -> None:
        result = [{"subscriptionId": one} for one in self._subscriptions]
        self._answer(number, self._call(params, self._key, ""), result, binary=False)

    # -- the dead man's switch of a connection --------------------------------------------

    def _note_switch(self, call: Call) -> None:
        """Remember what is to be cancelled when the connection is lost."""
        place = (call.user, p.text(call.params, "symbol"))
        if p.flag(call.params, "onDisconnect") and p.integer(call.params, "countdownTime"):
            self._switches[place] = call
        else:
            self._switches.pop(place, None)

    async def _fire_switches(self) -> None:
        for call in self._switches.values():
            params = {**call.params, "countdownTime": DISCONNECTED_MS}
            order = self._api.operations["order.cancelAfter"].order
            assert order is not None
            again = Call(params, self._desk.now(), key=call.key)
            ticket = order(self._desk, again)
            with contextlib.suppress(*OUTAGES):
                await self._desk.services.accounts.call(ticket.command)


def _result(waiting: Waiting, reply: Any) -> tuple[Any, Refused | None]:
    """What a reply means to the client; whatever goes wrong, nobody may wait for ever."""
    try:
        return waiting.ticket.answer(reply), None
    except Refused as error:
        return None, error
    except Exception:
        log.exception("answer_failed")
        return None, errors.failure(500)


_SPECIAL: Final = {
    "session.logon": Session._log_on,
    "session.status": Session._status,
    "session.logout": Session._log_out,
    "session.subscriptions": Session._list,
    "userDataStream.subscribe": Session._subscribe,
    "userDataStream.subscribe.signature": Session._subscribe,
    "userDataStream.unsubscribe": Session._unsubscribe,
}
"""What concerns the connection itself."""

"""REST of the dialect: one short path from an ASGI request to its answer.

Order of the checks: is there such an operation, weight, key, time, signature, permission; then
the operation's own. Plain ASGI, as every order pays for what stands in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from persistence.database import OUTAGES
from serve_apps.exchange import batch, errors, signing
from serve_apps.exchange import parameters as p
from serve_apps.exchange.batch import Rows
from serve_apps.exchange.calls import Answer, Call, Operation, Ticket
from serve_apps.exchange.desk import Desk
from serve_apps.exchange.errors import Refused
from serve_apps.exchange.keys import ApiKey
from serve_apps.gateway import caching

log = structlog.get_logger("kontor.exchange")

BODY_SIZE_MAX: Final = 64 * 1024
BATCH_SIZE_MAX: Final = 1024 * 1024
QUERY_SIZE_MAX: Final = 16 * 1024
JSON: Final = b"application/json"
MSGPACK: Final = b"application/msgpack"

_SERVER_TIME: Final = re.compile(rb'"serverTime":[0-9]+,')
_encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode

Header = tuple[bytes, bytes]


class Front:
    """What is read of the head of a request."""

    __slots__ = ("address", "content_type", "if_none_match", "key")

    def __init__(self, scope: Scope) -> None:
        self.key = ""
        self.content_type = b""
        self.if_none_match: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"x-mbx-apikey":
                self.key = value.decode("latin-1")
            elif name == b"content-type":
                self.content_type = value.lower()
            elif name == b"if-none-match":
                self.if_none_match = value
        client = scope.get("client")  # as the application's front has found it
        self.address: str = client[0] if client else ""


class Rest:
    """Answers requests of the dialect."""

    def __init__(self, desk: Desk, operations: Sequence[Operation]) -> None:
        self._desk = desk
        self._operations = {
            (operation.method, path): operation
            for operation in operations
            for path in operation.path.split()
        }
        self._paths = {path for _, path in self._operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        front = Front(scope)
        headers: list[Header] = []
        try:
            answer = await self._answer(scope, receive, front, headers)
        except Refused as error:
            answer = Answer(error.body, error.status)
            if error.retry_after_s:
                headers.append((b"retry-after", b"%d" % error.retry_after_s))
        except OUTAGES as error:
            log.error("outage", path=scope["path"], error=repr(error))
            answer = Answer(errors.unavailable().body, 503)
            headers.append((b"retry-after", b"1"))
        await _respond(scope, send, answer, headers)

    async def _answer(
        self, scope: Scope, receive: Receive, front: Front, headers: list[Header]
    ) -> Answer:
        method, path = scope["method"], scope["path"]
        operation = self._operations.get((method, path))
        if operation is None:
            if path in self._paths:
                raise Refused(-1020, "This operation is not supported.", 405)
            raise Refused(-1020, "This operation is not supported.", 404)
        query = scope["query_string"]
        if len(query) > QUERY_SIZE_MAX:
            raise Refused(-1101, "Too many parameters sent for this endpoint.", 414)
        size_max = BATCH_SIZE_MAX if operation.batch else BODY_SIZE_MAX
        body = b"" if method == "GET" else await _read(receive, size_max)
        call = await self._admit(operation, front, query, body, headers)
        if operation.access != "anyone":
            scope["kontor.user"] = call.user
        if operation.order is None:
            assert operation.ask is not None
            result = await operation.ask(self._desk, call)
        else:
            result = operation.order(self._desk, call)
            if type(result) is Ticket:
                reply = await self._desk.services.accounts.call(result.command)
                result = result.answer(reply)
        if call.count is not None:
            headers.append((b"x-mbx-order-count-10s", b"%d" % call.count.in_10s))
            headers.append((b"x-mbx-order-count-1d", b"%d" % call.count.in_1d))
        if operation.fresh_s:
            return _public(result, operation.fresh_s, front, headers)
        if type(result) is Answer:
            return result
        if type(result) is Rows and front.content_type.startswith(MSGPACK):
            return Answer(_encode_msgpack(result), 200, MSGPACK)
        return Answer(result)

    async def _admit(
        self,
        operation: Operation,
        front: Front,
        query: bytes,
        body: bytes,
        headers: list[Header],
    ) -> Call:
        """Read the request, count it, and find out whose it is. Raises ``Refused``."""
        desk = self._desk
        params = p.from_form(query, b"" if operation.batch else body)
        now = desk.now()
        key: ApiKey | None = None
        cost = operation.cost(params)
        if operation.access == "anyone":
            self._charge(front.address, cost, headers)
            call = Call(params, now)
        else:
            if front.address:
                self._charge(front.address, 0 if operation.access == "trade" else cost, headers)
            elif desk.services.api_keys.known(front.key) is None:
                desk.limits.charge("", 1)  # looking for a key is not free
            key = await signing.find_key(desk.services.api_keys, front.key)
            mark = ""
            if operation.access != "key":
                mark = self._prove(key, params, front, query, body, now)
            # Only who has proved to be the customer uses what the customer may use up.
            if operation.access == "trade":
                desk.limits.charge_requests(key.user)
            else:
                desk.limits.charge_key(key.id, cost)
            if not front.address:
                weight = 0 if operation.access == "trade" else cost
                self._charge(f"user {key.user}", weight, headers)
            if not key.may("trade" if operation.access == "trade" else "read", front.address):
                raise signing.rejected_key()
            call = Call(params, now, key=key, mark=mark)
        call.address = front.address
        if operation.batch:
            call.content = batch.read_body(body, front.content_type)
        return call

    def _prove(
        self,
        key: ApiKey,
        params: p.Parameters,
        front: Front,
        query: bytes,
        body: bytes,
        now: int,
    ) -> str:
        """Check time and signature; the signature. Failing costs. Raises ``Refused``."""
        try:
            signing.check_time(params, now)
            payload, signature = p.split_signature(query, body)
            signing.check_signature(key, payload, signature)
        except Refused:
            self._desk.limits.charge(front.address, 1)
            raise
        return signature

    def _charge(self, name: str, weight: int, headers: list[Header]) -> None:
        used = self._desk.limits.charge(name, weight)
        headers.append((b"x-mbx-used-weight", b"%d" % used))
        headers.append((b"x-mbx-used-weight-1m", b"%d" % used))


def _public(result: Any, fresh_s: int, front: Front, headers: list[Header]) -> Answer:
    """An answer that everybody may keep; empty for whoever has it already.

    The server's own time does not count: with it no two answers would be the same.
    """
    body = result.body if type(result) is Answer else _encode(result)
    tag = b"W/" + caching.tag_of(_SERVER_TIME.sub(b"", body, count=1))
    headers += caching.marks(tag, fresh_s)
    known = caching.is_known(tag.removeprefix(b"W/"), front.if_none_match)
    return Answer(b"", 304) if known else Answer(body)


async def _read(receive: Receive, size_max: int) -> bytes:
    message = await receive()
    content: bytes = message.get("body", b"")
    while message.get("more_body"):
        if len(content) > size_max:
            break
        message = await receive()
        content += message.get("body", b"")
    if len(content) > size_max:
        raise Refused(-1101, "Too many parameters sent for this endpoint.", 413)
    return content


async def _respond(scope: Scope, send: Send, answer: Answer, headers: list[Header]) -> None:
    body = answer.body
    if type(body) is not bytes:
        body = _encode(body)
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", answer.content_type),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})

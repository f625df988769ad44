"""How an API request is handled: one short path for all operations.

An operation is declared once, in a table; from the declaration come the route, the checks made
before its handler runs (method, who asks, whose resource, content type, idempotency key, body)
and its description in OpenAPI. Starlette matches the path; no framework stands in between, since
this path carries thousands of transfers a second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import AsyncGeneratorType
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import msgspec
import pydantic
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain.durable import Rejection, Unavailable
from domain.identity.permissions import Permission
from persistence.audit import Actor
from serve_apps.gateway import caching
from serve_apps.gateway.limits import UNKNOWN_SESSION_COST
from serve_apps.identity import Client, client_of
from serve_apps.paths import read_number
from serve_apps.permissions import permits
from serve_apps.problems import CONTENT_TYPE, problem, status_of
from serve_apps.security import Security
from serve_apps.services import Services
from serve_apps.sessions import Principal
from serve_apps.staff import actor_of

Access = Literal["anyone", "user", "owner"]
KeyRule = Literal["none", "optional", "required"]
Header = tuple[bytes, bytes]

KEY_LENGTH_MAX: Final = 255
FORM_FIELDS_MAX: Final = 50
BODY_SIZE_MAX: Final = 64 * 1024
CSRF_HEADER: Final = b"x-csrf-token"

_JSON: Final = b"application/json"
_MSGPACK: Final = b"application/msgpack"
_FORM: Final = b"application/x-www-form-urlencoded"
_BEARER: Final = b"Bearer "

encode_json: Final = msgspec.json.Encoder().encode
encode_msgpack: Final = msgspec.msgpack.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """What a handler says.

    ``body`` is anything that msgspec can write, bytes as they are, or a generator of pieces.
    """

    body: Any
    status: int = 200
    headers: Sequence[Header] = ()
    content_type: bytes = _JSON


class Call:
    """A request that has passed the checks of its operation."""

    __slots__ = ("body", "headers", "key", "limits", "params", "principal", "scope", "services")

    def __init__(self, services: Services, scope: Scope) -> None:
        self.services = services
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: dict[str, str] = scope["path_params"]
        self.key: str | None = None
        self.body: Any = None
        self.limits: Sequence[Header] = ()
        self.principal: Principal

    @property
    def user(self) -> int:
        """Whose request it is."""
        return self.principal.user

    def number(self, name: str) -> int | None:
        """The number in the path of this name, if there can be a row of it."""
        return read_number(self.params[name])

    @property
    def address(self) -> str:
        """Where it comes from, as the application's front has found; empty when unknown."""
        client = self.scope.get("client")
        return client[0] if client else ""

    @property
    def request(self) -> Request:
        """The request as Starlette sees it, for what is rarely needed."""
        return Request(self.scope)

    @property
    def client(self) -> Client:
        """Whose program it comes from, and from where."""
        return client_of(self.request)

    @property
    def actor(self) -> Actor:
        """Whoever asks, as the audit log names them."""
        return actor_of(self.principal, self.request)

    def query(self, known: Sequence[str]) -> dict[str, str] | Rejection:
        """The parameters of the query; one that is not known, or given twice, is refused."""
        pairs = parse_qsl(
            self.scope["query_string"].decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=FORM_FIELDS_MAX,
        )
        values = dict(pairs)
        for name in values:
            if name not in known:
                return Rejection("malformed_query", {"parameter": name[:40]})
        return values if len(values) == len(pairs) else Rejection("malformed_query")


Outcome = Answer | Rejection | Unavailable
Handler = Callable[[Call], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query, for the description."""

    name: str
    description: str
    example: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the API can do.

    ``access``: anyone, any user, or only the user in the path (to others it does not exist);
    ``permission``: unless it is for anyone, only for who may do this (to others it does not exist
    either).
    ``body`` and ``answer`` are msgspec structs where many requests are expected, else pydantic
    models. ``codes`` are the rejections that are its own. ``cost`` is what a request uses of the
    limits (``serve_apps.gateway.limits``). With ``fresh_s`` the answer is the same for everybody,
    and may be kept for so long.
    """

    name: str
    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    access: Access = "owner"
    permission: Permission = Permission.OWN
    description: str = ""
    body: type | None = None
    body_example: Any = None
    body_size_max: int = BODY_SIZE_MAX
    msgpack: bool = False
    status: int = 200
    answer: Any = None
    answer_example: Any = None
    answer_type: str = "application/json"
    key: KeyRule = "none"
    parameters: tuple[Parameter, ...] = ()
    codes: tuple[str, ...] = ()
    cost: int = 1
    fresh_s: int = 0

    @property
    def restricted(self) -> bool:
        """Whether not everybody who has signed up may do it."""
        return self.access != "anyone" and self.permission is not Permission.OWN


class Resource:
    """All operations of one path, as an ASGI application."""

    def __init__(self, services: Services, operations: Sequence[Operation]) -> None:
        self._services = services
        self._operations = {
            operation.method: (operation, _decoder_of(operation.body)) for operation in operations
        }
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]
        self._allow = ", ".join(sorted(self._operations)).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._operations.get(scope["method"])
        if found is None:
            outcome: Outcome = Rejection("method_not_allowed")
            await respond(scope, send, outcome, ((b"allow", self._allow),))
            return
        operation, decode = found
        call = Call(self._services, scope)
        refused = await self._check(operation, call)
        if refused is None and decode is not None:
            refused = await _read_body(operation, decode, call, receive)
        outcome = refused or await operation.handler(call)
        if operation.fresh_s and type(outcome) is Answer and outcome.status == 200:
            outcome = _public(operation, call, outcome)
        await respond(scope, send, outcome, call.limits)

    async def _check(self, operation: Operation, call: Call) -> Rejection | None:
        gate = self._services.gate
        if operation.access == "anyone":
            told = gate.charge_address(call.address, operation.cost)
            call.limits = told.headers
            if told.refused is not None:
                return told.refused
        else:
            principal = await self._authenticate(operation.method, call)
            if isinstance(principal, Rejection):
                told = gate.charge_address(call.address, UNKNOWN_SESSION_COST)
                call.limits = told.headers
                return told.refused or principal
            told = gate.charge_member(principal.session_id, principal.user, operation.cost)
            call.limits = told.headers
            if told.refused is not None:
                return told.refused
            call.principal = principal
            call.scope["kontor.user"] = principal.user
            if operation.access == "owner" and call.params["user"] != str(principal.user):
                return Rejection("not_found")
            if not permits(principal, operation.permission):
                return Rejection("not_found")
        if operation.key != "none":
            key = call.headers.get(b"idempotency-key")
            if key is None:
                if operation.key == "required":
                    return Rejection("idempotency_key_required")
            elif not 1 <= len(key) <= KEY_LENGTH_MAX or not (text := _printable(key)):
                return Rejection("idempotency_key_invalid")
            else:
                call.key = text
        return None

    async def _authenticate(self, method: str, call: Call) -> Principal | Rejection:
        """By bearer token; or, for scripts of our own pages, by the browser's session."""
        security: Security = self._services.security
        authorization = call.headers.get(b"authorization")
        if authorization is not None:
            token = authorization[len(_BEARER) :].strip().decode("latin-1")
            principal = None
            if self._services.gate.exhausted(call.address) and not security.remembers(token):
                return Rejection("unauthenticated")
            if authorization[: len(_BEARER)].title() == _BEARER:
                principal = await security.bearer(token)
            return principal or Rejection("unauthenticated")
        if b"cookie" not in call.headers:
            return Rejection("unauthenticated")
        request = call.request
        principal = await security.current(request)
        if principal is None:
            return Rejection("unauthenticated")
        if method not in ("GET", "HEAD"):
            sent = call.headers.get(CSRF_HEADER, b"").decode("latin-1")
            if not security.form_valid(request, principal, sent):
                return Rejection("form_expired")
        return principal


Decoder = Callable[[bytes, bytes], Any]


def _decoder_of(body: type | None) -> Decoder | None:
    """How a body of a content type becomes ``body``.

    ``KeyError`` for a type that is not understood; otherwise the errors of msgspec and pydantic.
    """
    if body is None:
        return None
    if issubclass(body, pydantic.BaseModel):
        model = body

        def by_pydantic(content: bytes, kind: bytes) -> Any:
            if kind == _FORM:
                return model.model_validate(_form_fields(content))
            if kind != _JSON:
                raise KeyError(kind)
            return model.model_validate(msgspec.json.decode(content))

        return by_pydantic
    from_json = msgspec.json.Decoder(body).decode
    from_msgpack = msgspec.msgpack.Decoder(body).decode

    def by_msgspec(content: bytes, kind: bytes) -> Any:
        if kind == _JSON:
            return from_json(content)
        if kind == _FORM:
            return msgspec.convert(_form_fields(content), body, strict=False)
        if kind != _MSGPACK:
            raise KeyError(kind)
        return from_msgpack(content)

    return by_msgspec


def _form_fields(content: bytes) -> dict[str, str]:
    pairs = parse_qsl(
        content.decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
    )
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is given twice")
    return fields


async def _read_body(
    operation: Operation, decode: Decoder, call: Call, receive: Receive
) -> Rejection | None:
    message = await receive()
    content: bytes = message.get("body", b"")
    while message.get("more_body"):
        if len(content) > operation.body_size_max:
            break
        message = await receive()
        content += message.get("body", b"")
    if len(content) > operation.body_size_max:
        return Rejection("body_too_large", {"size_max": str(operation.body_size_max)})
    kind = call.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind == _MSGPACK and not operation.msgpack:
        return Rejection("unsupported_media_type", {"content_type": "application/msgpack"})
    try:
        call.body = decode(content, kind)
    except KeyError:
        return Rejection("unsupported_media_type", {"content_type": kind.decode("latin-1")[:80]})
    except msgspec.ValidationError as error:
        return Rejection("body_invalid", {"detail": str(error)})
    except pydantic.ValidationError as error:
        fields = {
            ".".join(map(str, item["loc"])) or "body": item["msg"]
            for item in error.errors(include_url=False, include_context=False)
        }
        return Rejection("body_invalid", fields)
    except ValueError as error:  # msgspec.DecodeError, UnicodeDecodeError, a bad form
        return Rejection("malformed_body", {"detail": str(error)[:200]})
    return None


def _printable(key: bytes) -> str | None:
    text = key.decode("latin-1")
    return text if text.isascii() and text.isprintable() else None


async def respond(
    scope: Scope, send: Send, outcome: Outcome, headers: Sequence[Header] = ()
) -> None:
    """Send an outcome: as it is, or as a problem document."""
    answer = outcome if type(outcome) is Answer else _problem_answer(outcome)
    body = answer.body
    if type(body) is AsyncGeneratorType:
        await _stream(send, answer, body, headers)
        return
    if type(body) is not bytes:
        body = encode_msgpack(body) if answer.content_type == _MSGPACK else encode_json(body)
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [
                (b"content-type", answer.content_type),
                (b"content-length", str(len(body)).encode()),
                *answer.headers,
                *headers,
            ],
        }
    )
    if scope["method"] == "HEAD":
        body = b""
    await send({"type": "http.response.body", "body": body})


def _public(operation: Operation, call: Call, answer: Answer) -> Answer:
    """An answer that everybody may keep; empty for whoever has it already."""
    body = encode_json(answer.body)
    tag = caching.tag_of(body)
    headers = [*answer.headers, *caching.marks(tag, operation.fresh_s)]
    if caching.is_known(tag, call.headers.get(b"if-none-match")):
        return Answer(b"", 304, headers)
    return Answer(body, 200, headers)


async def _stream(
    send: Send, answer: Answer, pieces: AsyncIterator[bytes], headers: Sequence[Header]
) -> None:
    """Send a body whose length is not known beforehand."""
    named = [(b"content-type", answer.content_type), *answer.headers, *headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": named})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _problem_answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, Unavailable):
        outcome = Rejection("outcome_unknown")
    assert isinstance(outcome, Rejection)
    status = status_of(outcome.code)
    headers: list[Header] = []
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="kontor"'))
    if status in (429, 503):
        headers.append((b"retry-after", outcome.fields.get("retry_after", "1").encode()))
    return Answer(problem(outcome), status, headers, CONTENT_TYPE)


def make_routes(services: Services, operations: Sequence[Operation]) -> list[Route]:
    """A route for each path, in the order of the operations: put the busiest first."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    return [
        Route(path, Resource(services, members), name=members[0].name)
        for path, members in by_path.items()
    ]

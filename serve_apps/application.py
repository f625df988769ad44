"""The ASGI application of a replica: API, live connections and pages behind one front.

The front gives each request an id, each answer its security headers and its line in the log,
bounds bodies, and turns what was not foreseen into an answer. It is plain ASGI, as each layer here
is paid for by every request.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from domain.durable import Rejection
from persistence.database import OUTAGES
from serve_apps import identity
from serve_apps.access_log import AccessLog
from serve_apps.api.routes import routes as api_routes
from serve_apps.api.routing import Answer, respond
from serve_apps.canary import Meter
from serve_apps.exchange.errors import failure, outcome_unknown
from serve_apps.exchange.mount import PREFIXES, Exchange
from serve_apps.gateway.cors import Cors
from serve_apps.gateway.front import Reader, remember
from serve_apps.gateway.watch import ANSWER_LATE, BODY_LATE, UnderWay, Watch
from serve_apps.live import Live
from serve_apps.pages.errors import error_page
from serve_apps.pages.routes import routes as page_routes
from serve_apps.security import page_policy
from serve_apps.services import AppConfig, Job, Services, connect_accounts

__all__ = ["AppConfig", "Application", "Services", "build", "connect_accounts"]

log = structlog.get_logger("kontor.http")

_CODES: Final = {
    400: "malformed_body",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    503: "unavailable",
}


async def refresh_rates(services: Services) -> None:
    """Background job: fetch new exchange rates when it is time to."""
    await services.rates.refresh(services.now())


JOBS: Final[Mapping[str, Job]] = {
    "finish_openings": identity.finish_openings,
    "purge": identity.purge,
    "refresh_rates": refresh_rates,
    "send_resets": identity.send_resets,
}


def build(config: AppConfig) -> Application:
    """The application of one replica. Nothing is connected before its lifespan starts."""
    return Application(Services(config))


class Application:
    """Answers everything that reaches a replica."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._live = Live(services)
        self._exchange = Exchange(services)
        self._router = Router(
            [
                *api_routes(services),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                *page_routes(services),
            ],
            default=_nowhere,
        )
        config = services.config
        self._reader = Reader(config.via_header, config.forwarded_hops)
        self._access_log = AccessLog(config.access_log)
        self._log_access = bool(config.access_log)
        self._meter = Meter(config.side)
        self._body_size_max = config.body_size_max
        self._cors = Cors(config.cors_origins)
        self._watch = Watch(config.body_s, config.answer_s)
        self._draining = False
        self._api_headers = _headers(config, page=False)
        self._page_headers = _headers(config, page=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        is_live = scope["path"].startswith("/socket.io")
        if kind == "http" and not is_live:
            await self._http(scope, receive, send)
            return
        head = self._reader.read(scope["headers"], scope.get("client"), bodiless=True)
        scope["client"] = (head[2], 0)
        if is_live:
            await self._live.app(scope, receive, send)
        else:
            await self._exchange.websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        bodiless = scope["method"] in ("GET", "HEAD")
        given_id, length, address = self._reader.read(
            scope["headers"], scope.get("client"), bodiless=bodiless
        )
        scope["client"] = (address, 0)
        request_id = given_id or secrets.token_hex(8).encode()
        request_text = request_id.decode()
        remember(request_text)
        path = scope["path"]
        is_exchange = path.startswith(PREFIXES)
        is_api = is_exchange or path.startswith("/api/")
        extra = self._api_headers if is_api else self._page_headers
        status = size = 0
        allowed = self._cors.admit(scope) if is_api and self._cors else None
        if allowed is not None:
            extra = (*extra, *allowed)
        request = self._watch.begin(started)

        async def send_front(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                request.answering = True
                status = message["status"]
                headers = message["headers"] = list(message["headers"])
                present = {name for name, _ in headers}
                headers += [header for header in extra if header[0] not in present]
                if not given_id:  # else whoever gave it answers it, as Serve does
                    headers.append((b"x-request-id", request_id))
                if is_api and self._cors:
                    headers.append((b"vary", b"origin"))
            await send(message)

        if not bodiless:
            receive = request.watched(receive)
        try:
            if allowed is not None and self._cors.is_preflight(scope):
                await _empty(send_front, 204, self._cors.preflight(allowed))
            else:
                await self._carry_out(scope, receive, send_front, length, request)
        finally:
            self._watch.end(request)
            if self._meter.release:
                self._meter.count(status, time.perf_counter() - started)
            if self._log_access:
                seconds = time.perf_counter() - started
                self._access_log.note(scope, status, size, seconds, request_text)

    async def _carry_out(
        self, scope: Scope, receive: Receive, send: Send, length: int | None, request: UnderWay
    ) -> None:
        """Answer a request, whatever happens meanwhile; raises only what nobody can be told."""
        if length is None or length > self._body_size_max:
            bounded = _bounded(receive, self._body_size_max)
        else:
            bounded = receive
        try:
            if length is not None and length > self._body_size_max:
                raise HTTPException(413)
            if scope["path"].startswith(PREFIXES):
                await self._exchange.rest(scope, bounded, send)
            else:
                await self._router(scope, bounded, send)
        except asyncio.CancelledError:
            if not request.over or request.task is None or request.task.uncancel():
                raise
            log.error("request_ended", path=scope["path"], status=request.over)
            await self._late(scope, receive, send, request.over)
        except HTTPException as error:
            if request.answering:
                raise
            await self._fail(scope, receive, send, error.status_code, error.headers)
        except MultiPartException:
            if request.answering:
                raise
            await self._fail(scope, receive, send, 400, None)
        except OUTAGES as error:
            log.error("outage", path=scope["path"], error=repr(error))
            if request.answering:
                raise
            await self._fail(scope, receive, send, 503, {"retry-after": "1"})
        except Exception:
            log.exception("request_failed", path=scope["path"])
            if request.answering:
                raise
            await self._fail(scope, receive, send, 500, None)

    async def _fail(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        status: int,
        headers: Mapping[str, str] | None,
    ) -> None:
        if scope["path"].startswith(PREFIXES):
            answer = Answer(failure(status).body, status)
            await respond(scope, send, answer)
            return
        if scope["path"].startswith("/api/"):
            code = _CODES.get(status, "internal_error")
            given = [
                (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
            ]
            given = [header for header in given if header[0] != b"retry-after"]
            await respond(scope, send, Rejection(code), given)
            return
        response = await error_page(self.services, Request(scope, receive), status)
        response.headers.update(headers or {})
        await response(scope, receive, send)

    async def _late(self, scope: Scope, receive: Receive, send: Send, status: int) -> None:
        """Answer a request that was ended: what may have moved something has no known outcome."""
        moves = scope["method"] not in ("GET", "HEAD")
        path = scope["path"]
        if status == ANSWER_LATE and moves and path.startswith(PREFIXES):
            refused = outcome_unknown()
            await respond(scope, send, Answer(refused.body, refused.status))
        elif status == ANSWER_LATE and moves and path.startswith("/api/"):
            await respond(scope, send, Rejection("outcome_unknown"))
        else:
            headers = [("connection", "close")] if status == BODY_LATE else [("retry-after", "1")]
            await self._fail(scope, receive, send, status, dict(headers))

    async def _livez(self, request: Request) -> Any:
        """The process answers."""
        return _Json({"status": "ok"})

    async def _readyz(self, request: Request) -> Any:
        """Everything that is needed is there, and will be."""
        if self._draining:
            return _Json({"status": "draining"}, 503)
        missing = await self.services.ready()
        if missing:
            return _Json({"status": "missing", "missing": missing}, 503)
        return _Json({"status": "ok"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if self._log_access:
                self._access_log.open()
            self._watch.open()
            await self.services.open(JOBS)
            await self._exchange.start()
            await self._live.start()
            self._meter.start(self.services.redis)
        except Exception as error:
            log.exception("not_started")
            await send({"type": "lifespan.startup.failed", "message": repr(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._draining = True
        try:
            await self._meter.stop(self.services.redis)
            await self._live.stop()
            await self._exchange.stop()
            await self.services.close()
            await self._watch.close()
            await self._access_log.close()
        except Exception as error:
            log.exception("not_stopped")
            await send({"type": "lifespan.shutdown.failed", "message": repr(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


class _Json:
    """A response for the two health checks."""

    def __init__(self, body: object, status: int = 200) -> None:
        self._answer = Answer(body, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope, send, self._answer)


async def _empty(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)


def _bounded(receive: Receive, size_max: int) -> Receive:
    size = 0

    async def receive_bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > size_max:
            raise HTTPException(413)
        return message

    return receive_bounded


def _headers(config: AppConfig, *, page: bool) -> tuple[tuple[bytes, bytes], ...]:
    """What each answer carries unless it says otherwise itself."""
    policy = "default-src 'none'; frame-ancestors 'none'"
    if page:
        policy = page_policy(config.public_url)
    headers = [
        (b"cache-control", b"no-store"),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    ]
    if page:
        headers.append((b"permissions-policy", b"camera=(), geolocation=(), microphone=()"))
    if config.side != "stable":
        headers.append((b"x-kontor-version", config.side.encode()))
    if config.secure_cookies:
        headers.append((b"strict-transport-security", b"max-age=31536000"))
    return tuple(headers)

"""Live connections of open pages: what happened to a customer's money shows at once.

Partitions publish to Redis after their commit; each replica listens, as long as it has
connections, and passes on what concerns them. What happens to orders and to the brokerage's funds
comes from the streams' hub, as it does for trading programs. Best effort: a page that misses
something reads the truth when it reconnects. Notifications are another matter: a page that says
the last number it has seen misses none and is told none twice (``serve_apps.notification_feed``).
May use Redis, the sessions and that hub, and nothing of the pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import socketio
import structlog
from redis.exceptions import RedisError

from actors.live import CHANNEL, decode_live
from actors.notifications.announcing import CHANNEL as TOLD
from domain.identity.permissions import Permission
from persistence.database import OUTAGES
from persistence.notifications import Notification
from persistence.tasks import end_tasks
from serve_apps.notification_feed import Feed
from serve_apps.notifications import live_payload
from serve_apps.permissions import permits
from serve_apps.services import Services
from serve_apps.sessions import Principal

log = structlog.get_logger("kontor.live")

PATH: Final = "socket.io"
CONNECTIONS_MAX: Final = 20
"""How many pages of one customer one replica keeps connected."""
RECHECK_S: Final = 20.0
LINGER_S: Final = 5.0
"""How long a replica goes on listening after its last page has gone; most are back at once."""
SUBSCRIBE_S: Final = 1.0
OWN_EVENTS_MAX: Final = 1_000
"""Own events that wait to be sent to pages; beyond that pages read the truth when they look."""
BACK_OFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

_ORDER: Final = {
    "symbol": "s",
    "orderId": "i",
    "clientOrderId": "c",
    "side": "S",
    "type": "o",
    "status": "X",
    "price": "p",
    "origQty": "q",
    "executedQty": "z",
    "lastPrice": "L",
    "lastQty": "l",
}
"""What pages are told of an order, and where it is in an execution report."""


class Proof(NamedTuple):
    """Who a page belongs to, and what it showed for that: a browser's cookies, or an API token."""

    user: int
    cookie: str
    token: str


class Live:
    """The live connections of one replica."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._pages: dict[int, set[str]] = {}
        self._proofs: dict[str, Proof] = {}
        self._followed: dict[int, Callable[[], None]] = {}
        self._own: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(OWN_EVENTS_MAX)
        self._tasks: list[asyncio.Task[None]] = []
        self._resuming: set[asyncio.Task[None]] = set()
        self._feed = Feed(services, self._bring)
        self._opened = asyncio.Event()
        self._listening = asyncio.Event()
        self._left_at = 0.0
        self._server = socketio.AsyncServer(
            async_mode="asgi",
            transports=["websocket"],
            cors_allowed_origins=self._origin_allowed,
            max_http_buffer_size=4_096,
            logger=False,
            engineio_logger=False,
        )
        self._server.on("connect", self._connect)
        self._server.on("disconnect", self._disconnect)
        self.app: Final = socketio.ASGIApp(self._server, socketio_path=PATH)

    async def start(self) -> None:
        """Listen to what partitions publish."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._recheck()),
            asyncio.create_task(self._tell_own()),
        ]
        await self._feed.start()

    async def stop(self) -> None:
        """Tell pages nothing more.

        Whoever runs this closes their connections, and they come back to another replica. Told that
        they are disconnected, they would stay away.
        """
        await self._feed.stop()
        await end_tasks([*self._tasks, *self._resuming])
        await self._server.shutdown()

    def _origin_allowed(self, origin: str | None, environ: dict[str, Any]) -> bool:
        return self._services.security.origin_allowed(origin, environ.get("HTTP_HOST", ""))

    async def _connect(self, page: str, environ: dict[str, Any], auth: object = None) -> None:
        said = auth if isinstance(auth, dict) else {}
        since, token = said.get("since"), said.get("token", "")
        if not (since is None or type(since) is int) or not isinstance(token, str):
            raise socketio.exceptions.ConnectionRefusedError("malformed_auth")
        cookie = environ.get("HTTP_COOKIE", "")
        try:
            principal = await self._principal(cookie, token)
            if principal is None:
                raise socketio.exceptions.ConnectionRefusedError("unauthenticated")
            position = await self._feed.position(principal.user, since)
        except OUTAGES as error:
            raise socketio.exceptions.ConnectionRefusedError("unavailable") from error
        pages = self._pages.setdefault(principal.user, set())
        if len(pages) >= CONNECTIONS_MAX:
            raise socketio.exceptions.ConnectionRefusedError("too_many_connections")
        pages.add(page)
        self._proofs[page] = Proof(principal.user, cookie, token)
        self._follow(principal.user)
        self._opened.set()
        # What happens from now on shall be heard; without Redis the page is let in all the same.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_S):
                await self._listening.wait()
        await self._server.enter_room(page, _room(principal.user))
        resuming = asyncio.create_task(self._resume(page, principal.user, position))
        self._resuming.add(resuming)
        resuming.add_done_callback(self._resuming.discard)

    async def _principal(self, cookie: str, token: str) -> Principal | None:
        security = self._services.security
        known = await (security.bearer(token) if token else security.from_cookie_header(cookie))
        return known if permits(known, Permission.OWN) else None

    async def _resume(self, page: str, user: int, position: int) -> None:
        """Tell a page that has just been let in where it goes on, and then what follows."""
        await self._server.emit("resumed", {"last": position}, to=page)
        if page in self._proofs:
            self._feed.join(page, user, position)

    async def _bring(self, page: str, rows: Sequence[Notification]) -> None:
        await self._server.emit("notifications", live_payload(rows), to=page)

    async def _disconnect(self, page: str, reason: str = "") -> None:
        user = self._proofs.pop(page, Proof(0, "", "")).user
        self._feed.leave(page, user)
        pages = self._pages.get(user)
        if pages is not None:
            pages.discard(page)
            if not pages:
                del self._pages[user]
                self._followed.pop(user, lambda: None)()
                self._left_at = time.monotonic()

    async def _listen(self) -> None:
        """Pass on what is published; when Redis is away, ask for it again less and less often."""
        failures = 0
        while True:
            await self._opened.wait()
            try:
                async with self._services.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL, TOLD)
                    await channel.get_message(timeout=SUBSCRIBE_S)
                    failures = 0
                    self._listening.set()
                    while self._pages or time.monotonic() - self._left_at < LINGER_S:
                        message = await channel.get_message(timeout=LINGER_S)
                        if message is None:
                            continue
                        if message["channel"] == TOLD.encode():
                            self._feed.hear(message["data"])
                        else:
                            await self._pass_on(message["data"])
                    self._opened.clear()
                    self._listening.clear()
            except (RedisError, OSError) as error:
                pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
                failures += 1
                log.warning("live_channel_lost", error=repr(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                with contextlib.suppress(RedisError, OSError):
                    await self._services.redis.ping()
            finally:
                self._listening.clear()

    async def _pass_on(self, data: bytes) -> None:
        try:
            events = decode_live(data, self._pages.__contains__)
        except msgspec.DecodeError as error:
            log.warning("live_message_unreadable", error=str(error))
            return
        for user, kind, payload in events:
            await self._server.emit(kind, payload, room=_room(user))

    def _follow(self, user: int) -> None:
        """Hear what happens to the customer's orders and funds, as long as a page is open."""

        def deliver(event: bytes) -> None:
            with contextlib.suppress(asyncio.QueueFull):
                self._own.put_nowait((user, event))

        if user not in self._followed:
            self._followed[user] = self._services.user_streams.subscribe(user, deliver)

    async def _tell_own(self) -> None:
        while True:
            user, data = await self._own.get()
            event = msgspec.json.decode(data)
            if event["e"] == "executionReport":
                order = {name: str(event[key]) for name, key in _ORDER.items()}
                await self._server.emit("order", order, room=_room(user))
            else:
                await self._server.emit("balance", {}, room=_room(user))

    async def _recheck(self) -> None:
        """End the connections of sessions that have ended meanwhile."""
        while True:
            await asyncio.sleep(RECHECK_S)
            for page, proof in list(self._proofs.items()):
                try:
                    principal = await self._principal(proof.cookie, proof.token)
                except OUTAGES as error:
                    log.warning("sessions_not_rechecked", error=repr(error))
                    break
                if principal is None:
                    await self._server.disconnect(page)


def _room(user: int) -> str:
    return f"user:{user}"

"""Each permission tried by each role on every route: REST, pages, trading API, websockets.

The cases are made from the route table of the running application, in which each handler is
replaced by one that merely says that it was reached: what is tried is the way to it. What is open
to everybody is listed here, and nothing else is open.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from domain.identity.permissions import (
    CONSOLE,
    CUSTOMER,
    GIVEN,
    ROLES,
    Permission,
    granted,
)
from persistence import identity as store
from persistence import roles
from serve_apps import permissions
from serve_apps.api.routing import Answer, Call, Operation, Outcome, Resource
from serve_apps.application import Application, build
from serve_apps.exchange.table import OPERATIONS as TRADING
from serve_apps.pages.visit import Door, Visit
from serve_apps.sessions import new_token, token_hash
from tests.serve_apps.browser import Browser
from tests.serve_apps.inprocess import lifespan, make_config, weaken_passwords

OPEN_OPERATIONS = {
    "sign_up",
    "login",
    "complete_login",
    "ask_password_reset",
    "reset_password",
    "verify_email",
    "search_instruments",
    "show_instrument",
}
OPEN_PAGES = {
    "GET /",
    "GET /login",
    "POST /login",
    "GET /login/code",
    "POST /login/code",
    "GET /signup",
    "POST /signup",
    "GET /logout",
    "POST /logout",
    "GET /reset",
    "POST /reset",
    "GET /reset/new",
    "POST /reset/new",
    "GET /verify",
    "POST /verify",
    "GET /unsubscribe",
    "POST /unsubscribe",
    "GET /markets",
    "GET /markets/{symbol}",
    "GET /trade",
    "GET /trade/{symbol}",
}
DEVELOPMENT_PAGES = {"GET /dev/mail", "GET /dev/mail/{mail}/", "GET /dev/mail/{mail}/html"}
"""Only there where development catches mail."""

OPEN_OTHERS = {
    "/livez",
    "/readyz",
    "/api/docs",
    "/api/docs/init.js",
    "/api/openapi.json",
    "/favicon.ico",
    "/static",
}
OPEN_TRADING = {
    "ping", "time", "exchangeInfo", "depth", "trades.recent", "trades.historical",
    "trades.aggregate", "klines", "uiKlines", "avgPrice", "ticker.24hr", "ticker.price",
    "ticker.book",
}  # fmt: skip
"""Market data, by name on the websocket."""

OPEN_TRADING_PATHS = {
    "/fapi/v1/exchangeInfo /dapi/v1/exchangeInfo /eapi/v1/exchangeInfo",
    "/sapi/v1/margin/allPairs /sapi/v1/margin/isolated/allPairs",
    "/api/v3/openapi.json",
}

REACHED = "reached"
ELSEWHERE = "9999999999"
"""A customer number that is nobody's."""


class Way(NamedTuple):
    """One method of one route, and what it takes to come through."""

    name: str
    method: str
    path: str
    kind: str
    access: str
    permission: Permission

    def to(self, user: str) -> str:
        """The address for a user, with anything for the other parameters."""
        return re.sub(r"\{user[^}]*\}", user, re.sub(r"\{(?!user)\w+[^}]*\}", "1", self.path))

    def open_to(self, held: frozenset[Permission]) -> bool:
        """Whether somebody who is logged in and holds these comes through."""
        return self.access == "anyone" or self.permission in held


async def _say(call: Call) -> Outcome:
    return Answer({"said": REACHED})


async def _show(visit: Visit) -> Response:
    return PlainTextResponse(REACHED)


def ways_of(app: Application) -> tuple[list[Way], set[str]]:
    """All guarded ways in, their handlers replaced, and the paths of what has no guard."""
    ways: list[Way] = []
    others: set[str] = set()
    for route in app._router.routes:
        assert isinstance(route, Route | Mount), route
        endpoint: Any = getattr(route, "endpoint", None)
        door = getattr(endpoint, "__self__", None)
        if isinstance(endpoint, Resource):
            for method, (operation, _) in dict(endpoint._operations).items():
                if method != "HEAD":
                    ways.append(_operation_way(endpoint, method, operation))
        elif isinstance(door, Door):
            assert isinstance(route, Route)
            (method,) = (route.methods or set()) - {"HEAD"}
            door._page = _show
            name = f"{method} {route.path}"
            ways.append(Way(name, method, route.path, "page", door.access, door.permission))
        else:
            others.add(route.path)
    return ways, others


def _operation_way(resource: Resource, method: str, operation: Operation) -> Way:
    probe = replace(operation, handler=_say, body=None, key="none")
    resource._operations[method] = (probe, None)
    return Way(
        operation.name, method, operation.path, "api", operation.access, operation.permission
    )


class Told(NamedTuple):
    """What a request was answered."""

    status: int
    headers: dict[bytes, bytes]
    text: str


async def ask(app: Application, method: str, path: str, headers: dict[str, str]) -> Told:
    """One request, straight to the application: there are thousands."""
    start: dict[str, Any] = {}
    body = b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal body
        if message["type"] == "http.response.start":
            start.update(message)
        body += message.get("body", b"")

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "scheme": "http", "http_version": "1.1", "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.1", 1), "server": ("kontor.test", 80), "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return Told(start["status"], dict(start["headers"]), body.decode())


class Site(NamedTuple):
    """The application, its ways in, and a browser by role."""

    app: Application
    ways: list[Way]
    others: set[str]
    browsers: dict[str, Browser]

    async def reaches(self, way: Way, browser: Browser, user: str) -> bool:
        """Whether a request comes through; else what is there must not be told."""
        headers = {"sec-fetch-site": "same-origin"}
        if browser.home:
            headers["cookie"] = f"kontor_session={browser.http.cookies['kontor_session']}"
            headers["x-csrf-token"] = "csrf"
        answer = await ask(self.app, way.method, way.to(user), headers)
        if REACHED in answer.text:
            assert answer.status == 200
            return True
        self._kept_out(way, answer, logged_in=bool(browser.home))
        return False

    def _kept_out(self, way: Way, answer: Told, *, logged_in: bool) -> None:
        if logged_in:
            assert answer.status == 404, (way, answer.status)
            assert way.kind == "page" or json.loads(answer.text)["code"] == "not_found"
        elif way.kind == "api":
            assert answer.status == 401, way
            assert json.loads(answer.text)["code"] == "unauthenticated"
        else:
            assert answer.status == 303, way
            assert answer.headers[b"location"].startswith(b"/login"), way


async def let_in(app: Application, browser: Browser, user: int) -> None:
    """Somebody who has signed up and is logged in; what they have is of no matter here."""
    services, token = app.services, new_token()
    await store.add_user(
        services.pool, user=user, email=f"{user}@example.com", name="Somebody",
        password_hash="none", now=services.now(),
    )  # fmt: skip
    session = store.NewSession(
        token_hash(token), "browser", user, "csrf", services.now(),
        services.now() + timedelta(hours=1), 3_600, "", "",
    )  # fmt: skip
    await services.sessions.start(session)
    browser.http.cookies["kontor_session"] = token
    browser.home = f"/user/{user}/"


@pytest.fixture
async def site(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    """Somebody in each role, and ``nobody``."""
    # Thousands of pages that say 404 need no template.
    monkeypatch.setattr(Visit, "error", lambda visit, status, *_: PlainTextResponse("", status))
    config = make_config(database_url, redis_url, mail_dir=str(tmp_path), static_dir=str(tmp_path))
    app = build(config)
    weaken_passwords(app)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(lifespan(app))
        browsers = {}
        for number, role in enumerate(("nobody", CUSTOMER, *GIVEN)):
            browsers[role] = await stack.enter_async_context(Browser(app))
            if role == "nobody":
                continue
            user = 1_000_000_000 + number
            await let_in(app, browsers[role], user)
            if role != CUSTOMER:
                await roles.grant(app.services.pool, user, role, "a test")
        await app.services.sessions.read_revocations()
        yield Site(app, *ways_of(app), browsers)


def _number(browser: Browser) -> int:
    return int(browser.home.split("/")[2])


async def test_nothing_is_open_that_is_not_listed_as_open(site: Site) -> None:
    operations = {way.name for way in site.ways if way.kind == "api" and way.access == "anyone"}
    pages = {way.name for way in site.ways if way.kind == "page" and way.access == "anyone"}
    assert operations == OPEN_OPERATIONS
    assert pages == OPEN_PAGES | DEVELOPMENT_PAGES
    assert site.others == OPEN_OTHERS
    for way in site.ways:
        assert ("{user" in way.path) == (way.access == "owner"), way
    open_trading = {item.name or item.path for item in TRADING if item.access == "anyone"}
    assert open_trading == OPEN_TRADING | OPEN_TRADING_PATHS


async def test_each_role_on_each_route(site: Site) -> None:
    """What the table says a role may do is what whoever holds it can reach."""
    tried = 0
    for role, browser in site.browsers.items():
        held = frozenset() if role == "nobody" else granted(frozenset({CUSTOMER, role}))
        user = str(_number(browser)) if browser.home else ELSEWHERE
        for way in site.ways:
            assert await site.reaches(way, browser, user) == way.open_to(held), (role, way)
            tried += 1
    assert tried == len(site.ways) * len(site.browsers)


async def test_nobody_reaches_what_belongs_to_somebody_else(site: Site) -> None:
    owned = [way for way in site.ways if way.access == "owner"]
    other = str(_number(site.browsers[CUSTOMER]))
    for role in GIVEN:
        for way in owned:
            assert not await site.reaches(way, site.browsers[role], other), (role, way)


async def test_each_permission_opens_its_routes_and_no_others(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all permissions but one, and with this one alone."""
    browser = site.browsers[CUSTOMER]
    user = str(_number(browser))
    for permission in Permission:
        for held in (frozenset(Permission) - {permission}, frozenset({permission})):
            monkeypatch.setattr(permissions, "granted", lambda roles, held=held: held)
            for way in site.ways:
                if permission in held or way.permission is permission:
                    assert await site.reaches(way, browser, user) == way.open_to(held), way


def test_every_permission_is_asked_for_somewhere() -> None:
    """By a route or, for the machine itself, by a command."""
    from cluster.cli.permissions import COMMANDS

    app = build(make_config("postgresql://nowhere/none", "redis://nowhere"))
    asked = {way.permission for way in ways_of(app)[0]} | set(COMMANDS.values())
    assert asked == set(Permission)
    held = {permission for role in ROLES for permission in ROLES[role]}
    assert held == set(Permission)
    people = {permission for role in GIVEN for permission in ROLES[role]}
    assert people == set(Permission) - {Permission.OWN, Permission.PLATFORM_RUN} | {Permission.OWN}


def test_an_auditor_changes_nothing_and_a_machine_checks_nothing() -> None:
    changing = {
        Permission.ACCOUNTS_FREEZE, Permission.LIMITS_SET, Permission.ADJUSTMENTS_PROPOSE,
        Permission.ADJUSTMENTS_APPROVE, Permission.ROLES_GRANT, Permission.MARKET_ADMINISTER,
        Permission.MAIL_RESEND, Permission.CANARY_RUN, Permission.PLATFORM_RUN,
    }  # fmt: skip
    assert not ROLES["auditor"] & changing
    assert not ROLES[CONSOLE] & {Permission.ADJUSTMENTS_PROPOSE, Permission.ADJUSTMENTS_APPROVE}
    app = build(make_config("postgresql://nowhere/none", "redis://nowhere"))
    for way in ways_of(app)[0]:
        if way.permission in ROLES["auditor"] and way.permission is not Permission.OWN:
            assert way.method == "GET", way
    assert granted(frozenset({"emperor"})) == frozenset()


# -- the trading API and the websockets -----------------------------------------------------


async def test_the_trading_api_wants_a_key(site: Site) -> None:
    http = site.browsers["nobody"].http
    for operation in TRADING:
        for path in operation.path.split():
            answer = await http.request(operation.method, path)
            if operation.access == "anyone":
                assert answer.status_code not in (401, 403), answer.text
            else:
                assert answer.json()["code"] in (-2014, -2015), (path, answer.text)


async def ask_socket(app: Application, path: str, request: dict[str, Any]) -> Any:
    """One question on a websocket of its own."""
    come: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": json.dumps({"id": 1, **request})},
    ]
    said: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, Any]:
        if come:
            return come.pop(0)
        await asyncio.wait([said])
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        if message["type"] != "websocket.accept" and not said.done():
            said.set_result(message)

    scope = {
        "type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [], "client": ("192.0.2.1", 1), "subprotocols": [], "scheme": "ws",
        "asgi": {"version": "3.0"}, "state": {}, "root_path": "", "server": ("kontor.test", 80),
        "extensions": {},
    }  # fmt: skip
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return said.result()


async def test_the_websocket_api_wants_a_key(site: Site) -> None:
    for operation in TRADING:
        if not operation.name or operation.access == "anyone":
            continue
        answer = await ask_socket(site.app, "/ws-api/v3", {"method": operation.name, "params": {}})
        assert answer["type"] == "websocket.send", (operation.name, answer)
        said = json.loads(answer.get("text") or answer["bytes"])
        assert said["error"]["code"] in (-2014, -2015), (operation.name, said)


async def test_there_are_no_other_websockets(site: Site) -> None:
    for path in ("/", "/office/", "/operations/", "/api/office/role/"):
        answer = await ask_socket(site.app, path, {"method": "SUBSCRIBE", "params": []})
        assert answer["type"] == "websocket.close", path


async def test_pages_connections_need_the_permission(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    cookies = site.browsers[CUSTOMER].http.cookies
    header = "; ".join(f"{name}={cookies[name]}" for name in cookies)
    live = site.app._live
    assert await live._principal(header, "") is not None
    assert await live._principal("", "") is None
    assert await live._principal("", "kontor_" + "x" * 43) is None
    monkeypatch.setattr(permissions, "granted", lambda roles: frozenset(Permission) - {"own.use"})
    assert await live._principal(header, "") is None

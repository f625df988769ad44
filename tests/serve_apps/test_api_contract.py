"""The API keeps what its description promises, for requests that nobody thought of.

schemathesis makes them from the OpenAPI document, well-formed ones and broken ones. Whatever is
asked, the answer is one that is described: a status, a content type and a body of the operation's
own, and never a failure of ours. What names something (accounts, instruments, orders) names
something real in most requests, since otherwise all would end at the first door.

The same requests are made each time. ``KONTOR_API_EXAMPLES=500`` makes more of them than
``make test`` has time for.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import threading
import uuid
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from domain.identity.permissions import ROLES
from domain.trading.commands import InstrumentReply, ListInstrument
from persistence import roles
from serve_apps.api.openapi import description
from serve_apps.api.routes import OPERATIONS
from serve_apps.application import Application, build
from serve_apps.exchange import openapi as trading
from serve_apps.exchange import table
from serve_apps.exchange.keys import MadeKey, make_key
from tests.serve_apps.exchange.venue import ABOUT, RULES, now_ms, sign
from tests.serve_apps.inprocess import (
    PASSWORD,
    http_client,
    lifespan,
    make_config,
    weaken_passwords,
)

EXAMPLES: Final = int(os.environ.get("KONTOR_API_EXAMPLES", "4"))
"""Well-formed requests of each operation; there are as many broken ones."""

CHECKED: Final[list[Any]] = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)
TRADED: Final = msgspec.structs.replace(RULES, base="ETH")
"""What the trading API is asked about; the other one may be halted and delisted on the way."""

BASE: Final = "http://kontor.test"
ORDER: Final = {
    "orderId": "1",
    "interval": "1m",
    "quantity": "0.001",
    "price": "1000.00",
    "limit": "5",
    "fromId": "1",
    "recvWindow": "5000",
    "timestamp": "0",
    "newQty": "0.0005",
}
"""What requests of the trading API may name; the time is that of sending."""

_Result = TypeVar("_Result")


@schemathesis.serializer("application/msgpack")
def encode_msgpack(context: Any, value: Any) -> bytes:
    """How a body is sent as MessagePack; what that has no integers for, as it stands."""
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:
        return msgspec.json.encode(value)


class Stage:
    """A running application in a thread, and somebody who may do everything there."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._config = make_config(database_url, redis_url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.real: dict[str, str] = {}
        self.key = self.secret = ""
        self._app: Application
        self._http: httpx.AsyncClient
        self._token = ""

    def start(self) -> None:
        """Start, and make what requests will name."""
        self._thread.start()
        self.run(self._begin())

    def stop(self) -> None:
        """Stop."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run something where the application runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _begin(self) -> None:
        self._app = build(self._config)
        weaken_passwords(self._app)
        self._life = lifespan(self._app)
        await self._life.__aenter__()
        self._http = http_client(self._app)
        for rules in (RULES, TRADED):
            number = uuid.uuid4().bytes
            listed = ListInstrument(number, number, rules.symbol, rules, ABOUT)
            assert isinstance(await self._app.services.books.call(listed), InstrumentReply)
        await self._app.services.catalogue.refresh()
        await self.enter()

    async def _end(self) -> None:
        await self._http.aclose()
        await self._life.__aexit__(None, None, None)

    async def enter(self) -> None:
        """Sign somebody up who may do everything, with something of each kind."""
        name = uuid.uuid4().hex
        form = {"email": f"{name}@example.com", "name": "Ann", "password": PASSWORD}
        answer = (await self._http.post("/api/signup/", json=form)).json()
        self._token = answer["token"]
        user = answer["user"]["id"]
        pool = self._app.services.pool
        for role in ROLES:
            if role not in ("customer", "console"):
                await roles.grant(pool, int(user), role, "the test")
        await self._app.services.sessions.read_revocations()
        path = f"/api/user/{user}/"
        accounts = (await self._ask("GET", path))["accounts"]
        dollars, euros = (item["id"] for item in accounts if item["currency"] in ("USD", "EUR"))
        sent = {"from": dollars, "to": euros, "amount": "1.00"}
        transfer = await self._ask("POST", path + "transaction/", sent)
        hold = {"account": dollars, "amount": "1.00"}
        held = await self._ask("POST", path + "hold/", hold)
        sessions = await self._ask("GET", path + "session/")
        key = await self._ask("POST", path + "api-key/", {"label": "one", "scopes": ["read"]})
        now = self._app.services.now()
        made = await make_key(pool, self._config.secret_key, int(user), "two", now=now)
        assert isinstance(made, MadeKey)
        self.key, self.secret = made.key, made.secret
        self.real = {
            "user": user,
            "account": dollars,
            "from": dollars,
            "to": euros,
            "transfer": transfer["id"],
            "hold": held["id"],
            "session": sessions["sessions"][0]["id"],
            "key": str(key["id"]),
            "amount": "1.00",
            "currency": "USD",
            "symbol": RULES.symbol,
            "order": "1",
            **ORDER,
            "password": PASSWORD,
            "email": form["email"],
        }

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self._token}", "idempotency-key": uuid.uuid4().hex}
        answer = await self._http.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def send(self, prepared: requests.PreparedRequest) -> httpx.Response:
        """Send a request, with a token of somebody who still has a session."""
        for _ in range(2):
            headers = dict(prepared.headers)
            headers.setdefault("authorization", f"Bearer {self._token}")
            answer = await self._http.request(
                prepared.method or "GET",
                (prepared.url or "").removeprefix(BASE) or "/",
                headers=[(name.encode(), _bytes(value)) for name, value in headers.items()],
                content=_bytes(prepared.body or b""),
            )
            if answer.status_code != 401:
                break
            await self.enter()
        return answer


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def stage(shared_database_url: str, redis_url: str) -> Iterator[Stage]:
    """An application for all tests of this module."""
    opened = Stage(shared_database_url, redis_url)
    opened.start()
    yield opened
    opened.stop()


def own(document: dict[str, Any]) -> OpenApiSchema:
    """A description that shares nothing with the application's: requests are made by changing
    the examples in it."""
    return schemathesis.openapi.from_dict(json.loads(json.dumps(document)))


DOCUMENT: Final = own(description(OPERATIONS))
TRADING: Final = own(trading.description(table.OPERATIONS))
PLACES: Final = (
    *((DOCUMENT, item.path, item.method) for item in OPERATIONS),
    *((TRADING, path, item.method) for item in table.OPERATIONS for path in item.path.split()),
)


def modes(document: OpenApiSchema, path: str, method: str) -> list[GenerationMode]:
    """Well-formed requests, and broken ones where there is something to break."""
    raw = document[path][method].definition.raw
    broken = raw.get("parameters") or raw.get("requestBody") or document is DOCUMENT
    return list(GenerationMode) if broken else [GenerationMode.POSITIVE]


def made_real(case: Case[Any], stage: Stage, choice: int) -> None:
    """Name what is there, in three of four places."""
    case.body = copy.deepcopy(case.body)  # may be the description's example itself
    places: list[tuple[dict[str, Any], str]] = []
    for container in (case.path_parameters, case.query, case.body):
        if isinstance(container, dict):
            places += [(container, name) for name in container if name in stage.real]
    for index, (container, name) in enumerate(places):
        if name in ("user", "timestamp") or (choice >> 2 * index) & 3:
            container[name] = stage.real[name]
        if name == "symbol" and case.operation.schema is TRADING:
            container[name] = TRADED.symbol


def prepared(case: Case[Any], stage: Stage) -> requests.PreparedRequest:
    """The request as it is sent; one of the trading API has a signature unless it is broken."""
    arguments = case.as_transport_kwargs(base_url=BASE)
    known = ("method", "url", "params", "headers", "data", "json", "cookies", "files")
    request = requests.Request(**{name: arguments.get(name) for name in known}).prepare()
    if case.operation.definition.raw.get("x-access") in ("read", "trade", "key"):
        request.headers["x-mbx-apikey"] = stage.key
        query = re.sub(r"signature=[^&]*", "", urlsplit(request.url or "").query).strip("&")
        query = re.sub(r"timestamp=[^&]*", f"timestamp={now_ms()}", query)
        signature = sign(stage.secret, query.encode() + _bytes(request.body or b""))
        request.url = f"{BASE}{case.operation.path}?{query}&signature={signature}"
    return request


def examine(case: Case[Any], stage: Stage, choice: int) -> None:
    """Send a request and hold the answer against the description."""
    made_real(case, stage, choice)
    request = prepared(case, stage)
    answer = stage.run(stage.send(request))
    headers: dict[str, list[str]] = {}
    for name, value in answer.headers.multi_items():
        headers.setdefault(name, []).append(value)
    response = Response(answer.status_code, headers, answer.content, request, 0.0, verify=False)
    case.validate_response(response, checks=CHECKED)


@pytest.mark.parametrize(
    ("document", "path", "method", "mode"),
    [
        pytest.param(*place, mode, id=f"{place[2]} {place[1]} {mode.value}")
        for place in PLACES
        for mode in modes(*place)
    ],
)
def test_every_answer_is_described(
    stage: Stage, document: OpenApiSchema, path: str, method: str, mode: GenerationMode
) -> None:
    cases = document[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, choice=st.integers(0, 2**20))
    def all_of_them(case: Case[Any], choice: int) -> None:
        examine(case, stage, choice)

    all_of_them()


def test_examples_are_still_those_of_the_application(stage: Stage) -> None:
    """Making requests changed nothing that other tests of the same process read."""
    before = json.dumps(description(OPERATIONS))
    for path in DOCUMENT:
        for method in DOCUMENT[path]:
            operation = DOCUMENT[path][method]
            bodies = operation.definition.raw.get("requestBody", {}).get("content", {}).values()
            for content in bodies:
                if isinstance(content.get("example"), dict):
                    case = operation.Case(body=content["example"], media_type="application/json")
                    made_real(case, stage, 2**20 - 1)
    assert json.dumps(description(OPERATIONS)) == before
    assert json.dumps(DOCUMENT.raw_schema) == before

"""Nobody sees or moves what is not theirs, and wrong requests are refused the right way.

The cases are made from the table of operations, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import httpx
import msgspec
import pydantic

from domain.identity.permissions import ADMINISTRATOR, OPERATOR
from persistence import roles
from serve_apps import identity
from serve_apps.api.routes import OPERATIONS
from serve_apps.api.routing import Operation
from serve_apps.application import Application
from serve_apps.identity import Client, LoggedIn
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PASSWORD, http_client
from tests.serve_apps.test_api_transfers import refused

SYMBOL = "NORDUSD"
"""An instrument that nobody has listed."""

PROTECTED = [item for item in OPERATIONS if item.access != "anyone"]
OWNED = [item for item in OPERATIONS if item.access == "owner"]
WITH_BODY = [item for item in OPERATIONS if item.body is not None]


def path_of(operation: Operation, user: User) -> str:
    """The operation's path for a user, with things that are really there."""
    values = {
        "user": user.id,
        "account": user.accounts["USD"],
        "transfer": "0" * 32,
        "hold": "0" * 32,
        "session": "1",
        "symbol": SYMBOL,
        "order": "1",
        "key": "1",
        "customer": user.id,
        "adjustment": "0" * 32,
        "role": "support",
    }
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "1"), operation.path)


async def ask(
    http: httpx.AsyncClient, operation: Operation, path: str, **options: Any
) -> httpx.Response:
    """Send the example of an operation."""
    headers = {"Idempotency-Key": "one", **options.pop("headers", {})}
    if operation.body is not None and not {"json", "data", "content"} & options.keys():
        options["json"] = operation.body_example
    return await http.request(operation.method, path, headers=headers, **options)


def test_each_operation_that_names_a_user_belongs_to_the_user() -> None:
    assert {item.name for item in OPERATIONS if "{user}" in item.path} == {
        item.name for item in OWNED
    }


async def test_nobody(client: httpx.AsyncClient, ann: User) -> None:
    strange = (None, "Bearer", "Bearer x", "Bearer kontor_" + "x" * 43, "Basic YTpi", "x" * 9)
    for operation, header in itertools.product(PROTECTED, strange):
        headers = {"authorization": header} if header else {}
        answer = await ask(client, operation, path_of(operation, ann), headers=headers)
        refused(answer, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await ann.balances() == {"USD": "100.00", "CNY": "0.00", "EUR": "0.00"}


async def test_another_user(ann: User, bob: User) -> None:
    before = (await ann.http.get(ann.path)).json()
    for operation in OWNED:
        answer = await ask(bob.http, operation, path_of(operation, ann))
        refused(answer, "not_found")
        assert ann.id not in answer.text
    assert (await ann.http.get(ann.path)).json() == before


async def grant(app: Application, user: User, *granted: str) -> None:
    for role in granted:
        await roles.grant(app.services.pool, int(user.id), role, "a test")
    await app.services.sessions.read_revocations()


async def test_users_that_are_none(ann: User) -> None:
    for user in ("0", "abc", "99999999999", "%2e%2e", "0000000001", " "):
        refused(await ann.http.get(f"/api/user/{user}/"), "not_found")


FOREIGN = [
    ("POST", "transaction/", {"from": "theirs", "to": "mine", "amount": "1"}),
    ("POST", "quote/", {"from": "theirs", "to": "mine", "amount": "1"}),
    ("POST", "hold/", {"account": "theirs", "amount": "1"}),
    ("GET", "account/{theirs}/", None),
    ("DELETE", "account/{theirs}/", None),
]


async def test_accounts_of_others_in_ones_own_requests(ann: User, bob: User) -> None:
    names = {"theirs": ann.accounts["USD"], "mine": bob.accounts["USD"]}
    for method, path, body in FOREIGN:
        form = body and {key: names.get(value, value) for key, value in body.items()}
        url = bob.path + path.format(**names)
        answer = await bob.http.request(method, url, json=form, headers={"Idempotency-Key": "1"})
        assert answer.status_code == 404, (url, answer.text)
    assert (await ann.balances())["USD"] == "100.00"


async def test_holds_and_sessions_of_others(ann: User, bob: User) -> None:
    hold = await ann.http.post(
        ann.path + "hold/",
        json={"account": ann.accounts["USD"], "amount": "10"},
        headers={"Idempotency-Key": "one"},
    )
    number = hold.json()["id"]
    headers = {"Idempotency-Key": "two"}
    for act, body in (
        ("void", None),
        ("post", {"to": bob.accounts["USD"], "amount": "1"}),
    ):
        url = f"{bob.path}hold/{number}/{act}/"
        refused(await bob.http.post(url, json=body, headers=headers), "hold_unknown")
    (session,) = (await ann.http.get(ann.path + "session/")).json()["sessions"]
    refused(await bob.http.delete(f"{bob.path}session/{session['id']}/"), "not_found")
    assert (await ann.http.get(ann.path)).status_code == 200


async def test_methods(ann: User) -> None:
    for some in OPERATIONS:
        known = {item.method for item in OPERATIONS if item.path == some.path}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - known:
            answer = await ann.http.request(method, path_of(some, ann))
            refused(answer, "method_not_allowed")
            assert known <= set(answer.headers["allow"].split(", "))


BAD_BODIES: list[tuple[bytes, str | None, str]] = [
    (b"{", "application/json", "malformed_body"),
    (b"", "application/json", "malformed_body"),
    (b'{"\xff', "application/json", "malformed_body"),
    (b'{"\\ud800"}', "application/json; charset=utf-8", "malformed_body"),
    (b"[]", "application/json", "body_invalid"),
    (b"{}", "application/json", "body_invalid"),
    (b'{"no": "such field"}', "application/json", "body_invalid"),
    (b"{}", "text/plain", "unsupported_media_type"),
    (b"{}", None, "unsupported_media_type"),
    (b"--x", "multipart/form-data; boundary=x", "unsupported_media_type"),
    (b"a=%ff", "application/x-www-form-urlencoded", "malformed_body"),
    (b"a=1&a=2", "application/x-www-form-urlencoded", "malformed_body"),
    (b"a=1&" * 99, "application/x-www-form-urlencoded", "malformed_body"),
]


EMPTY = (b"{}", "application/json")


def needs_nothing(operation: Operation) -> bool:
    """Whether every field of an operation's body may be left out."""
    model: Any = operation.body
    if issubclass(model, pydantic.BaseModel):
        return not any(field.is_required() for field in model.model_fields.values())
    return not any(field.required for field in msgspec.structs.fields(model))


async def test_bodies(app: Application, ann: User) -> None:
    await grant(app, ann, OPERATOR, ADMINISTRATOR)
    for operation in WITH_BODY:
        path = path_of(operation, ann)
        large = (b" " * (operation.body_size_max + 1), "application/json", "body_too_large")
        for content, kind, code in [*BAD_BODIES, large]:
            if (content, kind) == EMPTY and needs_nothing(operation):
                continue
            headers = {"content-type": kind} if kind else {}
            answer = await ask(ann.http, operation, path, content=content, headers=headers)
            refused(answer, code)
        if not operation.msgpack:
            headers = {"content-type": "application/msgpack"}
            answer = await ask(ann.http, operation, path, content=b"\x80", headers=headers)
            refused(answer, "unsupported_media_type")


async def test_a_body_larger_than_any_may_be(app: Application, ann: User) -> None:
    await grant(app, ann, OPERATOR, ADMINISTRATOR)

    async def pieces() -> Any:
        for _ in range(6):
            yield b" " * 1024 * 1024

    headers = {"content-type": "application/json"}
    for operation in WITH_BODY:
        path = path_of(operation, ann)
        for content in (pieces(), b" " * 5 * 1024 * 1024):
            answer = await ask(ann.http, operation, path, content=content, headers=headers)
            refused(answer, "body_too_large")


async def test_a_key_where_one_is_needed(app: Application, ann: User) -> None:
    await grant(app, ann, OPERATOR, ADMINISTRATOR)
    needing = [item for item in OPERATIONS if item.key == "required"]
    assert {item.tag for item in needing} == {
        "Accounts", "Holds", "Brokerage", "Instruments", "Back office",
    }  # fmt: skip
    for operation in needing:
        path = path_of(operation, ann)
        answer = await ann.http.request(operation.method, path, json=operation.body_example)
        refused(answer, "idempotency_key_required")
        answer = await ask(ann.http, operation, path, headers={"Idempotency-Key": "x" * 256})
        refused(answer, "idempotency_key_invalid")


async def test_a_session_of_the_browser_needs_the_forms_token(app: Application, ann: User) -> None:
    """Scripts of our own pages may use the API; pages of others cannot make a browser do so."""

    entered = await identity.login(app.services, ann.email, PASSWORD, Client())
    assert isinstance(entered, LoggedIn)
    async with http_client(app, cookies={"kontor_session": entered.token}) as browser:
        assert (await browser.get(ann.path)).status_code == 200
        principal = await app.services.sessions.find(entered.token)
        assert principal is not None
        cases: list[tuple[dict[str, str], int]] = [
            ({}, 403),
            ({"x-csrf-token": "x"}, 403),
            ({"x-csrf-token": principal.csrf, "origin": "http://evil.test"}, 403),
            ({"x-csrf-token": principal.csrf, "origin": "null"}, 403),
            ({"x-csrf-token": principal.csrf, "sec-fetch-site": "cross-site"}, 403),
            ({"x-csrf-token": principal.csrf, "sec-fetch-site": "same-site"}, 403),
            ({"x-csrf-token": principal.csrf, "origin": "http://kontor.test"}, 200),
            ({"x-csrf-token": principal.csrf, "sec-fetch-site": "same-origin"}, 200),
        ]
        for headers, status in cases:
            answer = await browser.patch(ann.path, json={"name": "Ann"}, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        bearer = {"authorization": f"Bearer {entered.token}"}
        refused(await browser.get(ann.path, headers=bearer), "unauthenticated")
    token = ann.http.headers["authorization"].removeprefix("Bearer ")
    async with http_client(app, cookies={"kontor_session": token}) as browser:
        refused(await browser.get(ann.path), "unauthenticated")

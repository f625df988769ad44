"""Passwords, cookies and form tokens."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Literal

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from serve_apps.security import HASHING_QUEUE_MAX, Busy, Passwords, Security, SecuritySettings
from serve_apps.services import utc_now
from serve_apps.sessions import Principal, Sessions, new_token, token_hash

PRINCIPAL = Principal(4820193756, "Ann", "ann@example.com", "browser", 1, b"h", "the-csrf-token")


def make(
    *, secure: bool = False, key: bytes = b"k" * 32, sessions: Sessions | None = None
) -> Security:
    """Security for a site at http(s)://kontor.test."""
    url = "https://kontor.test" if secure else "http://kontor.test:8080"
    settings = SecuritySettings(key, url, secure, 60, 600, 60, 600)
    return Security(settings, sessions or Sessions(utc_now))


def request(**headers: str) -> Request:
    """A request with headers."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "path": "/", "query_string": b""})


def cookies_of(response: Response) -> list[str]:
    """The cookies that a response sets."""
    return [value.decode() for name, value in response.raw_headers if name == b"set-cookie"]


async def test_argon2id_with_the_recommended_work() -> None:
    passwords = Passwords()
    await passwords.open()
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horse ")
    assert not await passwords.verify(None, "correct horse")
    assert not passwords.outdated(stored)
    assert passwords.outdated(stored.replace("t=2", "t=1"))
    passwords.close()


async def test_users_who_do_not_exist_take_as_long() -> None:
    passwords = Passwords()
    await passwords.open()
    stored = await passwords.hash("correct horse")
    times: dict[str | None, list[float]] = {stored: [], None: []}
    for _ in range(7):
        for which, taken in times.items():
            started = time.process_time()
            await passwords.verify(which, "wrong")
            taken.append(time.process_time() - started)
    known, unknown = (statistics.median(taken) for taken in times.values())
    assert 0.5 < known / unknown < 2
    passwords.close()


async def test_the_queue_is_bounded() -> None:
    passwords = Passwords()
    passwords._queued = HASHING_QUEUE_MAX - 1
    waiting = asyncio.create_task(passwords.hash("x"))
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await passwords.hash("x")
    await waiting
    assert passwords._queued == HASHING_QUEUE_MAX - 1
    passwords.close()


def test_tokens_are_long_and_stored_hashed() -> None:
    tokens = {new_token("kontor_") for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) == len("kontor_") + 43 for token in tokens)
    assert len(token_hash(tokens.pop())) == 32


@pytest.mark.parametrize("secure", [False, True])
def test_cookies(secure: bool) -> None:
    security, response = make(secure=secure), Response()
    security.set_session(response, "token")
    security.clear_session(response)
    security.form_token(request(), None).attach(response)
    for cookie in cookies_of(response):
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert ("Secure" in cookie) is secure
        assert cookie.startswith("__Host-") is secure


class OneSession(Sessions):
    """Knows one session, whatever the token."""

    async def find(self, token: str) -> Principal | None:
        return self.principal

    def __init__(self, kind: Literal["browser", "api"]) -> None:
        super().__init__(utc_now)
        self.principal = msgspec.structs.replace(PRINCIPAL, kind=kind)


@pytest.mark.parametrize(("kind", "by_cookie", "by_token"), [("browser", 1, 0), ("api", 0, 1)])
async def test_a_session_is_of_use_only_where_it_was_made_for(
    kind: Literal["browser", "api"], by_cookie: bool, by_token: bool
) -> None:
    security = make(sessions=OneSession(kind))
    cookie = "kontor_session=kontor_x"
    assert bool(await security.current(request(cookie=cookie))) == by_cookie
    assert bool(await security.from_cookie_header(cookie)) == by_cookie
    assert bool(await security.bearer("kontor_x")) == by_token
    assert not await security.bearer("x")
    assert not await security.bearer("kontor_" + "x" * 100)
    assert not await security.current(request(cookie="kontor_session=" + "x" * 101))
    assert not await security.current(request(cookie="other=x"))
    assert not await security.from_cookie_header("")


def test_a_form_before_login() -> None:
    security = make()
    token, response = security.form_token(request(), None), Response()
    token.attach(response)
    (cookie,) = cookies_of(response)
    pair = cookie.partition(";")[0]
    asked = request(cookie=pair)
    assert security.form_valid(asked, None, token.value)
    assert security.form_token(asked, None).value == token.value, "a second form goes as well"
    name, _, value = pair.partition("=")
    forged = f"{name}=other.{value.partition('.')[2]}"
    other = make(key=b"x" * 32)
    assert not security.form_valid(asked, None, token.value[:-1] + "x")
    assert not security.form_valid(asked, None, "")
    assert not security.form_valid(asked, None, None)
    assert not security.form_valid(request(), None, token.value)
    assert not security.form_valid(request(cookie=forged), None, token.value)
    assert "other" not in security.form_token(request(cookie=forged), None).cookie
    assert not other.form_valid(asked, None, token.value)
    assert not security.form_valid(asked, PRINCIPAL, token.value), "of no use once logged in"
    assert not security.form_valid(asked, None, PRINCIPAL.csrf)


def test_a_form_of_a_user() -> None:
    security = make()
    token, response = security.form_token(request(), PRINCIPAL), Response()
    token.attach(response)
    assert (token.value, cookies_of(response)) == (PRINCIPAL.csrf, [])
    assert security.form_valid(request(), PRINCIPAL, token.value)
    assert not security.form_valid(request(), PRINCIPAL, token.value + "\u00e9")


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"origin": "http://kontor.test:8080"}, True),
        ({"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"}, True),
        ({"origin": "http://kontor.test"}, False),
        ({"origin": "http://kontor.test:8080.evil.test"}, False),
        ({"origin": "http://evil.test", "host": "kontor.test:8080"}, False),
        ({"origin": "null", "host": "null"}, False),
        ({"origin": ""}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
    ],
)
def test_where_a_form_comes_from(headers: dict[str, str], ours: bool) -> None:
    assert make().same_origin(request(**headers).headers) is ours
    assert make().form_valid(request(**headers), PRINCIPAL, PRINCIPAL.csrf) is ours

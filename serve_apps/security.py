"""Passwords, cookies, bearer tokens and form tokens.

May use the CPU of a few threads for password hashes; the sessions themselves are in ``sessions``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final, TypeVar
from urllib.parse import urlsplit

import argon2
from starlette.requests import HTTPConnection
from starlette.responses import Response

from serve_apps.sessions import TOKEN_PREFIX, Principal, Sessions, token_hash

_Result = TypeVar("_Result")

HASHING_THREADS: Final = 2
HASHING_QUEUE_MAX: Final = 64
FORM_COOKIE_S: Final = 12 * 3_600
"""How long a form that was opened without a login may be filled in."""


def page_policy(public_url: str, *, frames: bool = False) -> str:
    """The content security policy of a page; ``frames`` where it shows another page of ours."""
    live = public_url.replace("http", "ws", 1)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        f" font-src 'self'; connect-src 'self' {live}; form-action 'self';"
        " manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'"
        + ("; frame-src 'self'" if frames else "")
    )


class Busy(Exception):
    """More passwords wait to be checked than the platform will queue."""


class Passwords:
    """Argon2id with 19 MiB, two passes, one lane (OWASP's recommendation), in threads.

    A check against no user costs the same as one against a user.
    """

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2")
        self._queued = 0
        self._nobody = ""

    async def open(self) -> None:
        """Make the hash that unknown users are checked against."""
        self._nobody = await self.hash(secrets.token_urlsafe(32))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    async def hash(self, password: str) -> str:
        """The PHC string to store. Raises ``Busy``."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password is the stored one; ``None`` means there is no such user."""
        matches = await self._run(self._matches, stored or self._nobody, password)
        return matches and stored is not None

    def outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except argon2.exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[..., _Result], *arguments: str) -> _Result:
        if self._queued >= HASHING_QUEUE_MAX:
            raise Busy
        self._queued += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._queued -= 1


@dataclass(frozen=True, slots=True)
class SecuritySettings:
    """What an operator decides about sessions; times in seconds."""

    secret_key: bytes
    public_url: str
    secure_cookies: bool
    session_idle_s: int
    session_max_s: int
    token_idle_s: int
    token_max_s: int


@dataclass(frozen=True, slots=True)
class FormToken:
    """The value of a form's hidden field ``csrf``, and the cookie that belongs to it, if any."""

    value: str
    cookie_name: str = ""
    cookie: str = ""
    secure: bool = False

    def attach(self, response: Response) -> None:
        """Set the cookie; a form of a logged-in user needs none."""
        if self.cookie:
            response.set_cookie(
                self.cookie_name, self.cookie, max_age=FORM_COOKIE_S,
                httponly=True, samesite="lax", secure=self.secure,
            )  # fmt: skip


class Security:
    """Who makes a request, and whether a form really comes from one of our pages."""

    def __init__(self, settings: SecuritySettings, sessions: Sessions) -> None:
        prefix = "__Host-" if settings.secure_cookies else ""
        self.session_cookie: Final = prefix + "kontor_session"
        self.form_cookie: Final = prefix + "kontor_form"
        self._settings = settings
        self._sessions = sessions
        self._origin = _origin_of(settings.public_url)

    async def current(self, request: HTTPConnection) -> Principal | None:
        """The user of the browser that makes this request."""
        token = request.cookies.get(self.session_cookie)
        return await self._browser_session(token) if token else None

    async def from_cookie_header(self, header: str) -> Principal | None:
        """As ``current``, from a plain ``Cookie`` header."""
        try:
            morsel = SimpleCookie(header).get(self.session_cookie)
        except CookieError:
            return None
        return await self._browser_session(morsel.value) if morsel else None

    async def bearer(self, token: str) -> Principal | None:
        """The user of an API token."""
        if not token.startswith(TOKEN_PREFIX) or len(token) > 100:
            return None
        principal = await self._sessions.find(token)
        return principal if principal is not None and principal.kind == "api" else None

    def remembers(self, token: str) -> bool:
        """Whether the session of an API token is known without asking Postgres."""
        return len(token) <= 100 and self._sessions.known(token_hash(token)) is not None

    async def _browser_session(self, token: str) -> Principal | None:
        if len(token) > 100:
            return None
        principal = await self._sessions.find(token)
        return principal if principal is not None and principal.kind == "browser" else None

    def set_session(self, response: Response, token: str) -> None:
        """Give the browser its session; always a new one, never one that it brought along."""
        response.set_cookie(
            self.session_cookie, token, max_age=self._settings.session_max_s,
            httponly=True, samesite="lax", secure=self._settings.secure_cookies,
        )  # fmt: skip
        response.delete_cookie(
            self.form_cookie, httponly=True, samesite="lax", secure=self._settings.secure_cookies
        )

    def clear_session(self, response: Response) -> None:
        """Take the session away from the browser."""
        response.delete_cookie(
            self.session_cookie, httponly=True, samesite="lax",
            secure=self._settings.secure_cookies,
        )  # fmt: skip

    def form_token(self, request: HTTPConnection, principal: Principal | None) -> FormToken:
        """The token for a form on a page that answers this request."""
        if principal is not None:
            return FormToken(principal.csrf)
        nonce = self._form_nonce(request) or secrets.token_urlsafe(24)
        return FormToken(
            self._sign("form-field", nonce),
            self.form_cookie,
            f"{nonce}.{self._sign('form-cookie', nonce)}",
            self._settings.secure_cookies,
        )

    def form_valid(
        self, request: HTTPConnection, principal: Principal | None, sent: str | None
    ) -> bool:
        """Whether a form was sent by our own page: its token is right, and so is its origin."""
        if not sent or not self.same_origin(request.headers):
            return False
        if principal is not None:
            return _equal(principal.csrf, sent)
        nonce = self._form_nonce(request)
        return nonce is not None and _equal(self._sign("form-field", nonce), sent)

    def same_origin(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser says, or at least does not deny, that one of our pages asks."""
        origin = headers.get("origin")
        if origin is not None:
            return self.origin_allowed(origin, headers.get("host", ""))
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    def origin_allowed(self, origin: str | None, host: str = "") -> bool:
        """Whether a page of this origin is ours: the public address, or the one asked for."""
        if not origin or origin == "null":
            return False
        given = _origin_of(origin)
        return given == self._origin or (bool(host) and given[1] == host.lower())

    def _form_nonce(self, request: HTTPConnection) -> str | None:
        nonce, dot, signature = request.cookies.get(self.form_cookie, "").partition(".")
        if not dot or not _equal(self._sign("form-cookie", nonce), signature):
            return None
        return nonce

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}\0{text}".encode()
        return hmac.new(self._settings.secret_key, message, hashlib.sha256).hexdigest()


def _equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


def _origin_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()

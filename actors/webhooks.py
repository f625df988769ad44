"""Webhooks as Standard Webhooks has them: signed, sent to where a customer said, and nowhere else.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Touches the network. A customer chooses the address, so the request must not become a way into our
own: names are resolved here, every address is looked at, and the connection goes to the one that
was looked at, whatever the name resolves to a moment later. Redirects are not followed. Nothing of
an answer but its status is read.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx

from actors.sending import HOUR, Later, Never, Outcome, Sent, reason

SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
URL_MAX: Final = 2_000
TIMEOUT_S: Final = 10.0
RETRY_AFTER_MAX_S: Final = 24 * HOUR

LOOK_UPS_MAX: Final = 64

_ADDRESSES_MAX: Final = 4
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class Refused(Exception):
    """The address is none that requests are sent to; says why in one line."""


def new_secret() -> bytes:
    """A secret to sign with."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """A secret as customers get it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: one signature with each secret that is valid."""
    signed = f"{message}.{timestamp}.".encode() + body
    return " ".join(
        "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys
    )


def is_public(address: Address) -> bool:
    """Whether it is an address of the open Internet, also when it is one inside another."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def check_url(text: str, *, private: bool) -> str:
    """The address of an endpoint in its one form; raises ``Refused``.

    Where ``private`` addresses are allowed, so is HTTP without TLS.
    """
    text = text.strip()
    if not 1 <= len(text) <= URL_MAX or not text.isprintable():
        raise Refused("It is not an address")
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, ValueError):
        raise Refused("It is not an address") from None
    if url.scheme != "https" and not (private and url.scheme == "http"):
        raise Refused("It does not begin with https://")
    if not url.host or not (port is None or 1 <= port <= 65_535):
        raise Refused("It names no host")
    if url.userinfo or url.fragment:
        raise Refused("It has a name, a password or a fragment in it")
    try:
        literal = ipaddress.ip_address(url.host)
    except ValueError:
        return str(url)
    if not private and not is_public(literal):
        raise Refused("It is a private address")
    return str(url)


class Webhooks:
    """Sends webhooks. ``private`` allows addresses that are not of the open Internet."""

    def __init__(
        self,
        *,
        private: bool = False,
        timeout_s: float = TIMEOUT_S,
        trust: ssl.SSLContext | None = None,
        resolve: Resolve | None = None,
        clock: Callable[[], float] = time.time,
        agent: str = "Kontor",
    ) -> None:
        self._private = private
        self._timeout_s = timeout_s
        self._resolve = resolve or self._look_up
        # Looking up a name can hang: one that does must not hold up the others.
        self._threads = ThreadPoolExecutor(LOOK_UPS_MAX, "resolve")
        self._clock = clock
        self._agent = agent
        # A connection is for one host, and two hosts may share an address: none is used twice.
        self._client = httpx.AsyncClient(
            verify=trust or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        """Let go of what is open."""
        await self._client.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, url: str, keys: Sequence[bytes], message: str, body: bytes) -> Outcome:
        """Send ``body``, JSON, as the message of that name. The time signed is this attempt's."""
        timestamp = int(self._clock())
        headers = {
            "content-type": "application/json",
            "user-agent": self._agent,
            "connection": "close",
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(keys, message, timestamp, body),
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                target = httpx.URL(check_url(url, private=self._private))
                return await self._post(target, headers, body)
        except Refused as error:
            return Later(str(error))
        except TimeoutError:
            return Later(f"No answer within {self._timeout_s:g} seconds")
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            return Later(reason("The request failed", error))

    async def _addresses(self, url: httpx.URL) -> list[Address]:
        host = url.raw_host.decode("ascii")
        found = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        if not found:
            raise OSError(f"{host} has no address")
        if not self._private and not all(is_public(address) for address in found):
            raise Refused(f"{host} is a private address")
        return list(found[:_ADDRESSES_MAX])

    async def _look_up(self, host: str, port: int) -> list[Address]:
        """The addresses of a host, as the system knows them; raises ``OSError``."""

        def work() -> list[Any]:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

        found = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        names = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
        return [ipaddress.ip_address(name) for name in names]

    async def _post(self, url: httpx.URL, headers: dict[str, str], body: bytes) -> Outcome:
        addresses = await self._addresses(url)
        headers = {"host": url.netloc.decode("ascii"), **headers}
        for number, address in enumerate(addresses, start=1):
            # To the address that was looked at; certificate and virtual host by the name.
            request = self._client.build_request(
                "POST", url.copy_with(host=str(address)), headers=headers, content=body
            )
            request.extensions["sni_hostname"] = url.raw_host.decode("ascii")
            try:
                response = await self._client.send(request, stream=True)
            except httpx.ConnectError:
                if number == len(addresses):
                    raise
                continue
            try:
                return _meaning(response, self._clock())
            finally:
                await response.aclose()
        raise AssertionError("there is at least one address")


def _meaning(response: httpx.Response, now: float) -> Outcome:
    status = response.status_code
    if 200 <= status < 300:
        return Sent(status)
    if status == 410:
        return Never("410 Gone", status, gone=True)
    if 300 <= status < 400:
        return Later(f"{status}: redirects are not followed", status)
    after_s = 0.0
    if status in (429, 503):
        after_s = _retry_after(response.headers.get("retry-after", ""), now)
    return Later(f"{status} {_phrase(status)}".rstrip(), status, after_s)


def _phrase(status: int) -> str:
    """What a status is called, in our words."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _retry_after(text: str, now: float) -> float:
    """Seconds; zero when nothing sensible is asked for."""
    try:
        seconds = float(int(text))
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)

"""The head of a request, read once: its id, its length, and the address that it comes from.

Whoever asks may write ``X-Forwarded-For`` themselves, and may reach a replica's own port without
passing HAProxy. So HAProxy tells the address of its client in a header whose name nobody outside
knows (``cluster.runtime``); it appends, so the last value is its own. Only with it do the entries
count that further proxies in front have appended, and only as many as there are said to be.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final

import structlog

Header = tuple[bytes, bytes]

_REQUEST: Final = ContextVar(structlog.contextvars.STRUCTLOG_KEY_PREFIX + "request", default="")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ADDRESSES_KEPT: Final = 8_192


Head = tuple[bytes, int | None, str]
"""What is known of a request before it is read: its id, its length, the address it comes from.

The id is empty when it came without a decent one, the length is ``None`` when it does not say how
long its body is. The address is empty when it cannot be known; a loopback one counts as unknown,
since it is some proxy's on this machine as likely as a person's.
"""


def remember(given: str) -> None:
    """Let every line that is logged on behalf of this request carry its id."""
    _REQUEST.set(given)


def request_id() -> str:
    """The id of the request that is carried out; empty outside of one."""
    return _REQUEST.get()


def via_header(secret_key: bytes) -> str:
    """The name of the header in which our own HAProxy tells the address of its client."""
    return "x-via-" + hmac.new(secret_key, b"address header", hashlib.sha256).hexdigest()[:32]


class Reader:
    """Reads heads. ``via`` is the name of HAProxy's header; empty where no HAProxy is in front,
    and the connection's own address stands for it. ``hops`` is how many proxies stand before that.
    """

    def __init__(self, via: str, hops: int) -> None:
        self._via = via.encode()
        self._hops = hops
        wanted = {b"x-request-id", b"content-length", b"x-forwarded-for", self._via}
        self._wanted = frozenset(wanted if hops else wanted - {b"x-forwarded-for"})

    def read(self, headers: Iterable[Header], client: Any, *, bodiless: bool) -> Head:
        """The head of a request whose connection is from ``client``."""
        request_id = b""
        length: int | None = 0 if bodiless else None
        told = forwarded = b""
        via, wanted = self._via, self._wanted
        for name, value in headers:
            if name not in wanted:
                continue
            if name == b"x-request-id":
                if _REQUEST_ID.fullmatch(value):
                    request_id = value
            elif name == b"content-length":
                length = int(value) if value.isdigit() else None
            elif name == via:
                told = value
            else:
                forwarded = forwarded + b"," + value if forwarded else value
        if via and not told:
            return request_id, length, ""  # past HAProxy: nothing that is said counts
        if not self._hops:
            near = told.decode("latin-1") if via else client[0] if client else ""
            return request_id, length, _normal(near)
        parts = forwarded.split(b",")
        if len(parts) < self._hops:
            return request_id, length, ""
        return request_id, length, _normal(parts[-self._hops].decode("latin-1"))


@functools.lru_cache(_ADDRESSES_KEPT)
def _normal(text: str) -> str:
    """An address in its one form; empty for one that is none, or a loopback one."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)

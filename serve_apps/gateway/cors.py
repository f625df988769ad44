"""Requests that pages of other sites send to the API, if the settings name these sites.

Nothing is allowed by default. A named site sends tokens, never cookies: its requests lose theirs
before anybody looks at them, and no answer permits credentials (Fetch standard, "CORS protocol").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.types import Scope

Header = tuple[bytes, bytes]

MAX_AGE_S: Final = 600
_METHODS: Final = b"GET, POST, PUT, PATCH, DELETE"
_SENT: Final = (
    b"Authorization, Content-Type, Idempotency-Key, If-None-Match, X-MBX-APIKEY, X-Request-Id"
)
_SHOWN: Final = (
    b"ETag, Location, RateLimit, RateLimit-Policy, Retry-After, X-MBX-ORDER-COUNT-10S,"
    b" X-MBX-ORDER-COUNT-1D, X-MBX-USED-WEIGHT-1M, X-Request-Id"
)


class Cors:
    """The sites that may. ``origins`` are written as browsers do, ``https://shop.example``."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._origins)

    def admit(self, scope: Scope) -> tuple[Header, ...] | None:
        """Headers for the answer, for a request of a named site; its cookies are gone by then."""
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        if origin not in self._origins:
            return None
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"cookie"]
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _SHOWN),
        )

    def is_preflight(self, scope: Scope) -> bool:
        """Whether a browser asks what it may send."""
        return scope["method"] == "OPTIONS" and any(
            name == b"access-control-request-method" for name, _ in scope["headers"]
        )

    def preflight(self, allowed: tuple[Header, ...]) -> list[Header]:
        """Headers of the answer to such a question."""
        return [
            *allowed,
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _SENT),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]

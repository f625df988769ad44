"""Public answers that need not be sent twice: ``ETag``, ``Cache-Control``, 304 (RFC 9110, 9111).

Only what is the same for everybody is marked, by its operation; all else goes out with
``no-store``, so that nobody is ever shown a balance of before.
"""

from __future__ import annotations

import hashlib
from typing import Final

Header = tuple[bytes, bytes]

_SIZE: Final = 12


def tag_of(body: bytes) -> bytes:
    """The entity tag of a body."""
    return b'"' + hashlib.blake2b(body, digest_size=_SIZE).hexdigest().encode() + b'"'


def marks(tag: bytes, fresh_s: int) -> list[Header]:
    """The headers of an answer that everybody may keep for so many seconds."""
    return [(b"cache-control", b"public, max-age=%d" % fresh_s), (b"etag", tag)]


def is_known(tag: bytes, if_none_match: bytes | None) -> bool:
    """Whether whoever asks has this already; tags are compared weakly, as for ``If-None-Match``."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == b"*":
        return True
    return any(part.strip().removeprefix(b"W/") == tag for part in if_none_match.split(b","))

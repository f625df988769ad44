"""A mail's HTML inside a page: in a frame that may do nothing but open links in a new tab.

The mail is a document of its own with a policy of its own: no script, no form, nothing loaded from
anywhere, styles as mails have them. The page around it may show frames of ours, and is otherwise
as strict as any other.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import HTMLResponse, Response

from serve_apps.security import page_policy
from serve_apps.services import Services

_POLICY: Final = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
    " style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'"
)
_HEAD: Final = re.compile(r"<head[^>]*>", re.IGNORECASE)
_NEW_TAB: Final = '<base target="_blank">'


def framed(html: str) -> Response:
    """The mail as a document to be shown in a frame."""
    head = _HEAD.search(html)
    end = head.end() if head else 0
    response = HTMLResponse(html[:end] + _NEW_TAB + html[end:])
    response.headers["content-security-policy"] = _POLICY
    response.headers["cache-control"] = "no-store"
    return response


def with_frames(services: Services, response: Response) -> Response:
    """A page that shows such frames."""
    policy = page_policy(services.config.public_url, frames=True)
    response.headers["content-security-policy"] = policy
    return response

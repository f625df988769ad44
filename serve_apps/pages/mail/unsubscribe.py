"""One click that ends mails of a kind (RFC 8058), for whoever got one of them; no login needed.

The link carries a proof instead of one. A mail program posts to it by itself; a person is asked
first, so that nothing that only looks at links changes anything.
"""

from __future__ import annotations

import hmac

from starlette.responses import Response

from actors.letters import unsubscribe_token
from domain.accounts.numbers import parse_customer
from domain.notifications import KINDS, Channel, Kind, may_choose
from persistence import notifications as store
from serve_apps.pages.visit import Refused, Visit


async def ask(visit: Visit) -> Response:
    """Say what would end."""
    _, kind = _proved(visit)
    return visit.page("mail/unsubscribe.html", rule=KINDS[kind], done=False)


async def end(visit: Visit) -> Response:
    """End it."""
    user, kind = _proved(visit)
    await store.choose(visit.services.pool, user, {(kind, Channel.EMAIL): False})
    return visit.page("mail/unsubscribe.html", rule=KINDS[kind], done=True)


def _proved(visit: Visit) -> tuple[int, Kind]:
    """Whose mails of which kind; raises ``Refused`` unless the link is one of ours."""
    user, name = parse_customer(visit.query.get("user", "")), visit.query.get("kind", "")
    if user is None or name not in KINDS or not may_choose(Kind(name), Channel.EMAIL):
        raise Refused(404)
    right = unsubscribe_token(visit.services.config.secret_key, user, Kind(name))
    if not hmac.compare_digest(right.encode(), visit.query.get("token", "").encode()):
        raise Refused(404)
    return user, Kind(name)

"""What everybody must learn of a step that touches somebody's security.

The person is told, and the audit log has an entry, in the transaction in which it happens.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from domain.notifications import Kind
from persistence import audit
from persistence.database import Connection
from persistence.notifications import notify
from serve_apps.identity.devices import browser_name
from serve_apps.services import Services
from serve_apps.sessions import Principal


class Client(msgspec.Struct, frozen=True):
    """Where a request comes from; ``ip`` is empty when that cannot be known.

    ``origin`` and ``request`` are what the audit log says of it.
    """

    ip: str = ""
    user_agent: str = ""
    origin: str = "page"
    request: str = ""


class Who(msgspec.Struct, frozen=True):
    """The person whose security it is about; ``session`` is the one it was done with."""

    user: int
    email: str
    session: int | None = None


def who(principal: Principal) -> Who:
    """The person who makes a request."""
    return Who(principal.user, principal.email, principal.session_id)


@asynccontextmanager
async def transaction(services: Services) -> AsyncIterator[Connection]:
    """A connection in a transaction."""
    async with services.pool.acquire() as proxy, proxy.transaction():
        yield cast(Connection, proxy)


def where(services: Services, client: Client) -> dict[str, str]:
    """When, from where and with what, in words."""
    return {
        "at": f"{services.now():%Y-%m-%d %H:%M} UTC",
        "ip": client.ip or "an unknown address",
        "device": browser_name(client.user_agent),
    }


async def tell(
    connection: Connection,
    services: Services,
    user: int,
    kind: Kind,
    client: Client,
    *,
    to: str | None = None,
    **values: str,
) -> None:
    """Tell a person of a step, with when and from where it was made."""
    values = {**where(services, client), **values}
    await notify(connection, user, kind, values, key=_key(kind), to=to)


async def send_link(
    connection: Connection,
    user: int,
    kind: Kind,
    values: Mapping[str, str],
    link: str,
    *,
    to: str,
) -> None:
    """Send a link that is for the reader of an e-mail address alone."""
    await notify(connection, user, kind, values, key=_key(kind), secret={"link": link}, to=to)


async def log(
    connection: Connection,
    person: Who,
    client: Client,
    action: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add an entry to the audit log: the last thing in a transaction."""
    actor = audit.Actor(
        person.user, person.email, client.origin, client.ip, person.session, client.request
    )
    subject = f"customer:{person.user}"
    await audit.append(connection, actor.did(f"identity.{action}", subject, before, after))


def _key(kind: Kind) -> str:
    """Each step is told of: a key that was never used before."""
    return f"{kind}:{secrets.token_hex(12)}"

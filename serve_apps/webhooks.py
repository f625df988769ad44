"""A customer's webhook endpoints: made, looked at, tested, given a new secret, deleted.

May reach Postgres. Whether an address is one that requests are sent to is decided where they are
sent, each time; what can be told from its form is told here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from actors.vault import WEBHOOKS, Vault
from actors.webhooks import Refused, check_url, new_secret, secret_text
from domain.durable import Rejection
from domain.notifications import KINDS, Channel
from persistence import audit
from persistence import webhooks as store
from persistence.audit import Actor
from persistence.database import Connection
from persistence.webhooks import DeliveryRow, EndpointRow
from serve_apps.services import Services

LABEL_MAX: Final = 80
SHOWN: Final = 50

OFFERED: Final = tuple(kind for kind, rule in KINDS.items() if Channel.WEBHOOK in rule.offered)
"""The kinds that can be told by webhook."""


@dataclass(frozen=True, slots=True)
class MadeEndpoint:
    """A new endpoint, or one with a new secret, which is shown this once."""

    endpoint: EndpointRow
    secret: str = field(repr=False)


async def add(
    services: Services, actor: Actor, label: str, url: str, kinds: Sequence[str]
) -> MadeEndpoint | Rejection:
    """Make an endpoint for whoever asks; no ``kinds`` means all."""
    label = label.strip()
    if not 1 <= len(label) <= LABEL_MAX or not label.isprintable():
        return Rejection("label_invalid", {"field": "label"})
    try:
        url = check_url(url, private=services.config.private_webhooks)
    except Refused as refused:
        return Rejection("url_invalid", {"field": "url", "reason": str(refused)})
    chosen = [kind.value for kind in OFFERED if kind in kinds]
    if len(chosen) != len(set(kinds)):
        return Rejection("kinds_invalid", {"field": "kinds"})
    assert actor.user is not None
    async with _transaction(services) as connection:
        number = await store.add_endpoint(connection, actor.user, label, url, chosen)
        if number is None:
            return Rejection("too_many_webhooks", {"webhooks_max": str(store.ENDPOINTS_MAX)})
        made = await _new_secret(services, connection, actor.user, number)
        assert made is not None
        await _note(connection, actor, "webhook.add", number, {"url": url, "kinds": chosen})
        return made


async def rotate(services: Services, actor: Actor, number: int) -> MadeEndpoint | None:
    """Give an endpoint a new secret; the one before signs, too, for a day."""
    assert actor.user is not None
    async with _transaction(services) as connection:
        made = await _new_secret(services, connection, actor.user, number)
        if made is not None:
            await _note(connection, actor, "webhook.rotate", number, {})
        return made


async def delete(services: Services, actor: Actor, number: int) -> bool:
    """Send nothing there any more; ``False`` when the customer has no such endpoint."""
    assert actor.user is not None
    async with _transaction(services) as connection:
        done = await store.delete_endpoint(connection, actor.user, number)
        if done:
            await _note(connection, actor, "webhook.delete", number, {})
        return done


async def enable(services: Services, actor: Actor, number: int) -> Rejection | None:
    """Send there again, after it was switched off for failing."""
    assert actor.user is not None
    found = await store.find_endpoint(services.pool, actor.user, number)
    if found is None:
        return Rejection("not_found")
    async with _transaction(services) as connection:
        if await store.enable(connection, actor.user, number):
            await _note(connection, actor, "webhook.enable", number, {})
    return None


async def ping(services: Services, actor: Actor, number: int) -> int | Rejection:
    """Have a test sent; the number of its delivery."""
    assert actor.user is not None
    found = await store.find_endpoint(services.pool, actor.user, number)
    if found is None:
        return Rejection("not_found")
    async with _transaction(services) as connection:
        delivery = await store.ping(connection, actor.user, number)
    return Rejection("webhook_disabled") if delivery is None else delivery


async def endpoints(services: Services, user: int) -> list[EndpointRow]:
    """A customer's endpoints."""
    return await store.endpoints_of(services.pool, user)


async def look(
    services: Services, user: int, number: int
) -> tuple[EndpointRow, list[DeliveryRow]] | None:
    """An endpoint, and what was sent there lately."""
    found = await store.find_endpoint(services.pool, user, number)
    if found is None:
        return None
    return found, await store.deliveries_to(services.pool, user, number, SHOWN)


async def _new_secret(
    services: Services, connection: Connection, user: int, number: int
) -> MadeEndpoint | None:
    secret = new_secret()
    sealed = Vault(services.config.secret_key, WEBHOOKS).seal(str(number), secret)
    if not await store.set_secret(connection, user, number, sealed):
        return None
    found = await store.find_endpoint(connection, user, number)
    assert found is not None
    return MadeEndpoint(found, secret_text(secret))


async def _note(
    connection: Connection, actor: Actor, action: str, number: int, after: dict[str, Any]
) -> None:
    subject = f"customer:{actor.user}"
    entry = actor.did(action, subject, after={"webhook": str(number), **after})
    await audit.append(connection, entry)


@asynccontextmanager
async def _transaction(services: Services) -> AsyncIterator[Connection]:
    async with services.pool.acquire() as proxy, proxy.transaction():
        yield cast(Connection, proxy)

"""A customer's API keys: made, listed, revoked. Each is told to the customer and written down.

May use Postgres. How a key is checked with each request is ``serve_apps.exchange.keys``.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.durable import Rejection
from domain.notifications import Kind
from persistence import apikeys as store
from serve_apps.exchange.keys import MadeKey, make_key
from serve_apps.identity.telling import Client, log, tell, transaction, who
from serve_apps.services import Services
from serve_apps.sessions import Principal


async def make(
    services: Services,
    principal: Principal,
    client: Client,
    label: str,
    scopes: Sequence[str],
    networks_text: str = "",
    public_key: str = "",
) -> MadeKey | Rejection:
    """Make a key from a form: addresses separated by commas, spaces or lines."""
    networks = networks_text.replace(",", " ").split()
    user = principal.user
    async with transaction(services) as connection:
        made = await make_key(
            connection, services.config.secret_key, user, label, scopes, networks, public_key,
            now=services.now(),
        )  # fmt: skip
        if isinstance(made, Rejection):
            return made
        await tell(connection, services, user, Kind.API_KEY_MADE, client, label=made.label)
        after = {
            "key": str(made.id),
            "label": made.label,
            "kind": made.kind,
            "scopes": list(made.scopes),
            "networks": list(made.networks),
        }
        await log(connection, who(principal), client, "api_key_made", after=after)
    return made


async def revoke(services: Services, principal: Principal, client: Client, number: int) -> bool:
    """End a key, everywhere; ``False`` when the customer has no such key."""
    user = principal.user
    async with transaction(services) as connection:
        row = await store.revoke_key(connection, user, number, services.now())
        if row is None:
            return False
        await tell(connection, services, user, Kind.API_KEY_REVOKED, client, label=row.label)
        before = {"key": str(number), "label": row.label}
        await log(connection, who(principal), client, "api_key_revoked", before=before)
    await services.api_keys.ended([row.key])
    return True


async def list_keys(services: Services, user: int) -> list[store.KeyRow]:
    """The user's valid keys, newest first."""
    return await store.keys_of(services.pool, user)

"""Mail as those see it who look after it: what was given up, what each kind looks like.

May reach Postgres. What is secret in a message is never shown.
"""

from __future__ import annotations

from typing import Final, cast

from actors.letters import LANGUAGE
from actors.notifications.rendering import Rendered, languages, render
from domain.notifications import KINDS, Kind
from persistence import audit
from persistence import deliveries as store
from persistence.audit import Actor
from persistence.database import Connection
from persistence.deliveries import Dead
from serve_apps.services import Services

PAGE: Final = 50
EXAMPLE_USER: Final = 1_234_567_890


async def dead_letters(
    services: Services, *, before: int | None = None, channel: str = "", limit: int = PAGE
) -> list[Dead]:
    """What was given up, newest first."""
    return await store.dead(services.pool, before=before, channel=channel, limit=limit)


async def resend(services: Services, actor: Actor, number: int) -> bool:
    """Have one sent again, at once; ``False`` when it was not given up."""
    async with services.pool.acquire() as proxy, proxy.transaction():
        connection = cast(Connection, proxy)
        return await resend_on(connection, actor, number)


async def resend_on(connection: Connection, actor: Actor, number: int) -> bool:
    """The same, in a transaction of the caller's."""
    found = await store.find_dead(connection, number)
    if found is None or not await store.resend(connection, number):
        return False
    before = {"channel": found.channel, "kind": found.kind, "last_error": found.last_error}
    await audit.append(connection, actor.did("mail.resend", f"delivery:{number}", before))
    return True


def preview(services: Services, kind: Kind, language: str = LANGUAGE) -> Rendered:
    """What a kind looks like, with the values of its example."""
    rule = KINDS[kind]
    return render(
        kind.value,
        rule.example,
        language,
        secret=rule.secret,
        public_url=services.config.public_url,
        user=EXAMPLE_USER,
    )


def choices() -> list[str]:
    """The languages in which kinds can be looked at."""
    return languages()

"""What somebody must answer for, where it is not done in this database's transaction.

What is asked is in the audit log before it is asked, and again when it was refused or its outcome
is not known: nothing happens that nobody wrote down. May use Postgres.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from domain.durable import Rejection, Unavailable
from persistence import audit
from persistence.audit import Actor
from persistence.database import Pool

Reply = TypeVar("Reply")


async def carry_out(
    pool: Pool,
    actor: Actor,
    action: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    ask: Callable[[], Awaitable[Reply]],
) -> Reply:
    """Write down what is asked, ask it, and write down when it was not done."""
    await audit.record(pool, actor.did(action, subject, before, after))
    reply = await ask()
    if isinstance(reply, Rejection):
        entry = actor.did(f"{action}.refused", subject, {}, {"code": reply.code})
        await audit.record(pool, entry)
    elif isinstance(reply, Unavailable):
        await audit.record(pool, actor.did(f"{action}.unknown", subject))
    return reply

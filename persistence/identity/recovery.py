"""Letting somebody in again who has lost the second factor: one transaction, told and logged."""

from __future__ import annotations

import secrets
from datetime import datetime

from domain.notifications import Kind
from persistence import audit
from persistence.database import Connection
from persistence.identity.factors import drop_factor
from persistence.identity.sessions import revoke_sessions
from persistence.identity.tokens import drop_tokens
from persistence.identity.users import security_changed
from persistence.notifications import notify


async def without_factor(
    connection: Connection, actor: audit.Actor, user: int, reason: str, now: datetime
) -> int | None:
    """Take somebody's second factor away, for whoever may; how many sessions ended.

    ``None`` when there is none. The customer is told, in case the reason was invented.
    """
    async with connection.transaction():
        if not await drop_factor(connection, user):
            return None
        await drop_tokens(connection, user)
        ended = await revoke_sessions(connection, user, now)
        await security_changed(connection, user)
        values = {"at": f"{now:%Y-%m-%d %H:%M} UTC", "ip": "Kontor", "device": "Kontor's staff"}
        kind = Kind.SECOND_FACTOR_OFF
        await notify(connection, user, kind, values, key=f"{kind}:{secrets.token_hex(12)}")
        after = {"reason": reason, "sessions": len(ended)}
        did = actor.did("identity.second_factor_taken", f"customer:{user}", after=after)
        await audit.append(connection, did)
    return len(ended)

"""Taking one's data away, and leaving for good.

May use Postgres, and the accounts' entities: they alone know what is there at this moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import msgspec

from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, CustomerView
from domain.accounts.trading import BrokerageView
from domain.durable import Rejection, Unavailable
from domain.identity.permissions import CUSTOMER, SUPPLIER
from domain.identity.rules import IdentityCode
from domain.money import CURRENCIES
from domain.notifications import Kind
from domain.orders import UNIT_EXPONENT
from persistence import apikeys, roles
from persistence import identity as store
from persistence.database import Connection
from persistence.identity.person import SECTIONS, export_rows
from persistence.notifications import notify
from serve_apps import brokerage
from serve_apps.accounts import close_account, overview
from serve_apps.confirmation import Intent, Proof, demand
from serve_apps.identity import check_own_password
from serve_apps.identity.telling import Client, log, tell, transaction, who
from serve_apps.services import Services
from serve_apps.sessions import Principal

PIECE_SIZE: Final = 64 * 1024
MEMORY_MAX: Final = 1024 * 1024
_OWN_ROLES: Final = frozenset({CUSTOMER, SUPPLIER})


async def export(services: Services, principal: Principal, client: Client) -> IO[bytes]:
    """Everything that is held about the person, as one JSON document in a file.

    Gathered before the first byte is sent, so that no connection to the database waits for a slow
    reader; small ones stay in memory. The person is told, in case it was somebody else.
    """
    view = await overview(services, principal.user)
    held = await brokerage.view(services, principal.user)
    head = {
        "made_at": services.now().isoformat(),
        "customer": str(principal.user),
        "units": "Amounts are in the smallest unit of their currency, prices in ticks and"
        " quantities in lots of the instrument; times are UTC.",
        "balances": view if isinstance(view, CustomerView) else None,
        "brokerage": held if isinstance(held, BrokerageView) else None,
    }
    file = SpooledTemporaryFile(MEMORY_MAX)  # noqa: SIM115 - whoever sends it closes it
    file.write(msgspec.json.encode(head)[:-1])
    async with transaction(services) as connection:
        await _write_sections(file, connection, principal.user)
        await tell(connection, services, principal.user, Kind.DATA_EXPORTED, client)
        await log(connection, who(principal), client, "exported")
    file.write(b"}")
    return file


async def _write_sections(file: IO[bytes], connection: Connection, user: int) -> None:
    for section in SECTIONS:
        file.write(b',"%s":[' % section.name.encode())
        first = True
        async for row in export_rows(connection, section, user):
            file.write((row if first else "," + row).encode())
            first = False
        file.write(b"]")


async def pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """What is in a file, from its beginning; closed at the end."""
    with file:
        file.seek(0)
        while piece := file.read(PIECE_SIZE):
            yield piece


async def close(
    services: Services, principal: Principal, password: str, proof: Proof, client: Client
) -> Rejection | Unavailable | None:
    """Leave for good: no login any more, no session, token or key.

    Only with nothing left: no money, hold, open order or payment on its way. What was booked stays
    in the books; the address is free for another sign-up.
    """
    row = await check_own_password(services, principal, password, client)
    if isinstance(row, Rejection):
        return row
    if any(held.role not in _OWN_ROLES for held in await roles.held(services.pool, row.id)):
        return Rejection(IdentityCode.ROLES_HELD)
    view = await _nothing_left(services, principal.user)
    if not isinstance(view, CustomerView):
        return view
    refused = await demand(services, principal, Intent("closure", {}), proof, client)
    if refused is not None:
        return refused
    for account in view.accounts:
        if account.status != AccountStatus.CLOSED:
            # The entity refuses when money has come in meanwhile; what is closed then is empty.
            reply = await close_account(services, principal.user, str(account.id))
            if isinstance(reply, Unavailable):
                return reply
            if isinstance(reply, Rejection):
                return Rejection(IdentityCode.ACCOUNTS_IN_USE, {"account": str(account.id)})
    await _leave(services, principal, row, client)
    return None


async def _leave(
    services: Services, principal: Principal, row: store.UserRow, client: Client
) -> None:
    user, now = principal.user, services.now()
    async with transaction(services) as connection:
        if not await store.close_user(connection, user, now):
            return
        ended = await store.revoke_sessions(connection, user, now)
        keys = await apikeys.revoke_keys(connection, user, now)
        await store.drop_tokens(connection, user)
        await store.drop_factor(connection, user)
        values = {"name": row.name, "at": f"{now:%Y-%m-%d %H:%M} UTC"}
        await notify(connection, user, Kind.ACCOUNT_CLOSED, values, key="closed")
        await log(connection, who(principal), client, "closed")
    await services.sessions.ended(ended)
    await services.api_keys.ended(keys)


async def _nothing_left(services: Services, user: int) -> CustomerView | Rejection | Unavailable:
    view = await overview(services, user)
    if not isinstance(view, CustomerView):
        return view
    held = await brokerage.view(services, user)
    if not isinstance(held, BrokerageView):
        return held
    if any(account.status == AccountStatus.FROZEN for account in view.accounts):
        return Rejection(Code.ACCOUNT_FROZEN)
    in_use = (
        any(account.posted or account.held for account in view.accounts)
        or bool(view.holds)
        or bool(held.orders)
        or any(balance.total > _dust(balance.asset) for balance in held.balances)
    )
    return Rejection(IdentityCode.ACCOUNTS_IN_USE) if in_use else view


def _dust(asset: str) -> int:
    """What is too little to be taken out of the brokerage: less than a currency's smallest unit."""
    if asset not in CURRENCIES:
        return 0
    units: int = 10 ** (UNIT_EXPONENT - CURRENCIES[asset].exponent)
    return units - 1

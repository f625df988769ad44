"""People who are told something, and couriers that bring it, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, cast

import asyncpg

from actors.courier import Courier, CourierSettings
from actors.letters import writer
from actors.mail import SmtpSettings
from actors.vault import WEBHOOKS, Vault
from actors.webhooks import new_secret, secret_text
from domain.notifications import KINDS, Kind
from persistence import webhooks as endpoints
from persistence.database import Connection, Pool
from persistence.notifications import notify

ANN: Final = 1_000_000_001
BEN: Final = 1_000_000_002
KEY: Final = b"0123456789abcdef0123456789abcdef"


async def add_people(pool: Pool) -> None:
    """Ann and Ben."""
    await pool.executemany(
        "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, 'x')",
        [(ANN, "ann@example.com", "Ann"), (BEN, "ben@example.com", "Ben")],
    )


async def tell(pool: Pool, user: int, kind: Kind, key: str, **changes: str) -> None:
    """Tell somebody something, with the example's values where there are no others."""
    rule = KINDS[kind]
    secret = {name: changes.get(name, value) for name, value in rule.secret.items()}
    values = {name: changes.get(name, value) for name, value in rule.example.items()}
    async with pool.acquire() as proxy, proxy.transaction():
        await notify(cast(Connection, proxy), user, kind, values, key=key, secret=secret)


async def add_endpoint(pool: Pool, user: int, url: str, secret: bytes | None = None) -> str:
    """An endpoint of somebody; its secret as the customer has it."""
    secret = secret or new_secret()
    async with pool.acquire() as proxy, proxy.transaction():
        connection = cast(Connection, proxy)
        number = await endpoints.add_endpoint(connection, user, "shop", url, [])
        assert number is not None
        sealed = Vault(KEY, WEBHOOKS).seal(str(number), secret)
        await endpoints.set_secret(connection, user, number, sealed)
    return secret_text(secret)


def make_courier(pool: Pool, smtp: SmtpSettings | None = None, **changes: Any) -> Courier:
    """A courier in a hurry."""
    values: dict[str, Any] = {
        "secret_key": KEY,
        "public_url": "https://bank.test",
        "smtp": smtp or SmtpSettings(),
        "private": True,
        "mail_pauses_s": (0.02, 0.02),
        "webhook_pauses_s": (0.02, 0.02),
        "poll_s": 0.05,
        "rest_min_s": 0.02,
        "rest_max_s": 0.05,
    }
    settings = CourierSettings(**{**values, **changes})
    write = writer(settings.secret_key, settings.public_url)
    return Courier(pool, settings, write, Random(1), who=f"courier {id(settings)}")


@asynccontextmanager
async def at_work(*couriers: Courier) -> AsyncIterator[None]:
    """Couriers that send as long as the block lasts."""
    tasks = [asyncio.create_task(courier.run()) for courier in couriers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    """Wait for something, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def states(pool: Pool) -> list[asyncpg.Record]:
    """All deliveries, in the order in which they were made."""
    return await pool.fetch("SELECT * FROM deliveries ORDER BY id")


async def settled(pool: Pool) -> list[asyncpg.Record]:
    """All deliveries, once none is pending any more."""
    async with asyncio.timeout(10):
        while any(row["state"] == "pending" for row in await states(pool)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return await states(pool)

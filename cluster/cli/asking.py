"""How commands put questions to the database.

Apart from the proof of the books, which brings Ray along: most commands need none of it, and take
half the time without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from cluster.errors import Exit, StartError
from cluster.servers import database
from cluster.settings import Settings
from persistence.database import DatabaseUnavailable, Pool, open_pool

Result = TypeVar("Result")


def ask(settings: Settings, question: Callable[[Pool], Awaitable[Result]]) -> Result:
    """Put a question to the platform's database, whether or not the platform runs."""

    async def work(url: str) -> Result:
        pool = await open_pool(url, name="kontor books", size_max=2)
        try:
            return await question(pool)
        finally:
            await pool.close()

    with database(settings) as url:
        try:
            return asyncio.run(work(url))
        except DatabaseUnavailable as error:
            raise StartError(str(error), Exit.DATABASE) from None
        except asyncpg.UndefinedTableError:
            raise StartError(
                "The database has no schema yet: run `kontor migrate`", Exit.SCHEMA
            ) from None

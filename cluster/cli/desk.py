"""Where the command line asks something of the running platform, like anybody else.

What is asked is durable when a command returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.cli.main import settings
from cluster.cli.moves import refuse
from cluster.errors import Exit, StartError
from domain.durable import Rejection, Unavailable
from persistence.database import OUTAGES, DatabaseUnavailable, Pool, open_pool

if TYPE_CHECKING:
    from actors.accounts import AccountsClient
    from actors.books import BooksClient
    from serve_apps.directory import Directory


@dataclass(frozen=True)
class Desk:
    """What the use cases of staff need, opened for one command."""

    pool: Pool
    accounts: AccountsClient
    books: BooksClient
    directory: Directory


def at_desk(work: Callable[[Desk], Awaitable[Any]]) -> Any:
    """Have the running platform do something; a refusal is one line and an exit code."""
    from cluster.datafolder import DataFolder
    from cluster.servers import embedded_postgres

    chosen = settings()
    url = (
        embedded_postgres(DataFolder(chosen.data_dir)).url()
        if chosen.database_url is None
        else chosen.database_url.get_secret_value()
    )
    try:
        reply = asyncio.run(_ask(url, work))
    except (DatabaseUnavailable, LookupError, *OUTAGES) as error:
        raise StartError(f"The platform cannot be reached: {error}", Exit.NOT_RUNNING) from None
    if isinstance(reply, Unavailable):
        raise StartError("The platform does not answer: is it up?", Exit.NOT_RUNNING)
    if isinstance(reply, Rejection):
        fields = ", ".join(f"{name} {value}" for name, value in reply.fields.items())
        refuse(f"{reply.code}: {fields}" if fields else str(reply.code))
    return reply


async def _ask(url: str, work: Callable[[Desk], Awaitable[Any]]) -> Any:
    from actors.accounts import AccountsClient
    from actors.books import BooksClient
    from serve_apps.directory import Directory

    async with AsyncExitStack() as opened:
        pool = await open_pool(url, name="kontor command", size_max=2)
        opened.push_async_callback(pool.close)
        accounts = await AccountsClient.connect(url, name="kontor command")
        opened.push_async_callback(accounts.close)
        books = await BooksClient.connect(url, name="kontor command")
        opened.push_async_callback(books.close)
        directory = Directory()
        directory.open(pool)
        return await work(Desk(pool, accounts, books, directory))

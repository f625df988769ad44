"""The kinds of entities that a platform runs: what each is called, and how its actors are made.

A kind has its own slots, streams, actors and supervisor. A further one is a line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from domain.orders import ACCOUNTS, BOOKS

if TYPE_CHECKING:
    from actors.durable.hosts import Recipe
    from cluster.settings import Settings

KINDS: Final = (ACCOUNTS, BOOKS)
"""In the order in which operators see them."""


class Kind(NamedTuple):
    """A kind as it is to run: ``partitions`` is how many a new database gets."""

    name: str
    partitions: int
    recipe: Recipe


def kinds(settings: Settings, database_url: str, redis_url: str) -> list[Kind]:
    """All kinds of a platform, ready to be started."""
    from actors.accounts import accounts_recipe
    from actors.books import books_recipe

    accounts = accounts_recipe(
        database_url=database_url, redis_url=redis_url, policy=settings.policy()
    )
    books = books_recipe(database_url=database_url, redis_url=redis_url)
    return [
        Kind(ACCOUNTS, settings.partitions, accounts),
        Kind(BOOKS, settings.book_partitions, books),
    ]

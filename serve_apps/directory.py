"""Which currency an account is kept in: a fact that never changes, so it is remembered.

May read Postgres for accounts that were not asked for before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from persistence.accounts import account_currencies
from persistence.database import Pool
from serve_apps.gathering import Gathering

ENTRIES_MAX: Final = 200_000
GATHERED_MAX: Final = 16
"""More than this are worth a query of their own."""


class Directory:
    """The currencies of accounts; unknown accounts are not remembered, they may yet be opened."""

    def __init__(self) -> None:
        self._currencies: dict[int, str] = {}
        self._loading: Gathering[int, str] = Gathering(self._load)
        self._pool: Pool

    def open(self, pool: Pool) -> None:
        """Use this pool from now on."""
        self._pool = pool

    def known(self, account: int) -> str | None:
        """The currency, if it has been asked for before."""
        return self._currencies.get(account)

    async def learn(self, accounts: Iterable[int]) -> None:
        """Look up the accounts that are not known yet; afterwards ``known`` answers."""
        missing = {account for account in accounts if account not in self._currencies}
        if len(missing) > GATHERED_MAX:
            await self._load(list(missing))
        elif missing:
            await self._loading.get_many(missing)

    async def _load(self, accounts: list[int]) -> dict[int, str]:
        found = await account_currencies(self._pool, accounts)
        self.note(found)
        return found

    def note(self, currencies: dict[int, str]) -> None:
        """Remember accounts that were just read anyway."""
        while self._currencies and len(self._currencies) + len(currencies) > ENTRIES_MAX:
            del self._currencies[next(iter(self._currencies))]
        self._currencies.update(currencies)

"""Customers made for benchmarks, with money and tokens, and what they ask for."""

from __future__ import annotations

import os
import random
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from actors.accounts import AccountsClient
from benchmarks.load import post
from domain.accounts.commands import OpenCustomer, Transfer
from domain.accounts.numbers import account_number
from persistence.database import Pool
from serve_apps.sessions import TOKEN_PREFIX, new_token, token_hash

BATCH: Final = 8_190
_DEPOSIT: Final = 100_000_000
_AT_ONCE: Final = 2_000


class Population:
    """Customers logged in without the cost of their passwords."""

    def __init__(self, count: int) -> None:
        first = random.randrange(2_000_000_000, 8_000_000_000)
        self.numbers = list(range(first, first + count))
        self.tokens = [new_token(TOKEN_PREFIX) for _ in self.numbers]

    async def create(self, pool: Pool, client: AccountsClient) -> None:
        """Users, API tokens and funded accounts."""
        await self.log_in(pool)
        for start in range(0, len(self.numbers), _AT_ONCE):
            await client.call_many(
                [
                    OpenCustomer(
                        os.urandom(16), b"bench", number, ("USD", "CNY", "EUR"), "USD", _DEPOSIT
                    )
                    for number in self.numbers[start : start + _AT_ONCE]
                ]
            )

    async def log_in(self, pool: Pool) -> None:
        """Users and API tokens alone."""
        now = datetime.now(UTC)
        await pool.execute(
            "INSERT INTO users (id, email, name, password_hash, opened_at)"
            " SELECT n, n || '@bench.invalid', 'Bench', '!', $2 FROM unnest($1::bigint[]) AS n",
            self.numbers,
            now,
        )
        await pool.execute(
            "INSERT INTO sessions (token_hash, kind, user_id, csrf, expires_at, idle_s)"
            " SELECT h, 'api', n, '', $3, 86400 FROM unnest($1::bytea[], $2::bigint[]) AS t (h, n)",
            [token_hash(token) for token in self.tokens],
            self.numbers,
            now + timedelta(days=1),
        )

    def pair(self, among: int, source: int | None = None) -> tuple[int, int]:
        """Two different customers' places among the first ``among``."""
        if source is None:
            source = random.randrange(among)
        destination = random.randrange(among - 1)
        return source, destination + (destination >= source)

    def account(self, place: int) -> int:
        """The dollar account of a customer."""
        return account_number(self.numbers[place], 0)

    def transfer(self, among: int, source: int | None = None) -> Transfer:
        """A command for one transfer, by ``source`` or by anyone."""
        source, destination = self.pair(among, source)
        return Transfer(
            os.urandom(16),
            b"bench",
            self.account(source),
            self.account(destination),
            random.randint(1, 500),
            "USD",
        )

    def request(self, host: str, among: int, source: int | None = None) -> bytes:
        """An HTTP request for one transfer, by ``source`` or by anyone."""
        source, destination = self.pair(among, source)
        body = (
            f'{{"from":"{self.account(source)}","to":"{self.account(destination)}",'
            f'"amount":"{random.randint(1, 500) / 100:.2f}"}}'
        )
        path = f"/api/user/{self.numbers[source]}/transaction/"
        return post(host, path, self.tokens[source], body.encode(), key=secrets.token_urlsafe(12))

    def batch_request(self, host: str, source: int, size: int = BATCH) -> bytes:
        """An HTTP request for a full batch of one customer's transfers."""
        sender = str(self.account(source))
        transfers = []
        for _ in range(size):
            other = random.randrange(len(self.numbers) - 1)
            transfers.append(
                {
                    "id": secrets.token_urlsafe(9),
                    "from": sender,
                    "to": str(self.account(other + (other >= source))),
                    "amount": "0.01",
                }
            )
        path = f"/api/user/{self.numbers[source]}/transaction/batch/"
        body = msgspec.json.encode({"transfers": transfers})
        return post(host, path, self.tokens[source], body)

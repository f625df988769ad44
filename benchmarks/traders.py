"""Instruments and traders made for benchmarks, and the orders that they send."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from typing import Any, Final

from actors.accounts import AccountsClient
from actors.books import BooksClient
from domain.accounts.commands import OpenCustomer
from domain.accounts.numbers import account_number
from domain.accounts.trading import (
    BrokerageReply,
    FundBrokerage,
    IssueAsset,
    PlaceOrder,
    Terms,
    Trade,
)
from domain.durable import Rejection
from domain.orders import OrderType, Side, TimeInForce
from domain.trading.commands import InstrumentReply, ListInstrument
from domain.trading.rules import About, InstrumentType, Rules
from persistence.database import Pool
from serve_apps.exchange.keys import MadeKey, make_key

TICK: Final = 10**6
LOT: Final = 10**8
MID: Final = 10_000
SPREAD: Final = 10
_DEPOSIT: Final = 10**10
_ISSUED: Final = 10**16
_RESTING: Final = 0.4
_PLACE: Final = 1


class Market:
    """Instruments ``B0USD``, ``B1USD``... and traders who hold plenty of everything."""

    def __init__(self, traders: int, books: int) -> None:
        first = random.randrange(2_000_000_000, 8_000_000_000)
        self.traders = list(range(first, first + traders))
        mark = os.urandom(2).hex().upper()
        self.bases = [f"B{mark}{number}" for number in range(books)]
        self.symbols = [f"{base}USD" for base in self.bases]

    async def create(self, pool: Pool, accounts: AccountsClient, books: BooksClient) -> None:
        """List the instruments, open the customers, and give them funds and shares."""
        for base, symbol in zip(self.bases, self.symbols, strict=True):
            rules = Rules(
                base, "USD", TICK, LOT, orders_max=10_000, quantity_max=10**6, price_max=10**5
            )
            about = About(InstrumentType.STOCK, f"Benchmark {base}", maker=100, taker=200)
            reply = await books.call(ListInstrument(os.urandom(16), b"bench", symbol, rules, about))
            _expect(reply, InstrumentReply)
        await pool.execute(
            "INSERT INTO users (id, email, name, password_hash, opened_at)"
            " SELECT n, n || '@bench.invalid', 'Bench', '!', now() FROM unnest($1::bigint[]) AS n",
            self.traders,
        )
        for trader in self.traders:
            await accounts.call(
                OpenCustomer(os.urandom(16), b"bench", trader, ("USD",), "USD", _DEPOSIT)
            )
            fund = FundBrokerage(os.urandom(16), b"bench", account_number(trader, 0), _DEPOSIT)
            _expect(await accounts.call(fund), BrokerageReply)
            for base in self.bases:
                issue = IssueAsset(os.urandom(16), b"bench", trader, base, _ISSUED)
                _expect(await accounts.call(issue), BrokerageReply)

    async def keys(self, pool: Pool, secret: bytes) -> list[MadeKey]:
        """An API key for each trader."""
        made = []
        for trader in self.traders:
            key = await make_key(pool, secret, trader, "bench", now=datetime.now(UTC))
            if isinstance(key, Rejection):
                raise RuntimeError(f"unexpected reply {key!r}")
            made.append(key)
        return made

    def terms(self, book: int) -> Terms:
        """What the catalogue says of an instrument."""
        return Terms(self.bases[book], "USD", LOT, TICK * LOT // 10**8, 100, 200)

    def trade(self, trader: int, book: int, size: int) -> Trade:
        """A command with ``size`` new orders about the middle, of which most meet others."""
        return Trade(
            os.urandom(16),
            b"bench",
            trader,
            self.symbols[book],
            self.terms(book),
            tuple(order() for _ in range(size)),
        )


def order() -> PlaceOrder:
    """Two in five rest up to ten ticks from the middle until somebody comes; the others take what
    is there, up to as far. So each order meets about one other, and the book stays as it is."""
    buys, rests = random.random() < 0.5, random.random() < _RESTING
    distance = random.randint(1, SPREAD) if rests else -SPREAD
    return PlaceOrder(
        "",
        Side.BUY if buys else Side.SELL,
        OrderType.LIMIT,
        TimeInForce.GTC if rests else TimeInForce.IOC,
        MID - distance if buys else MID + distance,
        random.randint(1, 100),
    )


def rows() -> list[int]:
    """The same as a row of a batch: action, side, type, time in force, price, quantity."""
    made = order()
    return [
        _PLACE,
        int(made.side),
        int(made.type),
        int(made.time_in_force),
        made.price,
        made.quantity,
    ]


def _expect(reply: Any, kind: type) -> None:
    if not isinstance(reply, kind):
        raise RuntimeError(f"unexpected reply {reply!r}")

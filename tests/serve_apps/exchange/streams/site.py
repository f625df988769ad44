"""Markets without a platform: a book that changes, what it publishes, and streams' clients."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

from actors.marketdata import BookChanges, MarketBatch, TimedTrade, merged
from domain.durable import Rejection
from domain.trading.commands import BookView, OrdersView, ReadBook, ReadOrders, RestingOrder
from domain.trading.news import BookNews, Level, MarketTrade
from domain.trading.rules import BookStatus
from serve_apps.exchange.streams.bars import Bar, bar_of
from serve_apps.exchange.streams.market import Market
from serve_apps.exchange.streams.topics import parse

SYMBOL = "BTCUSD"
START = 1_700_000_000_000_000


class Steps:
    """An instrument with a tick of 0.01 and a lot of 0.001."""

    tick = 1_000_000
    lot = 100_000
    unit = 1_000


class Book:
    """The truth about one market."""

    def __init__(self, symbol: str = SYMBOL) -> None:
        self.symbol = symbol
        self.update = 0
        self.sides: dict[int, dict[int, int]] = {1: {}, 2: {}}
        self.trades: list[TimedTrade] = []
        self.status = BookStatus.TRADING
        self.reason = ""
        self.at = START
        self.orders: tuple[RestingOrder, ...] = ()
        self.reads = 0

    def change(
        self, levels: Iterable[Level], trades: Iterable[tuple[int, int, int, bool]] = ()
    ) -> BookNews:
        """A decision: absolute levels, trades as price, quantity, taker's side, same taker."""
        levels = list(levels)
        for side, price, quantity in levels:
            if quantity:
                self.sides[side][price] = quantity
            else:
                self.sides[side].pop(price, None)
        self.update += 1
        told: list[MarketTrade] = []
        for price, quantity, side, same in trades:
            number = len(self.trades) + 1
            self.trades.append((number, price, quantity, side, same, self.at))
            told.append((number, price, quantity, side, same))
        return BookNews(
            self.symbol, self.update, self.update, levels, told, self.status, self.reason
        )

    def random_change(self, chance: random.Random) -> BookNews:
        """Something that could happen."""
        levels: dict[tuple[int, int], int] = {}
        for _ in range(chance.randint(1, 4)):
            side = chance.randint(1, 2)
            price = chance.randint(90, 99) if side == 1 else chance.randint(101, 110)
            levels[side, price] = chance.choice((0, 0, chance.randint(1, 50)))
        trades = [
            (chance.randint(95, 105), chance.randint(1, 9), chance.randint(1, 2), i > 0)
            for i in range(chance.choice((0, 0, 1, 3)))
        ]
        return self.change([(*place, q) for place, q in levels.items()], trades)

    def view(self) -> BookView:
        """As it would be read now."""
        bids, asks = self.sides[1], self.sides[2]
        return BookView(
            self.symbol,
            self.status,
            self.update,
            tuple(sorted(bids.items(), reverse=True)),
            tuple(sorted(asks.items())),
            len(self.trades),
            self.trades[-1][1] if self.trades else 0,
            self.at,
            reason=self.reason,
        )


class Books:
    """In place of the books' client; ``delay_s`` is how long a reading takes."""

    def __init__(self, *books: Book) -> None:
        self.books = {book.symbol: book for book in books}
        self.delay_s = 0.002

    async def call(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Read a book, as it is at some moment while this takes."""
        book = self.books.get(command.symbol)
        if book is None:
            return Rejection("unknown_instrument")
        await asyncio.sleep(self.delay_s / 2)
        if isinstance(command, ReadOrders):
            answer: Any = OrdersView(book.symbol, book.update, book.orders)
        else:
            assert isinstance(command, ReadBook)
            book.reads += 1
            answer = book.view()
        await asyncio.sleep(self.delay_s / 2)
        return answer


class History:
    """What a projector would have stored, ``behind`` trades late."""

    def __init__(self, *books: Book) -> None:
        self.books = {book.symbol: book for book in books}
        self.behind = 0
        self.lost: set[int] = set()

    def _stored(self, symbol: str) -> Sequence[TimedTrade]:
        trades = self.books[symbol].trades
        return trades[: len(trades) - self.behind]

    async def bars(self, symbol: str, seconds: int, since: int, until: int) -> Sequence[Bar]:
        """Bars of the stored trades."""
        bars: dict[int, Bar] = {}
        for trade in self._stored(symbol):
            at = trade[5] - trade[5] % (seconds * 1_000_000)
            if at in bars:
                bars[at].take(trade)
            elif since <= at < until:
                bars[at] = bar_of(trade, at)
        return list(bars.values())

    async def trades(self, symbol: str, first: int, last: int) -> Sequence[TimedTrade]:
        """Stored trades."""
        return [t for t in self._stored(symbol)[first - 1 : last] if t[0] not in self.lost]


class Catalogue:
    """What is listed."""

    def __init__(self, *symbols: str) -> None:
        self._symbols = symbols

    def get(self, symbol: str, /) -> Steps | None:
        """One instrument."""
        return Steps() if symbol in self._symbols else None

    def symbols(self) -> Iterable[str]:
        """All of them."""
        return self._symbols


class Client:
    """Somebody who follows streams of a market; what they were told, decoded."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.frames = 0

    def send(self, frames: bytes, payloads: Sequence[bytes]) -> None:
        """Take messages."""
        self.frames += 1
        self.events += [json.loads(payload) for payload in payloads]

    def follow(self, market: Market, *names: str, combined: bool = False) -> None:
        """Follow streams, as a connection does."""
        for name in names:
            stream = parse(name)
            assert stream is not None, name
            if not stream.symbol:
                market.market_topic(name).add(self, combined=combined)
                continue
            board = market.board(stream.symbol)
            assert board is not None
            board.topic(name, stream).add(self, combined=combined)
            if stream.kind in ("kline", "ticker", "miniTicker"):
                market.seed(board)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind."""
        return [event for event in self.events if event.get("e") == kind]


class Rebuilt:
    """A book made of a client's depth events alone, by the public rules."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        self.update = 0

    def start(self, update: int, bids: Iterable[Any], asks: Iterable[Any]) -> None:
        """From a snapshot."""
        self.update = update
        self.sides = {"b": dict(bids), "a": dict(asks)}

    def take(self, event: dict[str, Any]) -> None:
        """Apply an event; fails on a gap."""
        if event["u"] <= self.update:
            return
        assert event["U"] <= self.update + 1, f"gap: {event['U']} after {self.update}"
        for side, levels in self.sides.items():
            for price, quantity in event[side]:
                if float(quantity):
                    levels[price] = quantity
                else:
                    levels.pop(price, None)
        self.update = event["u"]


def batch(sequence: int, *news: BookNews, at: int = START, source: int = 1) -> MarketBatch:
    """What a publisher would send."""
    return MarketBatch(source, sequence, merged([(at, news)]))


def changes(*news: BookNews, at: int = START) -> BookChanges:
    """The changes of one book that these news come to."""
    (result,) = merged([(at, news)])
    return result


def make_market(*books: Book, clock: Any = None) -> tuple[Market, Books, History]:
    """A market over these books, that hears what it is given; call ``start`` where time matters."""
    reader, history = Books(*books), History(*books)
    loop = asyncio.get_running_loop()
    market = Market(
        books=reader,
        catalogue=Catalogue(*reader.books),
        history=history,
        clock=clock or (lambda: START + round(loop.time() * 1e6)),
        secret=b"secret",
    )
    market.hearing(True)
    return market, reader, history

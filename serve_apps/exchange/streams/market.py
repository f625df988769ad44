"""The markets, as one gateway knows them: a copy of every book, kept current over Redis.

REST reads and streams of a replica come from the same copies. What is lost on the way is known by
the numbers of the batches, within a second by the heartbeats, and closed by reading the book
again; while Redis, or a book's publisher, cannot be heard, followed books are read twice a second.
May use the books' client
and the history; ``listener`` brings what is published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import structlog

from actors.marketdata import BookChanges, MarketBatch, TimedTrade
from domain.durable import Unavailable
from domain.trading.commands import BookView, OrdersView, ReadBook, ReadOrders
from persistence.database import OUTAGES
from persistence.tasks import end_tasks
from persistence.trading.queries import DAY
from serve_apps.exchange.numbers import Steps
from serve_apps.exchange.streams import payloads
from serve_apps.exchange.streams.bars import Bar, Totals
from serve_apps.exchange.streams.board import Board
from serve_apps.exchange.streams.copy import Best, Levels
from serve_apps.exchange.streams.feed import News
from serve_apps.exchange.streams.topics import Topic

log = structlog.get_logger("kontor.market")

READS_MAX: Final = 8
READ_S: Final = 3.0
RETRY_S: Final = 0.2
SILENT_S: Final = 3.0
POLL_S: Final = 0.5
TICK_S: Final = 1.0
L3_S: Final = 0.25
HOLE_GRACE_S: Final = 0.3
HOLE_MAX_S: Final = 8.0
SEED_S: Final = 3.0
DAYS_BACK: Final = 32 * DAY


class Books(Protocol):
    """What is needed of ``actors.books.BooksClient``."""

    async def call(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Ask a book."""


class Catalogue(Protocol):
    """What is needed of the replica's copy of the instruments."""

    def get(self, symbol: str, /) -> Steps | None:
        """One instrument."""

    def symbols(self) -> Iterable[str]:
        """All there are."""


class History(Protocol):
    """What was traded before, as the projector has it."""

    async def bars(self, symbol: str, seconds: int, since: int, until: int) -> Sequence[Bar]:
        """Bars of 60 or 86,400 seconds that begin in this time, the oldest first."""

    async def trades(self, symbol: str, first: int, last: int) -> Sequence[TimedTrade]:
        """Trades with these ids, as far as they are there."""


class Depth(msgspec.Struct, frozen=True):
    """Best levels of a book as of its ``update``."""

    update: int
    at: int
    bids: Levels
    asks: Levels


class Trade(NamedTuple):
    """A trade: the taker's side is 1 for buyers, ``same`` says that its taker is as before."""

    id: int
    price: int
    quantity: int
    taker: int
    at: int
    same: bool


class _Source:
    """Somebody who publishes: the last number, and when it was heard."""

    __slots__ = ("heard_at", "sequence", "since")

    def __init__(self, sequence: int, since: float) -> None:
        self.sequence = sequence
        self.since = since
        self.heard_at = since


class Market:
    """All markets of one replica."""

    def __init__(
        self,
        *,
        books: Books,
        catalogue: Catalogue,
        history: History,
        clock: Callable[[], int],
        secret: bytes,
    ) -> None:
        self._secret = secret
        self._books = books
        self._catalogue = catalogue
        self._history = history
        self._clock = clock
        self.boards: dict[str, Board] = {}
        self.markets: dict[str, Topic] = {}
        self._sources: dict[int, _Source] = {}
        self._wanted: dict[str, None] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._reads = asyncio.Semaphore(READS_MAX)
        self._work: dict[str, asyncio.Task[None]] = {}
        self._hearing = False
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Follow all markets that are listed, and those that will be."""
        self._tasks = [
            asyncio.create_task(self._tick()),
            asyncio.create_task(self._poll()),
        ]

    async def stop(self) -> None:
        """Follow nothing any more."""
        await end_tasks([*self._tasks, *self._reading.values(), *self._work.values()])
        for board in self.boards.values():
            board.close()

    # -- what REST and pages read ---------------------------------------------------------

    async def depth(self, symbol: str, limit: int) -> Depth | None:
        """The best levels. ``None`` when there is no such book, or it cannot be read now."""
        board = await self._current(symbol)
        if board is None:
            return None
        bids, asks = board.feed.copy.depth(limit)
        return Depth(board.feed.copy.update, board.feed.at, bids, asks)

    async def best(self, symbol: str) -> tuple[int, Best] | None:
        """Number of the last update, and the touch."""
        board = await self._current(symbol)
        return None if board is None else (board.feed.copy.update, board.feed.copy.best())

    async def trades(self, symbol: str, limit: int) -> Sequence[Trade] | None:
        """The latest trades, the oldest first; more than 1,000 are the history's to tell."""
        board = await self._current(symbol)
        if board is None:
            return None
        recent = list(board.feed.trades)[-limit:]
        first = recent[0][0] if recent else board.feed.last_trade + 1
        if len(recent) < limit and first > 1:
            since = max(1, first - limit + len(recent))
            older = await self._history.trades(symbol, since, first - 1)
            recent = [*older, *recent]
        return [Trade(*item[:4], item[5], item[4]) for item in recent]

    async def ticker(self, symbol: str) -> Totals | None:
        """24 hours."""
        board = await self._current(symbol)
        if board is None:
            return None
        await self.seeded(board)
        return board.tape.totals(self._clock())

    def last_price(self, symbol: str) -> int:
        """What was last traded at, 0 for unknown; never waits."""
        board = self.boards.get(symbol)
        return board.feed.last_price if board is not None else 0

    def state(self, symbol: str) -> tuple[int, str]:
        """Status and reason, as far as known."""
        board = self.boards.get(symbol)
        return (board.feed.status, board.feed.reason) if board is not None else (0, "")

    async def _current(self, symbol: str) -> Board | None:
        board = self.board(symbol)
        if board is None:
            return None
        if not board.feed.known or board.feed.gap or not self._heard(board):
            self.want(symbol)
            try:
                async with asyncio.timeout(READ_S):
                    await asyncio.shield(self._reading[symbol])
            except TimeoutError:
                return None
        return board if board.feed.known else None

    # -- markets --------------------------------------------------------------------------

    def board(self, symbol: str) -> Board | None:
        """The streams of a market; ``None`` when no such instrument is listed."""
        board = self.boards.get(symbol)
        if board is None:
            steps = self._catalogue.get(symbol)
            if steps is None:
                return None
            board = self.boards[symbol] = Board(symbol, steps, self._clock, self._secret)
            if "!bookTicker" in self.markets:
                board.on_best = self._tell_best
            self.want(symbol)
        return board

    def market_topic(self, name: str) -> Topic:
        """The topic of a stream that is about all markets."""
        topic = self.markets.get(name)
        if topic is None:
            topic = self.markets[name] = Topic(name)
        for symbol in self._catalogue.symbols():
            board = self.board(symbol)
            if board is not None and name == "!bookTicker":
                board.on_best = self._tell_best
            elif board is not None:
                self.seed(board)
        return topic

    def release_market(self, name: str) -> None:
        """Forget a topic about all markets that nobody follows."""
        topic = self.markets.get(name)
        if topic is not None and not topic:
            del self.markets[name]
            if name == "!bookTicker":
                for board in self.boards.values():
                    board.on_best = None

    def _tell_best(self, event: bytes) -> None:
        self.markets["!bookTicker"].send([event])

    # -- listening ------------------------------------------------------------------------

    def hearing(self, hears: bool) -> None:
        """Whether what is published reaches this replica from now on."""
        self._hearing = hears
        if hears:
            self._doubt(self.boards)

    def receive(self, batch: MarketBatch) -> None:
        """Take what somebody has published."""
        now = self._loop.time()
        source = self._sources.get(batch.source)
        if source is None:
            self._sources[batch.source] = _Source(batch.sequence, now)
            # Somebody new, or started again: what came before the first we hear is not known.
            self._doubt(self.boards)
        else:
            lost = batch.sequence != source.sequence + bool(batch.books)
            source.sequence, source.heard_at = batch.sequence, now
            if lost:
                self._doubt(self.boards)
        for changes in batch.books:
            self._take(changes, batch.source)

    def _take(self, changes: BookChanges, source: int) -> None:
        board = self.board(changes.symbol)
        if board is None:
            return
        feed = board.feed
        feed.source = source
        news = feed.take(changes)
        if news is None:
            self.want(changes.symbol)
            return
        self._tell(board, news)

    def _tell(self, board: Board, news: News) -> None:
        board.tell(news)
        if board.feed.hole is not None:
            self._start("mend " + board.feed.symbol, self._mend, board)

    def _heard(self, board: Board) -> bool:
        """Whether what happens in this book would be heard."""
        if not self._hearing:
            return False
        source = self._sources.get(board.feed.source)
        return source is None or self._loop.time() - source.heard_at < SILENT_S

    # -- reading --------------------------------------------------------------------------

    def _doubt(self, symbols: Iterable[str]) -> None:
        for symbol in list(symbols):
            self.want(symbol)

    def want(self, symbol: str) -> None:
        """Read the book, once more if it is being read already."""
        self._wanted[symbol] = None
        if symbol not in self._reading:
            self._reading[symbol] = asyncio.create_task(self._read(symbol))

    async def _read(self, symbol: str) -> None:
        try:
            while symbol in self._wanted:
                view = await self._ask(symbol)
                if isinstance(view, BookView):
                    board = self.boards[symbol]
                    news = board.feed.read(view)
                    if news is not None:
                        self._tell(board, news)
                    if news is None or board.feed.gap:
                        self._wanted[symbol] = None
                        await asyncio.sleep(0.02)
                elif isinstance(view, Unavailable):
                    self._wanted[symbol] = None
                    await asyncio.sleep(RETRY_S)
        finally:
            del self._reading[symbol]

    async def _ask(self, symbol: str) -> object:
        async with self._reads:
            self._wanted.pop(symbol, None)
            try:
                return await self._books.call(ReadBook(symbol, 0), timeout_s=READ_S)
            except OUTAGES as error:
                return Unavailable(type(error).__name__)

    async def _poll(self) -> None:
        """Read what is followed and cannot be heard."""
        while True:
            await asyncio.sleep(POLL_S)
            for symbol, board in list(self.boards.items()):
                if board.topics and not self._heard(board):
                    self.want(symbol)

    # -- trades ---------------------------------------------------------------------------

    def _start(self, name: str, work: Callable[..., Any], *arguments: Any) -> asyncio.Task[None]:
        task = self._work.get(name)
        if task is None:
            task = self._work[name] = asyncio.create_task(work(*arguments))
            task.add_done_callback(lambda _: self._work.pop(name, None))
        return task

    async def _mend(self, board: Board) -> None:
        """Bring the trades that were lost, from the history; the projector may be behind."""
        feed, begun = board.feed, self._loop.time()
        await asyncio.sleep(HOLE_GRACE_S)
        while (hole := feed.hole) is not None:
            try:
                trades = await self._history.trades(
                    feed.symbol, hole[0], min(hole[1], hole[0] + 999)
                )
            except OUTAGES as error:
                log.warning("trade_history_away", symbol=feed.symbol, error=repr(error))
                trades = ()
            new = feed.fill(trades)
            if new:
                board.tell_trades(new)
                begun = self._loop.time()
            elif self._loop.time() - begun > HOLE_MAX_S:
                log.error("trades_missing", symbol=feed.symbol, first=hole[0], last=hole[1])
                board.tell_trades(feed.skip_hole())
            else:
                await asyncio.sleep(RETRY_S)

    def seed(self, board: Board) -> asyncio.Task[None] | None:
        """Bring the history that candles and tickers begin with, if it is not there yet."""
        if board.tape.seeded:
            return None
        return self._start("seed " + board.feed.symbol, self._seed, board)

    async def seeded(self, board: Board) -> None:
        """Wait until candles and tickers are there."""
        task = self.seed(board)
        if task is not None:
            await asyncio.shield(task)

    async def _seed(self, board: Board) -> None:
        feed, tape, begun = board.feed, board.tape, self._loop.time()
        await self._current(feed.symbol)
        symbol, target = feed.symbol, feed.last_trade
        while True:
            now = self._clock()
            midnight = (now - DAY) // DAY * DAY
            try:
                minutes = await self._history.bars(symbol, 60, midnight, now + DAY)
                days = await self._history.bars(symbol, 86_400, now - DAYS_BACK, midnight)
            except OUTAGES as error:
                log.warning("candle_history_away", symbol=symbol, error=repr(error))
                minutes, days = (), ()
            newest = minutes or days
            late = self._loop.time() - begun > SEED_S
            if late or not target or (newest and newest[-1].last >= target):
                break
            await asyncio.sleep(RETRY_S)
        tape.seed(minutes, days, feed.last_price)
        for item in feed.trades:
            tape.take(item)
        tape.closed.clear()
        board.tell_initial()

    # -- once a second --------------------------------------------------------------------

    async def _tick(self) -> None:
        turns = 0
        while True:
            await asyncio.sleep(L3_S)
            turns += 1
            for board in list(self.boards.values()):
                if board.orders.topic is not None:
                    self._start("l3 " + board.feed.symbol, self._read_orders, board)
            if turns % round(TICK_S / L3_S) == 0:
                self._each_second()

    def _each_second(self) -> None:
        now = self._clock()
        for symbol in self._catalogue.symbols():
            self.board(symbol)
        self._forget_sources()
        boards = list(self.boards.values())
        for board in boards:
            board.heartbeat(now)
        for name, topic in self.markets.items():
            if name == "!bookTicker":
                continue
            events = [
                board.ticker(now)
                if name == "!ticker@arr"
                else payloads.mini_ticker(board.texts, now, board.tape.totals(now))
                for board in boards
                if board.traded and board.tape.seeded
            ]
            if events:
                topic.send([b"[" + b",".join(events) + b"]"])
        for board in boards:
            board.traded = False

    def _forget_sources(self) -> None:
        """A source that has fallen silent, and was followed by a new one, has ended."""
        newest = max((source.since for source in self._sources.values()), default=0.0)
        for number, source in list(self._sources.items()):
            if self._loop.time() - source.heard_at > SILENT_S and newest > source.heard_at:
                del self._sources[number]

    async def _read_orders(self, board: Board) -> None:
        view = await self._books.call(ReadOrders(board.feed.symbol), timeout_s=READ_S)
        if isinstance(view, OrdersView):
            board.orders.tell(view, self._clock())

"""One market's streams: what its followers are told, and when.

Trades go out at once; to many followers, what has gathered in up to 25 ms goes together, as each
write to each of them costs the same whatever is in it. Levels are gathered to at most one event in
100 ms (or a second, where that is asked for), the first of them at once; each event begins with
the update after the one before. What nobody follows is not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from actors.marketdata import TimedTrade
from persistence.trading.queries import start_of_next
from serve_apps.exchange.numbers import Steps
from serve_apps.exchange.streams import payloads
from serve_apps.exchange.streams.bars import Tape
from serve_apps.exchange.streams.feed import Feed, News
from serve_apps.exchange.streams.orders import OrdersCopy
from serve_apps.exchange.streams.topics import FAST_MS, SLOW_MS, StreamName, Topic

BEST_S: Final = 0.02
"""The touch is told at most this often: what comes in between is over before anybody could act."""
WRITE_S: Final = 80e-6
"""What a write to one follower costs all concerned, the proxy and the follower among them."""
GATHER_MIN_S: Final = 0.001
GATHER_MAX_S: Final = 0.025
CANDLE_S: Final = 1.0
TICKER_S: Final = 1.0
CLOSING_GRACE_S: Final = 0.25
"""A candle that ends without a trade waits so long for those that are on their way."""

_TRADES: Final = "trades"


class Board:
    """The streams of one market, over its ``feed`` and ``tape``."""

    def __init__(self, symbol: str, steps: Steps, clock: Callable[[], int], secret: bytes) -> None:
        self.feed: Final = Feed(symbol)
        self.tape: Final = Tape()
        self.texts: Final = payloads.Texts(symbol, steps)
        self.topics: dict[str, Topic] = {}
        self.orders: Final = OrdersCopy(self.texts, secret)
        self.on_best: Callable[[bytes], None] | None = None
        self.traded = False
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._changed: dict[int, dict[tuple[int, int], int]] = {}
        self._from: dict[int, int] = {}
        self._told_at: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_at = 0.0
        self._trades: list[TimedTrade] = []
        self._rolls: dict[str, asyncio.TimerHandle] = {}
        self._best = (0, 0, 0, 0)
        self._depths: dict[str, Topic] = {}
        self._klines: dict[str, str] = {}
        self._partials: dict[str, tuple[int, int]] = {}

    # -- who follows ----------------------------------------------------------------------

    def topic(self, name: str, stream: StreamName) -> Topic:
        """The topic of a stream, about to be followed."""
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(name)
            if stream.kind == "l3":
                self.orders.topic = topic
            if stream.kind == "depth":
                self._depths[name] = topic
                if stream.speed_ms not in self._changed:
                    self._changed[stream.speed_ms] = {}
                    self._from[stream.speed_ms] = self.feed.copy.update + 1
            elif stream.kind == "partial":
                self._partials[name] = (int(stream.argument), stream.speed_ms)
            elif stream.kind == "kline":
                self._klines[name] = stream.argument
                self.follow_candle(stream.argument)
        return topic

    def release(self, name: str) -> None:
        """Forget a topic that nobody follows."""
        topic = self.topics.get(name)
        if topic is None or topic:
            return
        del self.topics[name]
        if topic is self.orders.topic:
            self.orders.forget()
        self._depths.pop(name, None)
        self._partials.pop(name, None)
        interval = self._klines.pop(name, None)
        if interval is not None:
            self.tape.drop(interval)
            if (timer := self._rolls.pop(interval, None)) is not None:
                timer.cancel()
        for speed in list(self._changed):
            if not any(_speed(depth) == speed for depth in self._depths):
                del self._changed[speed], self._from[speed]
        self._due.pop(name, None)

    def close(self) -> None:
        """Tell nothing more."""
        for timer in (self._timer, *self._rolls.values()):
            if timer is not None:
                timer.cancel()
        self._due.clear()
        self._rolls.clear()

    def follow_candle(self, interval: str) -> None:
        """Keep up the bar of an interval, and close it when its time has come."""
        if not self.tape.seeded:
            return
        now = self._clock()
        bar = self.tape.follow(interval, now, self.feed.trades)
        self._roll_at(interval, start_of_next(interval, bar.at), now)

    # -- what is new ----------------------------------------------------------------------

    def tell(self, news: News) -> None:
        """Pass on what the feed says is new."""
        if news.trades:
            self._take_trades(news.trades)
        for speed, changed in self._changed.items():
            for side, price, quantity in news.levels:
                changed[side, price] = quantity
            if self.feed.copy.update >= self._from[speed]:
                name = f"{self.feed.symbol.lower()}@depth"
                for depth in (name, f"{name}@{speed}ms"):
                    if depth in self._depths and _speed(depth) == speed:
                        self._pace(depth, speed / 1_000)
                        break
        if news.levels:
            for name, (_, speed) in self._partials.items():
                self._pace(name, speed / 1_000)
            best = self.feed.copy.best()
            if best != self._best:
                self._best = best
                self._pace("best", BEST_S)
        if news.status and (topic := self._topic("state")) is not None:
            topic.send([self.state()])
        self._flush()

    def tell_trades(self, trades: Sequence[TimedTrade]) -> None:
        """Pass on trades, each once and in order."""
        self._take_trades(trades)
        self._flush()

    def _take_trades(self, trades: Sequence[TimedTrade]) -> None:
        self.traded = True
        if self._topic("trade") is not None or self._topic("aggTrade") is not None:
            self._trades += trades
            self._pace(_TRADES, 0.0)
        if self.tape.seeded:
            self.tape.take_all(trades)
            self._tell_closed(self._clock())
            for name in self._klines:
                self._pace(name, CANDLE_S)
            for kind in ("ticker", "miniTicker"):
                if self._topic(kind) is not None:
                    self._pace(kind, TICKER_S)

    def tell_initial(self) -> None:
        """Tell what depends on the history, now that it is there."""
        for name, interval in self._klines.items():
            self.follow_candle(interval)
            self._pace(name, CANDLE_S)
        for kind in ("ticker", "miniTicker"):
            if self._topic(kind) is not None:
                self._pace(kind, TICKER_S)
        self._flush()

    def initial(self, stream: StreamName) -> bytes | None:
        """What somebody is told who begins to follow a stream that only tells of changes."""
        kind, feed, now = stream.kind, self.feed, self._clock()
        if not feed.known:
            return None
        if kind == "state":
            return self.state()
        if kind == "partial":
            bids, asks = feed.copy.depth(int(stream.argument))
            return payloads.partial_depth(self.texts, feed.copy.update, bids, asks)
        if kind == "l3":
            return self.orders.whole(now)
        if kind == "bookTicker":
            return payloads.book_ticker(self.texts, feed.copy.update, feed.copy.best())
        if not self.tape.seeded:
            return None
        if kind == "kline" and (bar := self.tape.current(stream.argument)) is not None:
            return payloads.kline(self.texts, now, stream.argument, bar, closed=False)
        if kind == "ticker":
            return self.ticker(now)
        if kind == "miniTicker":
            return payloads.mini_ticker(self.texts, now, self.tape.totals(now))
        return None

    def state(self) -> bytes:
        """The event about the instrument's state."""
        feed = self.feed
        return payloads.state(feed.symbol, self._clock(), feed.status, feed.reason, feed.until)

    def ticker(self, now: int) -> bytes:
        """The event about the last 24 hours."""
        return payloads.ticker(self.texts, now, self.tape.totals(now), self.feed.copy.best())

    def heartbeat(self, now: int) -> None:
        """Tell the last sequence, to those who asked for it."""
        if (topic := self._topic("heartbeat")) is not None:
            feed = self.feed
            topic.send([payloads.heartbeat(feed.symbol, now, feed.copy.update, feed.last_trade)])

    # -- inside ---------------------------------------------------------------------------

    def _topic(self, kind: str) -> Topic | None:
        return self.topics.get(f"{self.feed.symbol.lower()}@{kind}")

    def _pace(self, name: str, interval_s: float) -> None:
        """Tell as soon as ``interval_s`` have passed since the last time."""
        if name not in self._due:
            self._due[name] = self._told_at.get(name, 0.0) + interval_s

    def _gather_s(self) -> float:
        """How long to gather for so many followers."""
        most = max((len(t.raw) + len(t.combined) for t in self.topics.values()), default=0)
        wait = most * WRITE_S
        return 0.0 if wait < GATHER_MIN_S else min(wait, GATHER_MAX_S)

    def _flush(self) -> None:
        """Tell whatever it is time for, and come back for the rest."""
        now, gather_s = self._loop.time(), self._gather_s()
        if self._due and now >= self._flushed_at + gather_s:
            # What is due a moment later goes along: it would be a write of its own.
            due = [name for name, at in self._due.items() if at <= now + gather_s / 2]
            if due:
                self._flushed_at = now
            for name in due:
                del self._due[name]
                self._told_at[name] = now
                self._tell(name)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            at = max(min(self._due.values()), self._flushed_at + gather_s)
            self._timer = self._loop.call_at(at, self._flush)

    def _tell(self, name: str) -> None:
        now, texts, copy = self._clock(), self.texts, self.feed.copy
        if name == _TRADES:
            self._tell_trades(now)
        elif name == "best":
            self._tell_best()
        elif name in self._depths:
            self._tell_depth(_speed(name))
        elif name in self._partials:
            bids, asks = copy.depth(self._partials[name][0])
            self.topics[name].send([payloads.partial_depth(texts, copy.update, bids, asks)])
        elif name in self._klines:
            interval = self._klines[name]
            if (bar := self.tape.current(interval)) is not None:
                self.topics[name].send([payloads.kline(texts, now, interval, bar, closed=False)])
        elif (topic := self._topic(name)) is not None:
            if name == "ticker":
                topic.send([self.ticker(now)])
            else:
                topic.send([payloads.mini_ticker(texts, now, self.tape.totals(now))])

    def _tell_trades(self, now: int) -> None:
        trades, self._trades = self._trades, []
        if (topic := self._topic("trade")) is not None:
            topic.send([payloads.trade(self.texts, now, item) for item in trades])
        if (topic := self._topic("aggTrade")) is not None:
            topic.send(
                [payloads.agg_trade(self.texts, now, *one) for one in payloads.aggregated(trades)]
            )

    def _tell_best(self) -> None:
        topic = self._topic("bookTicker")
        if topic is None and self.on_best is None:
            return
        event = payloads.book_ticker(self.texts, self.feed.copy.update, self.feed.copy.best())
        if topic is not None:
            topic.send([event])
        if self.on_best is not None:
            self.on_best(event)

    def _tell_depth(self, speed: int) -> None:
        update, first = self.feed.copy.update, self._from[speed]
        if update < first:
            return
        changed = self._changed[speed]
        event = payloads.depth_update(self.texts, self.feed.at, first, update, changed)
        self._from[speed] = update + 1
        self._changed[speed] = {}
        for name, topic in self._depths.items():
            if _speed(name) == speed:
                topic.send([event])

    def _tell_closed(self, now: int) -> None:
        closed, self.tape.closed = self.tape.closed, []
        for interval, bar in closed:
            name = f"{self.feed.symbol.lower()}@kline_{interval}"
            if (topic := self.topics.get(name)) is not None:
                topic.send([payloads.kline(self.texts, now, interval, bar, closed=True)])

    def _roll_at(self, interval: str, end: int, now: int) -> None:
        if (timer := self._rolls.pop(interval, None)) is not None:
            timer.cancel()
        # A timer cannot be as far away as a month: it looks again each hour.
        wait = min((end - now) / 1e6 + CLOSING_GRACE_S, 3_600.0)
        self._rolls[interval] = self._loop.call_later(max(wait, 0.01), self._roll, interval)

    def _roll(self, interval: str) -> None:
        del self._rolls[interval]
        now = self._clock()
        self.tape.roll(now - round(CLOSING_GRACE_S * 1e6))
        self._tell_closed(now)
        bar = self.tape.current(interval)
        if bar is not None:
            self._roll_at(interval, start_of_next(interval, bar.at), now)


def _speed(name: str) -> int:
    return FAST_MS if name.endswith("@100ms") else SLOW_MS

"""Clients never see a gap: whatever is lost, repeated or late on the way, and across restarts."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.marketdata import MarketBatch
from cluster.simulation.virtual import run_virtual
from serve_apps.exchange.streams.market import Market
from serve_apps.exchange.streams.payloads import Texts
from tests.serve_apps.exchange.streams.site import (
    START,
    SYMBOL,
    Book,
    Client,
    Rebuilt,
    Steps,
    batch,
    make_market,
)

FATES = ("arrives", "arrives", "arrives", "arrives", "lost", "twice", "late", "restart")


class Publisher:
    """A book's publisher, on a network that loses, repeats and delays."""

    def __init__(self, market: Market, book: Book, chance: random.Random) -> None:
        self.market, self.book, self.chance = market, book, chance
        self.source, self.sequence = 1, 0

    def publish(self, fate: str) -> None:
        """Let something happen in the book, and tell of it if fate wills it."""
        self.book.at += 1_000
        news = [self.book.random_change(self.chance) for _ in range(self.chance.randint(1, 3))]
        self.sequence += 1
        message = batch(self.sequence, *news, at=self.book.at, source=self.source)
        loop = asyncio.get_running_loop()
        if fate == "restart":
            # The turn was committed and never told; a new incarnation goes on.
            self.source, self.sequence = self.source + 1, 0
        elif fate == "late":
            loop.call_later(self.chance.uniform(0, 0.4), self.market.receive, message)
        elif fate != "lost":
            self.market.receive(message)
            if fate == "twice":
                loop.call_later(self.chance.uniform(0, 0.2), self.market.receive, message)

    def heartbeat(self) -> None:
        """As each second."""
        self.market.receive(MarketBatch(self.source, self.sequence, []))


def play(seed: int, fates: list[str], pause_s: float, behind: int) -> None:
    """Let it all happen, and compare what a client has made of it with the book."""

    async def main() -> None:
        chance = random.Random(seed)
        book = Book()
        for _ in range(20):
            book.random_change(chance)
        market, books, history = make_market(book)
        await market.start()
        books.delay_s = pause_s
        history.behind = 0
        fast, slow, client = Client(), Client(), Client()
        assert await market.depth(SYMBOL, 5) is not None
        first_trade = len(book.trades)
        fast.follow(market, "btcusd@depth@100ms")
        client.follow(market, "btcusd@trade", "btcusd@depth20@100ms")
        publisher = Publisher(market, book, chance)
        snapshots, updates = [], [0]
        for index, fate in enumerate(fates):
            if index == len(fates) // 2:
                slow.follow(market, "btcusd@depth", combined=True)
            publisher.publish(fate)
            for _ in range(3):
                await asyncio.sleep(chance.choice((0, 0.001, 0.02)))
                updates.append(market.boards[SYMBOL].feed.copy.update)
            if chance.random() < 0.2:
                snapshots.append(await market.depth(SYMBOL, 5_000))
        for _ in range(4):
            await asyncio.sleep(1.0)
            publisher.heartbeat()
        await asyncio.sleep(15)
        _compare(book, market, [fast.events, [e["data"] for e in slow.events]], snapshots)
        assert updates == sorted(updates)
        heard = [event["t"] for event in client.of("trade")]
        assert heard == list(range(first_trade + 1, len(book.trades) + 1))
        partial = [event for event in client.events if "lastUpdateId" in event][-1]
        texts = Texts(SYMBOL, Steps())
        assert partial["bids"] == [
            [texts.price(p), texts.quantity(q)] for p, q in book.view().bids[:20]
        ]
        await market.stop()

    run_virtual(main)


def _compare(book: Book, market: Market, streams: list[Any], snapshots: list[Any]) -> None:
    texts = Texts(SYMBOL, Steps())
    truth = [
        {texts.price(p): texts.quantity(q) for p, q in book.sides[side].items()} for side in (1, 2)
    ]
    copy = market.boards[SYMBOL].feed.copy
    assert (copy.bids, copy.asks, copy.update) == (book.sides[1], book.sides[2], book.update)
    for events in streams:
        for before, after in itertools.pairwise(events):
            assert after["U"] == before["u"] + 1
            assert after["u"] >= after["U"]
    for snapshot in snapshots:
        rebuilt = Rebuilt()
        if snapshot is None or snapshot.update < streams[0][0]["U"] - 1:
            continue
        rebuilt.start(
            snapshot.update,
            [(texts.price(p), texts.quantity(q)) for p, q in snapshot.bids],
            [(texts.price(p), texts.quantity(q)) for p, q in snapshot.asks],
        )
        for event in streams[0]:
            rebuilt.take(event)
        assert [rebuilt.sides["b"], rebuilt.sides["a"]] == truth
        assert rebuilt.update == book.update


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    fates=st.lists(st.sampled_from(FATES), min_size=5, max_size=60),
    pause_s=st.sampled_from((0.001, 0.03, 0.3)),
    behind=st.integers(0, 3),
)
def test_a_book_rebuilt_from_the_stream_is_the_book(
    seed: int, fates: list[str], pause_s: float, behind: int
) -> None:
    play(seed, fates, pause_s, behind)


def test_all_is_lost_and_found_again() -> None:
    play(1, ["lost"] * 30, 0.01, 0)
    play(2, ["restart", "lost"] * 10, 0.01, 0)
    play(3, ["late", "twice"] * 20, 0.3, 0)


def test_while_redis_is_away_followed_books_are_read_again_and_again() -> None:
    async def main() -> None:
        chance = random.Random(5)
        book = Book()
        market, _, _ = make_market(book)
        await market.start()
        client = Client()
        await market.depth(SYMBOL, 5)
        client.follow(market, "btcusd@depth@100ms", "btcusd@trade")
        market.hearing(False)
        for _ in range(10):
            book.random_change(chance)
            await asyncio.sleep(0.3)
        await asyncio.sleep(2)
        assert client.of("depthUpdate")[-1]["u"] == book.update
        assert [event["t"] for event in client.of("trade")] == list(range(1, len(book.trades) + 1))
        depth = await market.depth(SYMBOL, 5)
        assert depth is not None
        assert depth.update == book.update
        # What is asked for over REST is read at once, not when its turn comes.
        book.random_change(chance)
        depth = await market.depth(SYMBOL, 5)
        assert depth is not None
        assert depth.update == book.update
        await market.stop()

    run_virtual(main)


def test_a_silent_publisher_is_not_waited_for() -> None:
    async def main() -> None:
        chance = random.Random(6)
        book = Book()
        market, _, _ = make_market(book)
        await market.start()
        client = Client()
        client.follow(market, "btcusd@depth@100ms")
        publisher = Publisher(market, book, chance)
        publisher.publish("arrives")
        await asyncio.sleep(1)
        for _ in range(20):
            publisher.publish("lost")
        await asyncio.sleep(5)
        assert client.of("depthUpdate")[-1]["u"] == book.update
        # Once a new incarnation is heard, nothing is read that has not changed.
        publisher.publish("restart")
        for _ in range(10):
            publisher.heartbeat()
            await asyncio.sleep(1)
        assert client.of("depthUpdate")[-1]["u"] == book.update
        reads = book.reads
        for _ in range(10):
            publisher.heartbeat()
            await asyncio.sleep(1)
        assert book.reads == reads
        await market.stop()

    run_virtual(main)


def test_trades_that_nobody_has_are_done_without() -> None:
    async def main() -> None:
        book = Book()
        market, _, history = make_market(book)
        await market.start()
        client = Client()
        await market.depth(SYMBOL, 5)
        client.follow(market, "btcusd@trade")
        book.change([], [(100, 1, 1, False)])
        history.lost = {1}
        market.receive(batch(1, book.change([], [(101, 1, 1, False)]), at=START))
        await asyncio.sleep(1)
        assert client.of("trade") == []
        await asyncio.sleep(15)
        assert [event["t"] for event in client.of("trade")] == [2]
        await market.stop()

    run_virtual(main)

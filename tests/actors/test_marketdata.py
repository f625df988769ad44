"""What books and accounts tell the gateways: numbered, gathered, only what somebody wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio
from redis.asyncio.client import Pipeline, PubSub

from actors import marketdata, userdata
from actors.marketdata import CHANNEL, MarketBatch, MarketPublisher, decode_batch, merged
from actors.userdata import CustomerPublisher, channel_of, concerned, decode_news
from domain.accounts.events import AssetIssued
from domain.accounts.trading import OrderReport, OrdersNews
from domain.orders import Cancel, OrderStatus, OrderType, SelfTrade, Side, TimeInForce
from domain.trading.news import BookNews, Level
from domain.trading.rules import BookStatus

WAIT_S = 5.0


def news(symbol: str, update: int, *levels: Level, trades: int = 0) -> BookNews:
    """A decision of a book."""
    made = [(update * 10 + number, 100, 1, 1, number > 0) for number in range(trades)]
    return BookNews(symbol, update, update, levels, made, BookStatus.TRADING, "", 7)


def test_turns_of_a_book_become_one_change() -> None:
    first, other = merged(
        [
            (1, [news("AUSD", 5, (1, 99, 3), (2, 101, 4), trades=2)]),
            (2, [news("BUSD", 1), news("AUSD", 6, (1, 99, 0), (1, 98, 2), trades=1)]),
        ]
    )
    assert (first.symbol, first.at, first.first, first.last) == ("AUSD", 2, 5, 6)
    assert sorted(first.levels) == [(1, 98, 2), (1, 99, 0), (2, 101, 4)]
    assert first.trades == [
        (50, 100, 1, 1, False, 1), (51, 100, 1, 1, True, 1), (60, 100, 1, 1, False, 2),
    ]  # fmt: skip
    assert (first.status, first.reference) == (BookStatus.TRADING, 7)
    assert (other.symbol, other.first, other.last, other.levels) == ("BUSD", 1, 1, [])


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(redis_url)
    yield client
    await client.aclose()


async def heard(channel: PubSub) -> MarketBatch:
    """The next batch."""
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
            if message is not None:
                return decode_batch(message["data"])


async def test_batches_are_numbered_and_heartbeats_repeat_the_number(
    redis_url: str, connection: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marketdata, "HEARTBEAT_S", 0.2)
    async with connection.pubsub() as channel:
        await channel.subscribe(CHANNEL)
        publisher = MarketPublisher(redis_url, gather_s=0.05)
        publisher.publish(1, [], [news("AUSD", 1)])
        publisher.publish(2, [], [])
        publisher.publish(3, [], [news("AUSD", 2)])
        first = await heard(channel)
        assert (first.sequence, first.books[0].last) == (1, 2)
        beat = await heard(channel)
        assert (beat.source, beat.sequence, beat.books) == (first.source, 1, [])
        publisher.publish(4, [], [news("AUSD", 3)])
        while not (second := await heard(channel)).books:
            pass
        assert (second.sequence, second.books[0].first) == (2, 3)
        await publisher.close()
        again = MarketPublisher(redis_url)
        assert (await heard(channel)).source != first.source
        await again.close()


async def test_who_has_not_published_lately_does_so_at_once(
    redis_url: str, connection: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far longer than anybody waits here: only what is published at once is heard.
    monkeypatch.setattr(marketdata, "HEARTBEAT_S", 600.0)
    async with connection.pubsub() as channel:
        await channel.subscribe(CHANNEL)
        publisher = MarketPublisher(redis_url, gather_s=600.0)
        publisher.publish(1, [], [news("AUSD", 1)])
        assert (await heard(channel)).books[0].last == 1
        await publisher.close()


async def test_what_is_lost_has_a_number_too(
    redis_url: str, connection: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marketdata, "_TURNS_MAX", 3)
    async with connection.pubsub() as channel:
        await channel.subscribe(CHANNEL)
        publisher = MarketPublisher(redis_url, gather_s=0.05)
        for update in range(1, 6):
            publisher.publish(update, [], [news("AUSD", update)])
        batch = await heard(channel)
        assert batch.sequence == 2
        assert (batch.books[0].first, batch.books[0].last) == (4, 5)
        # Redis refuses for a moment.
        publish = publisher._redis.publish
        attempts = asyncio.Event()

        async def refuse(*_: object) -> None:
            attempts.set()
            raise redis.exceptions.ConnectionError

        monkeypatch.setattr(publisher._redis, "publish", refuse)
        publisher.publish(6, [], [news("AUSD", 6)])
        await asyncio.wait_for(attempts.wait(), WAIT_S)
        monkeypatch.setattr(publisher._redis, "publish", publish)
        publisher.publish(7, [], [news("AUSD", 7)])
        while not (batch := await heard(channel)).books:
            pass
        assert (batch.sequence, batch.books[0].first) == (4, 7)
        await publisher.close()


def report(ref: int) -> OrderReport:
    """An open order."""
    return OrderReport(
        ref, "", "AUSD", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 100, 1, 0, 0,
        SelfTrade.NONE, OrderStatus.NEW, 0, 0, (), "", 1, 1,
    )  # fmt: skip


async def test_customers_news_go_where_somebody_listens(
    redis_url: str, connection: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [
        (1, [("7", AssetIssued(b"i" * 16, 7, "A", 5, 1))], [OrdersNews(8, (report(1),))]),
        (2, [], [OrdersNews(7, (report(2), report(3)), (Cancel(2),))]),
        (3, [("9", AssetIssued(b"j" * 16, 9, "A", 6, 1))], []),
    ]
    assert concerned(turns) == {7, 8, 9}
    told: list[str] = []
    execute: Any = Pipeline.publish

    def note(self: object, channel: str, message: bytes) -> object:
        told.append(channel)
        return execute(self, channel, message)

    monkeypatch.setattr(Pipeline, "publish", note)
    async with connection.pubsub() as channel:
        await channel.subscribe(channel_of(7))
        await channel.get_message(timeout=1.0)
        publisher = CustomerPublisher(redis_url)
        for turn in turns:
            publisher.publish(*turn)
        async with asyncio.timeout(WAIT_S):
            while (message := await channel.get_message(timeout=1.0)) is None:
                pass
        got = decode_news(message["data"])
        assert [(item.at, item.action, item.report.ref) for item in got.orders] == [
            (2, userdata.CANCELLED, 2), (2, userdata.BY_OTHERS, 3),
        ]  # fmt: skip
        assert [(moved.asset, moved.quantity) for moved in got.funds] == [("A", 5)]
        assert told == [channel_of(7)]
        await publisher.close()

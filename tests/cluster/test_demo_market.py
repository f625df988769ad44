"""The demo's market: listed once however often it is started, and alive through the public API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from actors.projector import Projector
from cluster.bot import Bot
from cluster.demo_market import ENDOWMENT, MARKET, Dealer, open_market
from domain.accounts.trading import BrokerageView, ReadBrokerage
from domain.orders import UNIT, OrderStatus, Side
from persistence.database import Pool
from persistence.trading import catalogue, queries
from serve_apps.application import Application, build
from serve_apps.services import AppConfig
from tests.serve_apps.inprocess import lifespan, make_config, weaken_passwords

REFERENCES = {demo.base + "USD": demo.reference for demo in MARKET}


@pytest.fixture
def config(database_url: str, redis_url: str) -> AppConfig:
    return make_config(database_url, redis_url)


@pytest.fixture
async def dealers(config: AppConfig) -> tuple[Dealer, Dealer]:
    """Maker and taker of a market that has just been opened."""
    opened = await open_market(config)
    assert opened is not None
    return opened


@pytest.fixture
async def app(config: AppConfig, dealers: tuple[Dealer, Dealer]) -> AsyncIterator[Application]:
    application = build(config)
    weaken_passwords(application)
    async with lifespan(application):
        yield application


async def balances(app: Application, user: int) -> dict[str, int]:
    view = await app.services.accounts.call(ReadBrokerage(user))
    assert isinstance(view, BrokerageView)
    return {balance.asset: balance.total for balance in view.balances}


def bot_of(app: Application, dealers: tuple[Dealer, Dealer], round_s: float) -> Bot:
    maker, taker = dealers
    return Bot(
        "http://kontor.test",
        (maker.key, maker.secret),
        (taker.key, taker.secret),
        REFERENCES,
        round_s=round_s,
        seed=1,
        transport=httpx.ASGITransport(app),
    )


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def settled(app: Application, user: int) -> BrokerageView:
    """What a dealer has, once all that was sent before the bot was stopped has been answered."""
    async with asyncio.timeout(30):
        while True:
            # A batch is one trade: its orders are pending, and its cancels wait, until then.
            view = await app.services.accounts.call(ReadBrokerage(user))
            assert isinstance(view, BrokerageView)
            if all(order.status is not OrderStatus.PENDING for order in view.orders):
                return view
            await asyncio.sleep(0.05)


async def test_the_market_is_opened_once(
    config: AppConfig, dealers: tuple[Dealer, Dealer], pool: Pool
) -> None:
    listed = await catalogue.all_instruments(pool)
    assert sorted(row.symbol for row in listed) == sorted(REFERENCES)
    kinds = [row.type for row in listed]
    assert all(kinds.count(kind) >= 3 for kind in ("stock", "bond", "fund", "crypto"))
    again = await open_market(config)
    assert again is not None
    assert [dealer.user for dealer in again] == [dealer.user for dealer in dealers]
    assert {dealer.key for dealer in again}.isdisjoint(dealer.key for dealer in dealers)
    app = build(config)
    async with lifespan(app):
        maker = await balances(app, dealers[0].user)
        assert maker["NORD"] == 12_000_000 * UNIT
        assert maker["USD"] == ENDOWMENT * UNIT // 100
        taker = await balances(app, dealers[1].user)
        assert "NORD" not in taker
        assert taker["BTC"] == 2_000 * UNIT


async def test_the_books_live(app: Application, dealers: tuple[Dealer, Dealer], pool: Pool) -> None:
    """Levels on both sides of each book, trades, and no more orders than there are levels."""
    bot = bot_of(app, dealers, 0.01)
    task = asyncio.create_task(bot.run())
    await until(lambda: bot.rounds >= 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    view = await settled(app, dealers[0].user)
    for symbol in REFERENCES:
        open_ = [order for order in view.orders if order.symbol == symbol]
        bids = [order.price for order in open_ if order.side == Side.BUY]
        asks = [order.price for order in open_ if order.side == Side.SELL]
        assert 6 <= len(bids) <= 9, symbol
        assert 6 <= len(asks) <= 9, symbol
        assert max(bids) < min(asks)
    projector = Projector(pool)
    while await projector.step():
        pass
    traded = await pool.fetchval("SELECT count(*) FROM trades")
    assert traded >= 30
    bars = await queries.bars(pool, "BTCUSD", "1d", 0, 2**52)
    assert sum(bar.count for bar in bars) > 3


async def test_the_bot_goes_on_after_a_restart_with_the_orders_that_are_there(
    app: Application, dealers: tuple[Dealer, Dealer]
) -> None:
    first = bot_of(app, dealers, 0.01)
    task = asyncio.create_task(first.run())
    await until(lambda: first.rounds >= 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.5)  # what was on its way arrives
    second = bot_of(app, dealers, 0.01)
    task = asyncio.create_task(second.run())
    await until(lambda: second.rounds >= 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    view = await settled(app, dealers[0].user)
    for symbol in REFERENCES:
        assert sum(order.symbol == symbol for order in view.orders) <= 18

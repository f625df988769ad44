"""The path of an order over real partitions of both kinds, which are killed on the way."""

from __future__ import annotations

import asyncio

from actors.accounts import accounts_codec
from domain.accounts import trading as tr
from domain.durable import Rejection
from domain.orders import OrderStatus, Side, Worked
from tests.actors.exchange import CENTS, RULES, SYMBOL, TERMS, Exchange
from tests.domain.accounts.floor import fee_of, limit, market


async def test_a_trade_moves_both_sides(exchange: Exchange) -> None:
    (asked,) = await exchange.say(exchange.seller, limit(Side.SELL, 100, 50, "s1"))
    assert (asked.ref, asked.status, asked.code) == (1, OrderStatus.NEW, "")
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 50 * RULES.lot)
    (bought,) = await exchange.say(exchange.buyer, limit(Side.BUY, 110, 60))
    assert (bought.status, bought.filled, bought.quote) == (
        OrderStatus.PARTIALLY_FILLED,
        50,
        5_000,
    )
    await exchange.quiet()
    coins, cash = 50 * RULES.lot, 5_000 * RULES.unit
    assert await exchange.balances(exchange.buyer) == {
        "BTC": (coins - fee_of(coins, TERMS.taker), 0),
        "USD": (90_000 * CENTS - cash, 10 * 110 * RULES.unit),
    }
    assert await exchange.balances(exchange.seller) == {
        "BTC": (10**8 - coins, 0),
        "USD": (cash - fee_of(cash, TERMS.maker), 0),
    }
    (cancelled,) = await exchange.say(exchange.buyer, tr.CancelOrder(bought.ref))
    assert cancelled.status == OrderStatus.CANCELED
    assert (await exchange.balances(exchange.buyer))["USD"] == (90_000 * CENTS - cash, 0)


async def test_answers_stay_and_nothing_is_done_twice(exchange: Exchange) -> None:
    one = exchange.trade(
        exchange.seller,
        limit(Side.SELL, 100, 5, "a", id=b"a" * 16),
        limit(Side.SELL, 0, 5, "b", id=b"b" * 16),
        limit(Side.SELL, 101, 5, "c", id=b"c" * 16),
    )
    first = await exchange.ask(one)
    assert [report.code for report in first.reports] == ["", "filter_price", ""]
    refused = exchange.trade(exchange.buyer, market(Side.SELL, 1))
    answer = await exchange.ask(refused)
    assert answer.reports[0].code == "insufficient_balance"
    await exchange.kill()
    assert await exchange.ask(one) == first
    assert await exchange.ask(refused) == answer
    part = tr.Trade(b"c" * 16, b"", exchange.seller, SYMBOL, TERMS, one.actions[2:])
    (report,) = (await exchange.ask(part)).reports
    assert report == first.reports[2]
    again = exchange.trade(exchange.seller, limit(Side.SELL, 100, 5, "z", id=b"a" * 16))
    assert await exchange.ask(again) == Rejection("id_reused")
    other = tr.Trade(one.id, b"other", *(getattr(one, name) for name in one.__struct_fields__[2:]))
    assert await exchange.ask(other) == Rejection("id_reused")
    view = await exchange.site.call(tr.ReadBrokerage(exchange.seller), tr.BrokerageView)
    assert [order.client for order in view.orders] == ["a", "c"]


async def test_killed_again_and_again(exchange: Exchange) -> None:
    """Orders of both sides while everything dies; each is answered, and the books are right."""
    buyer, seller = exchange.buyer, exchange.seller

    async def trade(customer: int, side: Side) -> list[tr.OrderReport]:
        reports: list[tr.OrderReport] = []
        for number in range(12):
            price = 100 + (number * 7) % 5
            reports += await exchange.say(customer, limit(side, price, 3 + number % 4))
            if number % 4 == 3:
                cancel, order = tr.CancelOrder(reports[-1].ref), limit(side, 102, 4, after=True)
                reports += await exchange.say(customer, cancel, order)
        return reports

    async def kill() -> None:
        for _ in range(4):
            await asyncio.sleep(0.15)
            await exchange.kill()

    bought, sold, _ = await asyncio.gather(trade(buyer, Side.BUY), trade(seller, Side.SELL), kill())
    assert len(bought) == len(sold) == 12 + 6
    await exchange.quiet()
    for customer, side in ((buyer, Side.BUY), (seller, Side.SELL)):
        for report in await exchange.say(customer, tr.CancelAll()):
            assert (report.side, report.code) == (side, "")
    await exchange.quiet()
    for customer in (buyer, seller):
        assert not any(held for _, held in (await exchange.balances(customer)).values())


async def test_a_dead_mans_switch_goes_off(exchange: Exchange) -> None:
    await exchange.say(exchange.seller, limit(Side.SELL, 100, 5), limit(Side.SELL, 101, 5))
    site = exchange.site
    for at in (site.now + 500_000, site.now + 10**9):
        await exchange.ask(tr.CancelAfter(site.id(), b"c", exchange.seller, "", at))
    home = site.partitions[site.owner(str(exchange.seller))]
    site.now += 600_000
    await home.fire()
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 10 * RULES.lot)
    site.now += 10**9
    await home.fire()
    await exchange.quiet()
    assert (await exchange.balances(exchange.seller))["BTC"] == (10**8, 0)
    view = await site.call(tr.ReadBrokerage(exchange.seller), tr.BrokerageView)
    assert (view.orders, view.switches) == ((), ())
    assert [order.status for order in view.recent] == [OrderStatus.CANCELED] * 2


def test_every_answer_to_a_message_can_be_read() -> None:
    """Also a customer's own, where a message to oneself has left the turn."""
    codec = accounts_codec()
    for answer in (None, Worked(1, ()), tr.TradeReply(1, ())):
        assert codec.decode_answer(codec.encode(answer)) == answer

"""Pages of the exchange over a real engine, real accounts and real market data, without a browser.

Everything that a page shows first must be there without scripts, so it can be read here.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.identity.permissions import ADMINISTRATOR
from domain.trading.commands import Halt, InstrumentReply, Resume
from domain.trading.rules import About, InstrumentType, Rules
from persistence import roles
from serve_apps.pages.exchange import past
from tests.serve_apps.browser import Browser
from tests.serve_apps.exchange.venue import UNIT, Trader, Venue, eventually, open_venue

STOCK = Rules(
    base="KTRA",
    quote="USD",
    tick=UNIT // 100,
    lot=UNIT,
    notional_min=100,
    quantity_max=10**5,
    price_max=10**6,
)


@pytest.fixture
async def venue(database_url: str, redis_url: str) -> AsyncIterator[Venue]:
    """A market of bitcoins and one of a stock, with a projector behind them."""
    async with open_venue(database_url, redis_url, project=True) as opened:
        await opened.list(
            STOCK, About(InstrumentType.STOCK, "Kontor <Trading> AG", "Earns fees & pays them.")
        )
        yield opened


@pytest.fixture
async def maker(venue: Venue) -> Trader:
    """Somebody who offers 1 BTC at 101 dollars and asks for 2 at 99."""
    trader = await venue.trader("max", BTC=100, USD=1_000_000)
    await trader.place("SELL", "101.00", "1")
    await trader.place("BUY", "99.00", "2")

    async def both() -> bool:
        depth = await venue.app.services.market.depth("BTCUSD", 5)
        return depth is not None and bool(depth.bids and depth.asks)

    await eventually(both)
    return trader


@pytest.fixture
async def ann(venue: Venue, maker: Trader) -> AsyncIterator[Browser]:
    """Somebody with 10,000 dollars at the exchange, on the trading page."""
    async with Browser(venue.app) as browser:
        await browser.sign_up("Ann Baker")
        await fund(browser, "10000")
        await browser.go("/trade/BTCUSD")
        yield browser


async def fund(browser: Browser, amount: str) -> None:
    """Move dollars to the exchange."""
    await browser.go("portfolio/")
    action = f"{browser.home}portfolio/fund"
    await browser.submit(action, account=browser.accounts["USD"], amount=amount)
    assert browser.page.status_code == 200, browser.text


async def place(browser: Browser, **fields: str) -> str:
    """Send the open page's ticket; what the page says then."""
    await browser.submit("/trade/BTCUSD#ticket", **{"type": "limit", **fields})
    return browser.text


def orders(browser: Browser) -> list[str]:
    """Numbers of the open orders that the page shows."""
    return re.findall(r'data-order="(\d+)"', browser.page.text)


async def in_the_book(browser: Browser, price: str) -> None:
    """Load the page until the book has a price: what is in it comes a moment after the answer."""

    async def seen() -> bool:
        await browser.go("/trade/BTCUSD")
        return f'data-price="{price}"' in browser.page.text

    await eventually(seen)


# -- visitors ---------------------------------------------------------------------------------


async def test_visitors_find_instruments(venue: Venue, maker: Trader) -> None:
    async with Browser(venue.app) as visitor:
        await visitor.go("/markets")
        assert "BTC /USD" in visitor.text
        assert "Kontor <Trading> AG" not in visitor.page.text
        assert "Kontor &lt;Trading&gt; AG" in visitor.page.text
        await visitor.go("/markets?q=kontor")
        assert 'data-market="KTRAUSD"' in visitor.page.text
        assert 'data-market="BTCUSD"' not in visitor.page.text
        await visitor.go("/markets?type=crypto")
        assert 'data-market="KTRAUSD"' not in visitor.page.text
        await visitor.go("/markets?q=nobody&cursor=x")
        assert visitor.page.status_code == 200
        assert "No instrument fits this search." in visitor.text
        await visitor.go("/markets/KTRAUSD")
        assert "Earns fees &amp; pays them." in visitor.page.text
        for path in ("/markets/NOPE", "/trade/NOPE", "/trade/" + "X" * 50):
            assert (await visitor.go(path)).status_code == 404


async def test_visitors_see_the_market_and_cannot_trade(venue: Venue, maker: Trader) -> None:
    async with Browser(venue.app) as visitor:
        await visitor.go("/trade/BTCUSD")
        assert 'data-price="101.00"' in visitor.page.text
        assert 'data-price="99.00"' in visitor.page.text
        assert "Spread 2.00" in visitor.text
        assert "Log in to trade" in visitor.text
        await place(visitor, price="100", quantity="1")
        assert visitor.page.url.path == "/login"
        fields = {"csrf": "", "ref": "1"}
        await visitor.post("/trade/BTCUSD/cancel", fields)
        assert visitor.page.url.path == "/login"
        await visitor.go("/trade/BTCUSD/fragments/desk")
        assert visitor.page.url.path == "/login"


async def test_a_price_of_the_book_fills_the_ticket(venue: Venue, maker: Trader) -> None:
    async with Browser(venue.app) as visitor:
        await visitor.go('/trade/BTCUSD?price=99.00&side=sell&"><script>')
        fields = visitor.fields("/trade/BTCUSD#ticket")
        assert (fields["price"], fields["side"]) == ("99.00", "sell")
        await visitor.go('/trade/BTCUSD?price="><script>alert(1)</script>')
        assert "<script>alert" not in visitor.page.text


async def test_after_the_login_one_is_back_at_the_market(venue: Venue) -> None:
    async with Browser(venue.app) as browser:
        await browser.sign_up("Ann Baker")
        await browser.submit("/logout")
        await browser.go("/login?next=/trade/BTCUSD")
        await browser.submit("/login", email="ann@example.com", password="correct horse battery")
        assert browser.page.url.path == "/trade/BTCUSD"


# -- orders -----------------------------------------------------------------------------------


async def test_an_order_is_placed_and_seen_without_scripts(ann: Browser) -> None:
    text = await place(ann, price="90", quantity="1.5")
    assert ann.page.status_code == 200
    assert "Buy 1.50000 BTC at 90.00: open." in text
    assert orders(ann) == ["1"]
    assert re.search(r'data-available="quote" data-units="986500000000"', ann.page.text)
    assert "0.00000 / 1.50000" in text
    await in_the_book(ann, "90.00")


async def test_an_order_that_trades_shows_as_filled(ann: Browser) -> None:
    await place(ann, type="market", quantity="0.5", price="")
    assert orders(ann) == []
    assert "Filled" in ann.text
    assert 'data-balance="BTC"' in ann.page.text
    await ann.go("/trade/BTCUSD")
    assert re.search(r'data-last data-direction="\w+">101.00<', ann.page.text)
    printed = re.search(r'class="print" data-side="buy".*?datetime="([^"]+)"', ann.page.text)
    assert printed is not None
    age = datetime.now(UTC) - datetime.fromisoformat(printed[1])
    assert timedelta() <= age < timedelta(minutes=1)

    async def filled() -> bool:
        await ann.go("/trade/BTCUSD")
        return "0.0010000 BTC" in ann.text or "0.001 BTC" in ann.text

    await eventually(filled)


async def test_a_refused_order_comes_back_with_its_form(ann: Browser) -> None:
    text = await place(ann, price="90.001", quantity="1.5", force="fok")
    assert ann.page.status_code == 422
    assert "The price must be a multiple of 0.01 USD" in text
    fields = ann.fields("/trade/BTCUSD#ticket")
    assert (fields["price"], fields["quantity"], fields["force"]) == ("90.001", "1.5", "fok")
    text = await place(ann, price="90", quantity="1000")
    assert ann.page.status_code == 422
    assert "Less is available than" in text
    text = await place(ann, type="limit_maker", price="101", quantity="1")
    assert ann.page.status_code == 422
    assert "would trade at once" in text
    assert orders(ann) == []
    text = await place(ann, price="90", quantity="1.5", force="fok")
    assert "Buy 1.50000 BTC at 90.00: expired." in text
    assert "notice-info" in ann.page.text
    await place(ann, price="90", quantity="1.5", force="gtc")
    assert len(orders(ann)) == 1


async def test_a_form_sent_twice_places_one_order(ann: Browser) -> None:
    fields = {**ann.fields("/trade/BTCUSD#ticket"), "price": "90", "quantity": "1"}
    for _ in range(3):
        await ann.post("/trade/BTCUSD", fields)
        assert ann.page.status_code == 200
    assert orders(ann) == ["1"]
    await ann.post("/trade/BTCUSD", {**fields, "quantity": "2"})
    assert ann.page.status_code == 422
    assert "already placed an order" in ann.text


async def test_nothing_is_placed_without_the_forms_token(ann: Browser) -> None:
    fields = {**ann.fields("/trade/BTCUSD#ticket"), "price": "90", "quantity": "1"}
    for token in ("", secrets.token_hex(16)):
        await ann.post("/trade/BTCUSD", {**fields, "csrf": token})
        assert ann.page.status_code == 403
    await ann.post("/trade/BTCUSD", fields, **{"sec-fetch-site": "cross-site"})
    assert ann.page.status_code == 403
    await ann.go("/trade/BTCUSD")
    assert orders(ann) == []


async def test_with_htmx_only_the_ticket_comes_back(ann: Browser) -> None:
    fields = {**ann.fields("/trade/BTCUSD#ticket"), "price": "90", "quantity": "1"}
    await ann.post("/trade/BTCUSD", fields, **{"hx-request": "true"})
    assert "<html" not in ann.page.text
    assert "Buy 1.00000 BTC at 90.00: open." in ann.text
    again = ann.fields("/trade/BTCUSD#ticket")
    assert again["key"] != fields["key"]
    assert again["quantity"] == ""
    await ann.post("/trade/BTCUSD", {**again, "quantity": "x"}, **{"hx-request": "true"})
    assert ann.page.status_code == 422
    assert "<html" not in ann.page.text
    assert 'aria-invalid="true"' in ann.page.text
    await ann.post(
        "/trade/BTCUSD",
        {**again, "key": secrets.token_hex(16), "price": "101", "quantity": "3"},
        **{"hx-request": "true"},
    )
    assert "Buy 3.00000 BTC at 101.00: filled 1.00000 at 101.00." in ann.text


async def test_orders_are_amended_and_cancelled(ann: Browser) -> None:
    await place(ann, price="90", quantity="2")
    amend = "/trade/BTCUSD/amend"
    await ann.submit(amend, quantity="1")
    assert orders(ann) == ["1"]
    assert "0.00000 / 1.00000" in ann.text
    await ann.submit(amend, price="91.50")
    assert orders(ann) == ["2"]
    await in_the_book(ann, "91.50")
    await ann.submit(amend, quantity="none")
    assert ann.page.status_code == 422
    assert "is not a number" in ann.text
    await ann.submit(amend, price="1.001")
    assert ann.page.status_code == 422
    assert orders(ann) == ["2"]
    form = ann.fields("/trade/BTCUSD/cancel")
    await ann.submit("/trade/BTCUSD/cancel")
    assert orders(ann) == []
    await ann.post("/trade/BTCUSD/cancel", form)
    assert ann.page.status_code == 422
    assert "not open any more" in ann.text or "no such open order" in ann.text
    assert re.search(r'data-available="quote" data-units="1000000000000"', ann.page.text)


async def test_all_orders_are_cancelled_at_once(ann: Browser) -> None:
    for price in ("90", "91", "92"):
        await place(ann, price=price, quantity="1")
    assert orders(ann) == ["3", "2", "1"]
    await ann.submit("/trade/BTCUSD/cancel-all")
    assert orders(ann) == []


async def test_orders_of_others_are_out_of_reach(venue: Venue, ann: Browser, maker: Trader) -> None:
    await place(ann, price="90", quantity="1")
    form = ann.fields("/trade/BTCUSD/cancel")
    async with Browser(venue.app) as eve:
        await eve.sign_up("Eve Moore")
        await eve.go("/trade/BTCUSD")
        token = eve.fields("/trade/BTCUSD#ticket")["csrf"]
        await eve.post("/trade/BTCUSD/cancel", {**form, "csrf": token})
        assert eve.page.status_code == 422
        for path in ("portfolio/", "orders/", "fills/", "keys/"):
            assert (await eve.go(ann.home + path)).status_code == 404
    await ann.go("/trade/BTCUSD")
    assert orders(ann) == ["1"]


async def test_a_halted_market_says_so(venue: Venue, ann: Browser) -> None:
    await place(ann, price="90", quantity="1")
    number = secrets.token_bytes(16)
    halted = await venue.books.call(Halt(number, number, "BTCUSD", "News are awaited"))
    assert isinstance(halted, InstrumentReply)

    async def banner() -> bool:
        await ann.go("/trade/BTCUSD")
        return "Trading is halted: News are awaited" in ann.text

    await eventually(banner)
    text = await place(ann, price="90", quantity="1")
    assert ann.page.status_code == 422
    assert "halted" in text
    await ann.submit("/trade/BTCUSD/cancel")
    assert orders(ann) == []
    number = secrets.token_bytes(16)
    assert isinstance(await venue.books.call(Resume(number, number, "BTCUSD")), InstrumentReply)

    async def trades() -> bool:
        await ann.go("/trade/BTCUSD")
        return bool(re.search(r'data-banner class="trade-banner" hidden', ann.page.text))

    await eventually(trades)


# -- portfolio, the past, keys ----------------------------------------------------------------


async def test_money_goes_to_the_exchange_and_back(ann: Browser) -> None:
    await place(ann, type="market", total="", quantity="1", price="")
    await ann.go("portfolio/")
    assert 'data-asset="BTC"' in ann.page.text
    # 10,000 less 101 for the coin, of which 0.2 % went to the house; at 101 dollars again.
    assert "9,999.79" in ann.text
    await ann.go("")
    assert "At the exchange" in ann.text
    assert "9,999.79" in ann.text
    await ann.go("portfolio/?base=EUR")
    assert re.search(r"data-total>[0-9,.]+<span[^>]*> EUR", ann.page.text)
    await ann.go("portfolio/?base=USD")
    action = f"{ann.home}portfolio/withdraw"
    await ann.submit(action, account=ann.accounts["USD"], amount="99999")
    assert ann.page.status_code == 409
    assert ann.fields(action)["amount"] == "99999"
    assert 'aria-invalid="true"' in ann.page.text
    await ann.submit(action, account=ann.accounts["USD"], amount="1.234")
    assert ann.page.status_code == 422
    await ann.submit(action, account=ann.accounts["USD"], amount="9,000")
    assert ann.page.status_code == 200
    assert "The money is back on your account." in ann.text
    assert "899.00" in ann.text


async def test_the_past_is_filtered_sorted_and_exported(venue: Venue, ann: Browser) -> None:
    for price, side in (("90", "buy"), ("91", "buy"), ("101", "buy")):
        await place(ann, price=price, quantity="0.5", side=side)
    await place(ann, price="200", quantity="0.25", side="sell")

    async def projected() -> bool:
        await ann.go("orders/")
        return ann.text.count("No. ") == 4

    await eventually(projected)
    assert [int(n) for n in re.findall(r"No\. (\d)", ann.text)] == [4, 3, 2, 1]
    await ann.go("orders/?side=sell&sort=-price&symbol=BTCUSD")
    assert re.findall(r"No\. (\d)", ann.text) == ["4"]
    await ann.go("orders/?sort=price")
    assert re.findall(r"No\. (\d)", ann.text) == ["1", "2", "3", "4"]
    await ann.go("orders/?status=filled")
    assert re.findall(r"No\. (\d)", ann.text) == ["3"]
    for wrong in ("side=up", "sort=colour", "from_date=soon", "status=odd", "type=x"):
        await ann.go(f"orders/?{wrong}")
        assert ann.page.status_code == 422, wrong
        assert "cannot be read" in ann.text
    await ann.go("orders/?cursor=broken")
    assert ann.page.url.query == b""
    await ann.go("orders/export.csv?side=buy&sort=date")
    rows = list(csv.DictReader(io.StringIO(ann.page.text)))
    assert [row["price"] for row in rows] == ["90.00", "91.00", "101.00"]
    assert rows[2]["fee"] == "0.00100000"
    assert rows[2]["fee_asset"] == "BTC"
    await ann.go("fills/?role=taker")
    assert "0.001 BTC" in ann.text
    await ann.go("fills/export.csv")
    (fill,) = csv.DictReader(io.StringIO(ann.page.text))
    assert (fill["price"], fill["quantity"], fill["value"]) == ("101.00", "0.50000", "50.50000000")
    assert (await ann.go("fills/export.csv?side=x")).status_code == 422


@pytest.mark.parametrize("kind", [past.ORDERS, past.FILLS], ids=lambda kind: kind.name)
async def test_the_past_can_be_sorted_without_its_headings(
    venue: Venue, ann: Browser, kind: past.Kind
) -> None:
    await place(ann, price="101", quantity="0.5", side="buy")

    async def projected() -> bool:
        await ann.go(f"{kind.name}/")
        return "101.00" in ann.text

    await eventually(projected)
    for order in (*kind.orders, f"-{kind.sorts[1]}"):
        await ann.go(f"{kind.name}/?sort={order}")
        (choice,) = re.findall(
            r'<select[^>]* name="sort" form="filters".*?</select>', ann.page.text, re.S
        )
        assert re.findall(r'value="([^"]+)" selected', choice) == [order]
        offered = re.findall(r'value="([^"]+)"', choice)
        assert offered[: len(kind.orders)] == list(kind.orders)


async def test_a_keys_secret_is_shown_once(ann: Browser) -> None:
    await ann.go("keys/")
    action = f"{ann.home}keys/"
    await ann.submit(action, label="", read="1", networks="not an address")
    assert ann.page.status_code == 422
    await ann.submit(action, label="Bot", read="1", networks="not an address")
    assert ann.page.status_code == 422
    assert "203.0.113.7" in ann.text
    await ann.submit(action, label="Bot <1>", trade="1", networks="203.0.113.0/24")
    assert ann.page.status_code == 200
    (secret,) = re.findall(r"data-secret>(\w{64})<", ann.page.text)
    assert "Bot &lt;1&gt;" in ann.page.text
    await ann.go("keys/")
    assert secret not in ann.page.text
    assert "Only from 203.0.113.0/24" in ann.text
    await ann.submit(f"{ann.home}keys/revoke")
    assert "The key is revoked." in ann.text
    assert "No program has a key." in ann.text


# -- administrators ---------------------------------------------------------------------------


@pytest.fixture
async def admin(venue: Venue) -> AsyncIterator[Browser]:
    """Somebody with the role of an administrator."""
    async with Browser(venue.app) as browser:
        await browser.sign_up("Olga Stone")
        user = int(browser.home.strip("/").rpartition("/")[2])
        await roles.grant(venue.app.services.pool, user, ADMINISTRATOR, "a test")
        await browser.submit("/logout")
        await browser.go("/login")
        await browser.submit("/login", email="olga@example.com", password="correct horse battery")
        yield browser


async def test_instruments_are_listed_halted_and_delisted(
    venue: Venue, admin: Browser, ann: Browser
) -> None:
    place_ = "/operations/instruments/"
    assert (await ann.go(place_)).status_code == 404
    await ann.go("/trade/BTCUSD")
    token = ann.fields("/trade/BTCUSD#ticket")["csrf"]
    form = {"csrf": token, "change": "halt", "reason": "mine"}
    assert (await ann.post(place_ + "BTCUSD", form)).status_code == 404

    await admin.go(place_)
    assert admin.page.status_code == 200
    await admin.submit(place_, base="ABC", name="Abacus", tick="none", reference="12.50")
    assert admin.page.status_code == 422
    assert "The price step cannot be so." in admin.text
    assert admin.fields(place_)["name"] == "Abacus"
    await admin.submit(place_, tick="0.01")
    assert "The instrument is listed." in admin.text
    assert 'data-instrument="ABCUSD"' in admin.page.text
    await admin.submit(place_, base="ABC", name="Abacus")
    assert admin.page.status_code == 409

    await admin.go(place_)
    await admin.submit(place_ + "ABCUSD", change="halt", reason="Wait for news")
    assert "Wait for news" in admin.text
    await admin.submit(place_ + "ABCUSD", change="auction", minutes="0")
    assert admin.page.status_code == 422
    unknown = {**admin.fields(place_ + "ABCUSD"), "change": "explode"}
    await admin.submit(place_ + "ABCUSD", change="auction", minutes="5")
    async with Browser(venue.app) as visitor:

        async def auction() -> bool:
            await visitor.go("/trade/ABCUSD")
            return bool(re.search(r"Auction until \d\d:\d\d:\d\d UTC", visitor.text))

        await eventually(auction)
    assert (await admin.post(place_ + "ABCUSD", unknown)).status_code == 404
    await admin.go(place_)
    await admin.submit(place_ + "ABCUSD", change="resume")
    await admin.submit(place_ + "ABCUSD", change="delist", reason="Gone")
    assert place_ + "ABCUSD" not in admin.page.text
    async with Browser(venue.app) as visitor:
        await visitor.go("/markets")
        assert "Abacus" not in visitor.text

        async def gone() -> bool:
            await visitor.go("/trade/ABCUSD")
            return "not traded any more" in visitor.text

        await eventually(gone)

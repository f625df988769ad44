"""The exchange in real browsers: search, fund, trade, watch it live, amend, cancel, take stock."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import complain_about_scripts, sign_up
from tests.e2e.looks import WIDTHS, check, picture
from tests.e2e.steps import enter
from tests.e2e.trader import FAR, MARKET, fund, order, trade_page

pytestmark = pytest.mark.e2e


def test_a_visitor_finds_an_instrument_and_sees_it_move(open_browser: OpenBrowser) -> None:
    page = open_browser().new_page()
    complain_about_scripts(page)
    page.goto("/")
    page.get_by_role("link", name="See the markets").click()
    page.get_by_label("Name, symbol or description").fill("ether")
    rows = page.locator("[data-market]")
    expect(rows).to_have_count(1)
    expect(page).to_have_url(re.compile(r"\?q=ether$"))
    page.get_by_role("link", name=re.compile("ETH")).first.click()
    expect(page.get_by_role("heading", name="Ether")).to_be_visible()
    page.get_by_role("link", name="Trade ETH").click()
    expect(page.get_by_role("link", name="Log in to trade")).to_be_visible()
    page.goto(MARKET)
    expect(page.locator("[data-feed-light]")).to_have_text("Live")
    seen = page.locator("[data-bids]").inner_text()
    expect(page.locator("[data-bids]")).not_to_have_text(seen, timeout=30_000)
    expect(page.locator("[data-chart-holder] canvas").first).to_be_visible(timeout=30_000)
    page.get_by_text("Choose another instrument").locator("..").click()
    page.get_by_label("Search by name or symbol").fill("ether")
    page.locator("[data-pairs] a:visible").click()
    expect(page).to_have_url(re.compile("/trade/ETHUSD$"))


def test_orders_are_placed_amended_cancelled_and_filled(make_customer: MakeCustomer) -> None:
    ann = make_customer("Ann Baker")
    fund(ann, "90")
    page, other = ann.page, ann.page.context.new_page()
    complain_about_scripts(other)
    trade_page(other)
    trade_page(page)

    order(page, price=FAR, quantity="0.001")
    expect(page.locator("[data-placed]")).to_contain_text("open")
    mine = page.locator("tr[data-order]")
    expect(mine).to_have_count(1)
    expect(page.locator("[data-available=quote]")).to_have_text("50.00 USD")
    # Nothing was done on the other page, and it shows there.
    expect(other.locator("tr[data-order]")).to_have_count(1)

    mine.locator("summary").click()
    mine.get_by_label("Quantity").fill("0.0005")
    mine.get_by_role("button", name="Amend", exact=True).click()
    expect(mine).to_contain_text("/ 0.00050")
    expect(page.locator("[data-available=quote]")).to_have_text("70.00 USD")

    order(page, type="market", total="20")
    expect(page.locator("[data-placed]")).to_contain_text("filled")
    expect(other.locator("#toasts")).to_contain_text("Bought")
    other.locator("[name=desk][value=balances]").check(force=True)
    expect(other.locator('tr[data-balance="BTC"]')).to_be_visible()

    page.get_by_role("button", name=re.compile("^Cancel order")).click()
    expect(mine).to_have_count(0)
    expect(other.locator("tr[data-order]")).to_have_count(0)
    page.locator("[name=desk][value=history]").check(force=True)
    expect(page.locator("[data-desk=history] tbody tr")).to_have_count(2)

    ann.go("portfolio/")
    expect(page.locator('[data-asset="BTC"]')).to_be_visible()
    ann.go("orders/?status=cancelled")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    ann.go("fills/")
    expect(page.locator("#results tbody")).to_contain_text("Taker")


def test_enter_sends_the_side_that_is_chosen(make_customer: MakeCustomer) -> None:
    ann = make_customer("Ann Baker")
    fund(ann, "90")
    page = ann.page
    trade_page(page)
    order(page, type="market", total="60")
    expect(page.locator("[data-placed]")).to_contain_text("filled")
    ticket = page.locator("[data-ticket]")
    ticket.locator("#type").select_option("limit")
    ticket.locator("input[name=side][value=sell]").check(force=True)
    ticket.locator("#price").fill("90000")
    ticket.locator("#quantity").fill("0.0005")
    ticket.locator("#quantity").press("Enter")
    expect(page.locator("[data-placed]")).to_contain_text("Sell 0.00050 BTC at 90,000.00: open")
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("tr[data-order]")).to_have_count(0)


def test_a_halt_shows_on_open_pages(open_browser: OpenBrowser) -> None:
    visitor, page = open_browser().new_page(), open_browser().new_page()
    complain_about_scripts(visitor)
    visitor.goto("/trade/LTCUSD")
    expect(visitor.locator("[data-feed-light]")).to_have_text("Live")
    banner = visitor.locator("[data-banner]")
    expect(banner).to_be_hidden()
    # The first answer comes from a replica that has not heard of the halt yet.
    before = visitor.request.get("/trade/LTCUSD").text()
    visitor.route(
        "**/trade/LTCUSD",
        lambda route: route.fulfill(body=before, content_type="text/html"),
        times=1,
    )
    enter(page, "/operations/instruments/", "Instruments")
    row = page.locator('tr[data-instrument="LTCUSD"]')
    for change, reason in (("halt", "News are awaited"), ("resume", "")):
        row.locator("summary").click()
        check(page)
        row.get_by_label("What").select_option(change)
        row.get_by_label("Reason").fill(reason)
        row.get_by_role("button", name="Change LTC/USD").click()
        expect(page.get_by_text("The instrument is changed.")).to_be_visible()
        if change == "halt":
            expect(banner).to_contain_text("Trading is halted: News are awaited")
            check(visitor)
    expect(banner).to_be_hidden()


def test_what_is_wrong_is_said_beside_the_field(make_customer: MakeCustomer) -> None:
    page = make_customer("Ann Baker").page
    trade_page(page)
    for fields, words in (
        ({"price": FAR, "quantity": "1"}, "Less is available"),
        ({"price": "1.001", "quantity": "1"}, "multiple of 0.01 USD"),
        ({"price": FAR, "quantity": "x"}, "not a number"),
    ):
        order(page, **fields)
        error = page.locator(".ticket .field-error")
        expect(error).to_contain_text(words)
        expect(page.locator(".ticket [aria-invalid=true]")).to_be_focused()
    expect(page.locator("tr[data-order]")).to_have_count(0)


def test_the_ticket_reckons_while_one_types(make_customer: MakeCustomer) -> None:
    ann = make_customer("Ann Baker")
    fund(ann, "80")
    page = ann.page
    trade_page(page)
    page.locator("[data-bids] .level").first.click()
    expect(page.get_by_role("button", name="Sell BTC")).to_be_visible()
    page.locator("[data-asks] .level").last.click()
    expect(page.get_by_role("button", name="Buy BTC")).to_be_visible()
    expect(page.locator("#price")).not_to_have_value("")
    page.locator("#price").fill("40000")
    page.locator("#quantity").fill("0.001")
    expect(page.locator("#total")).to_have_value("40.00")
    page.locator("#total").fill("20")
    expect(page.locator("#quantity")).to_have_value("0.00050")
    page.get_by_role("button", name="50 %").click()
    expect(page.locator("#quantity")).to_have_value("0.00100")
    page.get_by_role("button", name="100 %").click()
    expect(page.locator("#total")).to_have_value("80.00")
    expect(page.locator("[data-fee]")).to_contain_text("BTC")
    page.locator("#quantity").press("Enter")
    expect(page.locator("[data-placed]")).to_contain_text("Buy 0.00200 BTC")


def test_the_book_is_the_servers_after_a_lost_connection(open_browser: OpenBrowser) -> None:
    page = open_browser().new_page()
    complain_about_scripts(page)
    sockets: list[WebSocketRoute] = []

    def remember(route: WebSocketRoute) -> None:
        route.connect_to_server()
        sockets.append(route)

    page.route_web_socket(re.compile("/stream"), remember)
    trade_page(page)
    sockets[0].close()
    expect(page.locator("[data-feed-light]")).to_have_text("Reconnecting")
    expect(page.locator("[data-feed-light]")).to_have_text("Live")
    assert len(sockets) == 2
    page.wait_for_function(
        """async () => {
            const answer = await fetch("/api/v3/depth?symbol=BTCUSD&limit=5");
            const { asks, bids } = await answer.json();
            const first = (list) => document.querySelector(`[data-${list}] .level`);
            const rows = [...document.querySelectorAll("[data-asks] .level")];
            const [ask, bid] = [rows.at(-1), first("bids")];
            return Number(ask.dataset.price) === Number(asks[0][0])
                && Number(bid.dataset.price) === Number(bids[0][0]);
        }""",
        timeout=30_000,
    )


def test_the_market_is_complete_without_scripts(open_browser: OpenBrowser) -> None:
    scripted = open_browser()
    ann = sign_up(scripted.new_page(), "Ann Baker")
    fund(ann, "90")
    plain = open_browser(javascript=False)
    cookies: list[Any] = scripted.cookies()
    plain.add_cookies(cookies)
    page = plain.new_page()
    page.goto(MARKET)
    assert page.locator("[data-bids] .level").count() > 0
    page.locator("[data-asks] .level").last.click()
    assert page.locator("#price").input_value()
    page.locator("#price").fill(FAR)
    page.locator("#quantity").fill("0.001")
    page.get_by_role("button", name="Buy BTC").click()
    expect(page.locator("[data-placed]")).to_contain_text("open")
    expect(page.locator("tr[data-order]")).to_have_count(1)
    page.get_by_role("button", name="Cancel all").click()
    expect(page.locator("tr[data-order]")).to_have_count(0)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WIDTHS, ids=["1280", "390"])
def test_pages_of_the_exchange(
    make_customer: MakeCustomer, screenshots: Path | None, width: int, height: int, dark: bool
) -> None:
    ann = make_customer("Ann Baker", width=width, height=height, dark=dark)
    page = ann.page
    ann.go("portfolio/")
    check(page)
    fund(ann, "95")
    check(page)
    trade_page(page)
    expect(page.locator("[data-chart-holder] canvas").first).to_be_visible()
    check(page)
    narrow = width < 1024
    for name in ("book", "trades", "ticket"):
        if narrow:
            page.locator(f"[name=view][value={name}]").check(force=True)
            expect(page.locator(f"[data-view={name}]")).to_be_visible()
            expect(page.locator("[data-view=chart]")).to_be_hidden()
            check(page)
    order(page, price=FAR, quantity="0.001")
    expect(page.locator("tr[data-order]")).to_have_count(1)
    order(page, type="market", total="25")
    expect(page.locator("[data-placed]")).to_contain_text("filled")
    order(page, type="limit", price=FAR, quantity="9")
    expect(page.locator(".ticket .field-error")).to_be_visible()
    check(page)
    page.locator("tr[data-order] summary").click()
    check(page)
    page.keyboard.press("Escape")
    for name in ("history", "fills", "balances", "open"):
        page.locator(f"[name=desk][value={name}]").check(force=True)
        check(page)
    page.locator("details[data-switcher] summary").click()
    check(page)
    page.goto("/markets?q=nothing-is-called-so")
    check(page)
    for path in ("orders/?side=sell", "orders/?sort=x"):
        ann.go(path)
        check(page)
    ann.go("orders/")
    if narrow:
        page.get_by_label("Order", exact=True).select_option("Lowest price first")
        expect(page).to_have_url(re.compile("sort=price"))
        check(page)
    ann.go("keys/")
    page.get_by_label("Name", exact=True).fill("My bot")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("[data-secret]")).to_be_visible()
    check(page)
    if screenshots is not None:
        for name, path in (("trade", MARKET), ("markets", "/markets"), ("portfolio", "")):
            page.goto(path or f"{ann.home}portfolio/")
            page.wait_for_timeout(2_000)
            picture(page, screenshots, name, width, dark=dark)

"""A customer at the exchange: what people do on its pages, step by step."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.customer import Customer

MARKET = "/trade/BTCUSD"
FAR = "40000"
"""A price that nobody will sell at, within the band that orders must be in."""


def fund(customer: Customer, amount: str) -> None:
    """Move dollars to the exchange."""
    customer.go("portfolio/")
    page = customer.page
    page.locator("#fund-account").select_option(customer.accounts["USD"])
    page.locator("#fund-amount").fill(amount)
    page.get_by_role("button", name="Add money").click()
    expect(page.get_by_text("The money is at the exchange.")).to_be_visible()


def trade_page(page: Page) -> None:
    """Open the market and wait until it is live."""
    page.goto(MARKET)
    expect(page.locator("[data-feed-light]")).to_have_text("Live")
    expect(page.locator("[data-asks] .level").first).to_be_attached()


def order(page: Page, **fields: str) -> None:
    """Fill in the ticket and send it."""
    ticket = page.locator("[data-ticket]")
    if "side" in fields:
        ticket.locator(f"input[name=side][value={fields.pop('side')}]").check(force=True)
    if "type" in fields:
        ticket.locator("#type").select_option(fields.pop("type"))
    for name, text in fields.items():
        ticket.locator(f"#{name}").fill(text)
    ticket.locator("[data-submit]:visible").click()

"""A customer at a browser: what people do on the pages, step by step."""

from __future__ import annotations

import re
import uuid

from playwright.sync_api import ConsoleMessage, Page, expect

PASSWORD = "correct horse battery"


class Customer:
    """Somebody who has signed up and has a page open."""

    def __init__(self, page: Page, email: str) -> None:
        self.page = page
        self.email = email
        self.home = page.url.partition("?")[0]
        self.number = self.home.rstrip("/").rpartition("/")[2]
        self.accounts: dict[str, str] = {}
        for card in page.locator("[data-account]").all():
            currency = card.get_attribute("data-currency") or ""
            self.accounts[currency] = card.get_attribute("data-account") or ""

    def balance(self, currency: str) -> str:
        """What the card of an account on the open home page shows."""
        card = self.page.locator(f'[data-currency="{currency}"] [data-balance]')
        return card.inner_text()

    def go(self, path: str = "") -> None:
        """Open one of one's own pages."""
        self.page.goto(self.home + path)

    def fill_transfer(self, to: str, amount: str, reference: str = "") -> None:
        """Open the transfer form and fill it in."""
        self.go("transaction/new")
        self.page.get_by_label("Recipient's account number").fill(to)
        self.page.get_by_label("You send").fill(amount)
        self.page.get_by_label("Reference").fill(reference)

    def review(self) -> None:
        """From the form to the review."""
        self.page.get_by_role("button", name="Review").click()
        expect(self.page.get_by_role("heading", name="Review and confirm")).to_be_visible()

    def confirm(self) -> str:
        """Send what is reviewed; the transfer's id."""
        self.page.get_by_role("button", name=re.compile("^(Send|Confirm) ")).click()
        expect(self.page.get_by_role("heading", name="Done")).to_be_visible()
        return self.page.locator("dl code").inner_text()

    def send(self, to: str, amount: str, reference: str = "") -> str:
        """A whole transfer; its id."""
        self.fill_transfer(to, amount, reference)
        self.review()
        return self.confirm()


def sign_up(page: Page, name: str) -> Customer:
    """Make a customer with a fresh e-mail address, and end on the home page."""
    complain_about_scripts(page)
    email = f"{uuid.uuid4().hex}@example.com"
    page.goto("/signup")
    page.get_by_label("Your name").fill(name)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_text("Your accounts are open.")).to_be_visible()
    return Customer(page, email)


def complain_about_scripts(page: Page) -> None:
    """Fail on errors of scripts and on everything that the content security policy stops."""

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            raise AssertionError(message.text)

    def on_error(error: Exception) -> None:
        raise AssertionError(str(error))

    page.on("console", on_console)
    page.on("pageerror", on_error)

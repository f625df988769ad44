"""What people come by on the way, in both widths and colours; pictures. See ``test_every_page``."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import Customer
from tests.e2e.looks import WIDTHS, check, picture

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WIDTHS, ids=["1280", "390"])
def test_pages_of_a_customer(
    make_customer: MakeCustomer, screenshots: Path | None, width: int, height: int, dark: bool
) -> None:
    ann = make_customer("Ann Baker", width=width, height=height, dark=dark)
    boris = make_customer("Boris Lindqvist")
    page = ann.page
    check(page)
    _live_through_a_week(ann, boris)

    ann.go("transaction/new?kind=own")
    check(page)
    ann.fill_transfer(boris.accounts["EUR"], "18.50", "Dinner on Saturday")
    expect(page.locator("#quote dl")).to_be_visible()
    check(page)
    ann.review()
    check(page)
    picture(page, screenshots, "review", width, dark=dark)
    ann.confirm()
    check(page)

    ann.fill_transfer("12345678901234", "1")
    page.get_by_role("button", name="Review").click()
    expect(page.locator(".field-error")).to_be_visible()
    check(page)

    ann.go("transaction/?currency=USD&sort=-amount")
    check(page)
    picture(page, screenshots, "history", width, dark=dark)
    page.get_by_text("Filters", exact=True).click()
    check(page)
    ann.go("transaction/?q=nothing")
    check(page)
    ann.go("transaction/?min=lots")
    check(page)
    ann.go("no-such-page")
    check(page)
    ann.go()
    expect(page.locator("[data-live-light]")).to_have_text("Live")
    picture(page, screenshots, "home", width, dark=dark)
    page.locator("details[data-menu] summary").click()
    check(page)


def _live_through_a_week(ann: Customer, boris: Customer) -> None:
    ann.go("transaction/new?kind=own")
    ann.page.get_by_label("To", exact=True).select_option(ann.accounts["EUR"])
    ann.page.get_by_label("You receive").fill("25")
    expect(ann.page.locator("#quote dl")).to_be_visible()
    ann.review()
    ann.confirm()
    boris.send(ann.accounts["USD"], "42.80", "Train to Hamburg")
    ann.send(boris.accounts["USD"], "9.75", "Cinema")
    boris.send(ann.accounts["EUR"], "12", "Groceries")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WIDTHS, ids=["1280", "390"])
def test_pages_for_visitors(
    open_browser: OpenBrowser, screenshots: Path | None, width: int, height: int, dark: bool
) -> None:
    page = open_browser(width=width, height=height, dark=dark).new_page()
    page.goto("/")
    check(page)
    picture(page, screenshots, "front", width, dark=dark)
    page.goto("/no-such-page")
    check(page)
    page.goto("/api/docs")
    expect(page.locator(".swagger-ui").get_by_text("/api/", exact=False).first).to_be_visible()
    page.goto("/login")
    page.get_by_label("E-mail address").fill("nobody@example.com")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    check(page)


def test_the_choice_of_colours_is_remembered(open_browser: OpenBrowser) -> None:
    page = open_browser().new_page()
    page.goto("/")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.goto("/login")
    assert page.locator("html").get_attribute("data-theme") == "kontor-dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_a_page_is_used_by_keyboard_alone(make_customer: MakeCustomer) -> None:
    page = make_customer("Ann Baker").page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="USD", exact=True)).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"

"""Webhooks, undelivered messages, previews and caught mail in a browser; axe on each page."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from cluster.demo import PEOPLE
from cluster.processes import wait_until
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import complain_about_scripts
from tests.e2e.test_looks import check

pytestmark = pytest.mark.e2e

OPERATOR = next(person for person in PEOPLE if "operator" in person.roles)
LOOKS = pytest.mark.parametrize(
    ("width", "height", "dark"), [(1280, 860, False), (390, 844, True)], ids=["wide", "narrow"]
)


@LOOKS
def test_an_endpoint_is_made_and_tested(
    make_customer: MakeCustomer, width: int, height: int, dark: bool
) -> None:
    ann = make_customer("Ann Baker", width=width, height=height, dark=dark)
    page = ann.page
    ann.go("webhooks/")
    check(page)
    page.get_by_role("textbox", name="Name").fill("shop")
    page.get_by_role("textbox", name="Address").fill("http://127.0.0.1:9/hooks")
    page.get_by_label("Money received").check()
    page.get_by_role("button", name="Make the endpoint").click()
    expect(page.locator("[data-secret]")).to_contain_text("whsec_")
    check(page)
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("A test is on its way")).to_be_visible()
    expect(page.locator("[data-message]")).to_contain_text("Test")
    check(page)


@LOOKS
def test_a_caught_mail_is_read_and_its_link_opens(
    make_customer: MakeCustomer, width: int, height: int, dark: bool
) -> None:
    ann = make_customer("Ann Baker", width=width, height=height, dark=dark)
    page = ann.page

    def arrived() -> bool:
        page.goto("/dev/mail")
        return page.locator("[data-mail]").count() > 0

    assert wait_until(arrived, timeout_s=30, pause_s=0.3)
    check(page)
    page.locator("[data-mail]").first.click()
    check(page)
    frame = page.frame_locator("iframe")
    link = frame.get_by_role("link").first
    expect(link).to_be_visible()
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert "/dev/mail" not in opened.value.url
    expect(opened.value.get_by_role("heading").first).to_be_visible()


@LOOKS
def test_an_operator_looks_at_what_is_sent(
    open_browser: OpenBrowser, width: int, height: int, dark: bool
) -> None:
    page = open_browser(width=width, height=height, dark=dark).new_page()
    complain_about_scripts(page)
    page.goto("/operations/mail/")
    page.get_by_label("E-mail address").fill(OPERATOR.email)
    page.get_by_label("Password").fill(OPERATOR.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Undelivered messages")).to_be_visible()
    check(page)
    page.get_by_role("link", name="What messages look like").click()
    check(page)
    page.get_by_role("link", name="Payment returned").click()
    expect(page.frame_locator("iframe").get_by_role("heading").first).to_be_visible()
    check(page)

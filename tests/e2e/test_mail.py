"""Webhooks, previews and caught mail in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from cluster.processes import wait_until
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.looks import seen
from tests.e2e.steps import enter

pytestmark = pytest.mark.e2e


def test_an_endpoint_is_made_and_tested(make_customer: MakeCustomer) -> None:
    ann = make_customer("Ann Baker")
    page = ann.page
    ann.go("webhooks/")
    page.get_by_role("textbox", name="Name").fill("shop")
    page.get_by_role("textbox", name="Address").fill("http://127.0.0.1:9/hooks")
    page.get_by_label("Money received").check()
    page.get_by_role("button", name="Make the endpoint").click()
    expect(page.locator("[data-secret]")).to_contain_text("whsec_")
    seen(page)
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("A test is on its way")).to_be_visible()
    expect(page.locator("[data-message]")).to_contain_text("Test")
    seen(page)


def test_a_caught_mail_is_read_and_its_link_opens(make_customer: MakeCustomer) -> None:
    page = make_customer("Ann Baker").page

    def arrived() -> bool:
        page.goto("/dev/mail")
        return page.locator("[data-mail]").count() > 0

    assert wait_until(arrived, timeout_s=30, pause_s=0.3)
    page.locator("[data-mail]").first.click()
    frame = page.frame_locator("iframe")
    link = frame.get_by_role("link").first
    expect(link).to_be_visible()
    with page.context.expect_page() as opened:
        link.click()
    opened.value.wait_for_load_state()
    assert "/dev/mail" not in opened.value.url
    expect(opened.value.get_by_role("heading").first).to_be_visible()


def test_an_operator_looks_at_what_is_sent(open_browser: OpenBrowser) -> None:
    page = open_browser().new_page()
    enter(page, "/operations/mail/", "Undelivered messages")
    page.get_by_role("link", name="What messages look like").click()
    page.get_by_role("link", name="Payment returned").click()
    expect(page.frame_locator("iframe").get_by_role("heading").first).to_be_visible()

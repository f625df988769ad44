"""Notifications in real browsers: live, once across all tabs, and again after a break."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.e2e.conftest import MakeCustomer
from tests.e2e.looks import check

pytestmark = pytest.mark.e2e


def test_notifications_are_shown_once_and_stay_in_the_list(make_customer: MakeCustomer) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind", width=390, height=844)
    sockets: list[WebSocketRoute] = []

    def deaf(route: WebSocketRoute) -> None:
        """As long as this is its first socket, the tab hears of no notification."""
        sockets.append(route)
        first = len(sockets) == 1
        server = route.connect_to_server()
        server.on_message(
            lambda message: None if first and "You rec" in str(message) else route.send(message)
        )

    other = boris.page.context.new_page()
    other.route_web_socket(re.compile("/socket.io/"), deaf)
    boris.go("notifications/")
    read_all = boris.page.get_by_role("button", name="Mark all as read")
    if read_all.is_visible():
        read_all.click()
    other.goto(boris.home)
    for tab in (boris.page, other):
        expect(tab.locator("[data-live-light]")).to_have_text("Live")
        expect(tab.locator("[data-unread]")).to_be_hidden()

    ann.send(boris.accounts["USD"], "12.50")
    toast = boris.page.locator("#toasts .toast-card")
    expect(toast).to_contain_text("You received 12.50 USD", timeout=20_000)
    expect(boris.page.locator("[data-unread-count]")).to_have_text("1")
    expect(other.locator("[data-unread]")).to_be_hidden()
    sockets[0].close()
    # It comes after the break, is counted, and is not shown a second time.
    expect(other.locator("[data-unread-count]")).to_have_text("1", timeout=20_000)
    assert other.locator("#toasts .toast-card").count() == 0

    toast.click()
    expect(boris.page.get_by_role("heading", name="Postings")).to_be_visible()
    other.get_by_role("link", name="Notifications").first.click()
    row = other.locator("[data-notification]").filter(has_text="You received 12.50 USD")
    expect(row).to_contain_text("From Ann B.")
    check(other)
    row.get_by_role("button", name="Mark as read").click()
    expect(other.locator("[data-unread]")).to_be_hidden()

    other.get_by_role("link", name="Choose what you hear of").click()
    box = other.get_by_role("checkbox", name="Money received: In Kontor")
    expect(box).to_be_checked()
    check(other)
    expect(other.get_by_role("checkbox", name="Password changed: E-mail")).to_be_disabled()
    box.uncheck()
    other.get_by_role("button", name="Save").click()
    expect(other.get_by_text("What you hear of is changed.")).to_be_visible()
    expect(box).not_to_be_checked()

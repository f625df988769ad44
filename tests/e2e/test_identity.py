"""A customer's data and security where no script runs; with scripts, see ``test_story``."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import OpenBrowser
from tests.e2e.customer import PASSWORD

pytestmark = pytest.mark.e2e


def test_everything_works_without_scripts(open_browser: OpenBrowser) -> None:
    """Only set-up, login and export: what is filled in and sent is the same."""
    page = open_browser(javascript=False).new_page()
    email = f"{time.time_ns()}@example.com"
    page.goto("/signup")
    page.get_by_label("Your name").fill("Ann Baker")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_text("Your accounts are open.")).to_be_visible()
    home = page.url.partition("?")[0]
    page.goto(home + "profile")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data").click()
    assert email in download.value.path().read_text()
    page.goto(home + "profile/close")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Leave for good").click()
    expect(page.get_by_text("There is still money")).to_be_visible()

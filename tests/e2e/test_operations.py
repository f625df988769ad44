"""The operations page in a browser: what an operator sees, and that it moves by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cluster.demo import PEOPLE
from tests.cluster.running import Running, kontor
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import complain_about_scripts
from tests.e2e.test_looks import WIDTHS, check, picture

pytestmark = pytest.mark.e2e

OPERATOR = next(person for person in PEOPLE if "operator" in person.roles)


def enter(page: Page) -> None:
    """Ask for the operations page, log in, and be there."""
    complain_about_scripts(page)
    page.goto("/operations/")
    page.get_by_label("E-mail address").fill(OPERATOR.email)
    page.get_by_label("Password").fill(OPERATOR.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Operations", exact=True)).to_be_visible()
    expect(page.locator("[data-books=right]")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WIDTHS, ids=["1280", "390"])
def test_how_it_looks(
    open_browser: OpenBrowser, screenshots: Path | None, width: int, height: int, dark: bool
) -> None:
    page = open_browser(width=width, height=height, dark=dark).new_page()
    enter(page)
    check(page)
    expect(page.get_by_text("running").locator("visible=true").first).to_be_visible()
    picture(page, screenshots, "operations", width, dark=dark)
    page.get_by_role("link", name="Operations").locator("visible=true").first.click()
    expect(page.locator('[aria-current="page"]').locator("visible=true")).to_have_text("Operations")


def test_moves_are_seen_while_they_happen(open_browser: OpenBrowser, running: Running) -> None:
    page = open_browser().new_page()
    enter(page)
    shared = page.get_by_role("img", name="Map of the 4,096 slots")
    expect(shared.locator("desc")).to_contain_text("accounts/1 owns")
    expect(shared.locator("desc")).not_to_contain_text("accounts/2")
    done = kontor("scale", "accounts", "3", data_dir=running.data_dir)
    assert done.returncode == 0, done.stderr
    expect(shared.locator("desc")).to_contain_text("accounts/2 owns 1,36")
    expect(page.get_by_text("All where they are to be")).to_be_visible()
    expect(page.get_by_role("rowheader", name="accounts/2")).to_be_visible()
    check(page)
    done = kontor("scale", "accounts", "2", data_dir=running.data_dir)
    assert done.returncode == 0, done.stderr
    expect(page.get_by_text("Without slots, and so without a process: accounts/2.")).to_be_visible()
    expect(page.locator("[data-books=right]")).to_be_visible()


def test_it_is_complete_without_scripts(open_browser: OpenBrowser) -> None:
    page = open_browser(javascript=False).new_page()
    enter(page)
    expect(page.get_by_role("rowheader", name="accounts/0")).to_be_visible()
    expect(page.get_by_text("What the supervisor found and did")).to_be_visible()


def test_for_a_customer_it_is_not_there(make_customer: MakeCustomer) -> None:
    page = make_customer("Mallory Marsh").page
    expect(page.get_by_role("link", name="Operations")).to_have_count(0)
    answer = page.goto("/operations/")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()

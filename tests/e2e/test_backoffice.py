"""The back office in a browser: a role is given, two people correct a balance, all is logged."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from cluster.demo import PEOPLE
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import complain_about_scripts
from tests.e2e.test_looks import check

pytestmark = pytest.mark.e2e

ADMINISTRATOR = next(person for person in PEOPLE if "administrator" in person.roles)
SCREENS = ((1280, 860, False), (390, 844, True))


def enter(page: Page, path: str) -> None:
    """Log the administrator in, and be at a page of the back office."""
    complain_about_scripts(page)
    page.goto(path)
    page.get_by_label("E-mail address").fill(ADMINISTRATOR.email)
    page.get_by_label("Password").fill(ADMINISTRATOR.password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Back office")).to_be_visible()


def seen(page: Page) -> None:
    """The open page on a wide light screen and on a narrow dark one."""
    for width, height, dark in SCREENS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light")
        check(page)
    page.set_viewport_size({"width": SCREENS[0][0], "height": SCREENS[0][1]})
    page.emulate_media(color_scheme="light")


def test_two_people_correct_a_balance(
    make_customer: MakeCustomer, open_browser: OpenBrowser
) -> None:
    ann, sam = make_customer("Ann Corrected"), make_customer("Sam Support")
    office = open_browser().new_page()
    enter(office, "/office/roles/")
    office.get_by_label("E-mail address or customer number").fill(sam.email)
    office.get_by_label("Role", exact=True).select_option("support")
    office.get_by_role("button", name="Give the role").click()
    expect(office.locator(f'[data-held="{sam.email}:support"]')).to_be_visible()
    seen(office)

    # The role counts within seconds, in the session that is open.
    desk = sam.page
    menu = desk.locator('.menu a[href="/office/"]')
    for _ in range(20):
        desk.goto(sam.home)
        if menu.count():
            break
        desk.wait_for_timeout(250)
    desk.locator("summary", has_text="Menu").click()
    menu.click()
    expect(desk.get_by_role("heading", name="Back office")).to_be_visible()
    desk.get_by_label("Name, e-mail address, customer, account or transfer id").fill(ann.email)
    desk.get_by_role("button", name="Search").click()
    expect(desk.get_by_role("heading", name="Customers")).to_be_visible()
    seen(desk)
    desk.get_by_role("link", name="Ann Corrected").click()
    expect(desk.get_by_role("heading", name="Ann Corrected")).to_be_visible()
    seen(desk)

    row = desk.locator(f'[data-account="{ann.accounts["EUR"]}"]')
    row.locator("summary").click()
    row.get_by_label("Reason").fill("The customer asks for it")
    row.get_by_role("button", name="Freeze").click()
    expect(desk.get_by_text("The account is frozen.")).to_be_visible()
    expect(row.get_by_text("Frozen")).to_be_visible()

    desk.get_by_label("Account", exact=True).select_option(ann.accounts["USD"])
    desk.get_by_label("Amount", exact=True).fill("-3.50")
    desk.locator("#reason").fill("Fee credited twice")
    desk.get_by_role("button", name="Propose").click()
    expect(desk.get_by_text("The adjustment is proposed.")).to_be_visible()
    expect(desk.get_by_role("button", name="Approve")).to_have_count(0)
    seen(desk)

    office.goto("/office/adjustments/")
    waiting = office.locator("[data-adjustment]", has_text="Ann Corrected")
    seen(office)
    waiting.get_by_label("Note").fill("Agrees with the statement")
    waiting.get_by_role("button", name="Approve").click()
    expect(office.get_by_text("The adjustment is posted.")).to_be_visible()

    ann.go()
    expect(ann.page.locator('[data-currency="USD"] [data-balance]')).to_contain_text("96.50")
    ann.go("transaction/")
    ann.page.locator("main a", has_text="Kontor").locator("visible=true").first.click()
    expect(ann.page.get_by_role("heading", name="Time line")).to_be_visible()
    check(ann.page)

    office.goto(f"/office/audit/?q={ann.number}")
    expect(office.locator("[data-entry]", has_text="customers.look").first).to_be_visible()
    office.get_by_role("link", name="Verify the chain").click()
    expect(office.locator("[data-verdict=right]")).to_be_visible()
    seen(office)
    with office.expect_download() as download:
        office.get_by_role("link", name="CSV of these entries").click()
    assert download.value.suggested_filename == "audit.csv"

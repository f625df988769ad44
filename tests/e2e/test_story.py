"""One story in one run: sign-up, mail, second factor, a changed password, roles, maker and checker.

Each page on the way is looked at by axe, wide and light, and narrow and dark.
"""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import PASSWORD, Customer, complain_about_scripts
from tests.e2e.looks import seen
from tests.e2e.steps import code_at, enter, link, log_in, set_up

pytestmark = pytest.mark.e2e

NEW = "incorrect zebra socket"


def test_from_sign_up_to_the_audit_log(
    make_customer: MakeCustomer, open_browser: OpenBrowser
) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind", width=390, height=844)
    sam = make_customer("Sam Support")
    elsewhere, office = open_browser().new_page(), open_browser().new_page()
    complain_about_scripts(elsewhere)

    address_is_proved(ann)
    secret, recovery = set_up(ann)
    login_takes_a_code(elsewhere, ann, code_at(secret, 0))
    first_payment_is_confirmed_and_heard_of(ann, boris, code_at(secret, 1))
    changed_password_ends_the_other_session(ann, elsewhere, recovery[0])

    ann.go()
    before = dollars(ann)
    enter(office, "/office/roles/", "Roles")
    role_is_given(office, sam)
    support_proposes(sam, ann)
    administrator_approves(office)
    expect(ann.page.locator("#toasts")).to_contain_text("Your balance was corrected by −3.50 USD")
    ann.go()
    assert dollars(ann) == before - Decimal("3.50")
    ann.go("transaction/")
    ann.page.locator("main a", has_text="Kontor").locator("visible=true").first.click()
    expect(ann.page.get_by_role("heading", name="Time line")).to_be_visible()
    seen(ann.page)
    all_is_in_the_audit_log(office, ann)

    forgotten_password_is_set_by_mail(elsewhere, ann, recovery[1])
    ann.page.reload()
    expect(ann.page).to_have_url(re.compile("/login"))


def dollars(customer: Customer) -> Decimal:
    """What the open home page shows."""
    return Decimal(customer.balance("USD").removesuffix(" USD"))


def address_is_proved(ann: Customer) -> None:
    """By the mail that was sent to it, once."""
    page = ann.page
    address = link(page, ann.email, "Confirm", "/verify")
    page.goto(address)
    seen(page)
    page.get_by_role("button", name="Confirm the address").click()
    expect(page.get_by_text("The e-mail address is confirmed.")).to_be_visible()
    page.goto(address)
    expect(page.get_by_role("heading", name="This link does not count")).to_be_visible()
    seen(page)


def login_takes_a_code(page: Page, ann: Customer, code: str) -> None:
    """A second session, in a browser of its own."""
    page.goto("/login")
    log_in(page, ann.email, PASSWORD)
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    seen(page)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/user/"))


def first_payment_is_confirmed_and_heard_of(ann: Customer, boris: Customer, code: str) -> None:
    """The first payment to somebody asks for a code, the second does not; both arrive live."""
    page, theirs = ann.page, boris.page
    expect(theirs.locator("[data-live-light]")).to_have_text("Live")
    ann.fill_transfer(boris.accounts["USD"], "12.00")
    ann.review()
    page.get_by_role("button", name=re.compile("^Send ")).click()
    expect(
        page.get_by_role("heading", name="You have not paid this account before")
    ).to_be_visible()
    seen(page)
    page.get_by_label("Code").fill(code)
    ann.confirm()
    expect(theirs.locator("#toasts")).to_contain_text("You received 12.00 USD", timeout=20_000)
    ann.send(boris.accounts["USD"], "3.00")
    expect(theirs.locator("#toasts")).to_contain_text("You received 3.00 USD", timeout=20_000)
    expect(theirs.locator("[data-unread-count]")).to_be_visible()
    seen(theirs)


def changed_password_ends_the_other_session(ann: Customer, other: Page, code: str) -> None:
    """At once, and not this one."""
    page = ann.page
    ann.go("profile/password")
    seen(page)
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password").fill(NEW)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Change the password").click()
    expect(
        page.get_by_text("The password is changed. All other sessions are ended.")
    ).to_be_visible()
    seen(page)
    other.reload()
    expect(other).to_have_url(re.compile("/login"))


def role_is_given(office: Page, sam: Customer) -> None:
    """By an administrator; it counts within seconds, in the session that is open."""
    office.get_by_label("E-mail address or customer number").fill(sam.email)
    office.get_by_label("Role", exact=True).select_option("support")
    office.get_by_role("button", name="Give the role").click()
    expect(office.locator(f'[data-held="{sam.email}:support"]')).to_be_visible()
    seen(office)
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


def support_proposes(sam: Customer, ann: Customer) -> None:
    """Support finds the customer, freezes an account, and makes an adjustment it cannot approve."""
    desk = sam.page
    desk.get_by_label("Name, e-mail address, customer, account or transfer id").fill(ann.email)
    desk.get_by_role("button", name="Search").click()
    expect(desk.get_by_role("heading", name="Customers")).to_be_visible()
    seen(desk)
    desk.get_by_role("link", name="Ann Baker").click()
    expect(desk.get_by_role("heading", name="Ann Baker")).to_be_visible()
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


def administrator_approves(office: Page) -> None:
    """Somebody else than the maker."""
    office.goto("/office/adjustments/")
    waiting = office.locator("[data-adjustment]", has_text="Ann Baker")
    seen(office)
    waiting.get_by_label("Note").fill("Agrees with the statement")
    waiting.get_by_role("button", name="Approve").click()
    expect(office.get_by_text("The adjustment is posted.")).to_be_visible()


def all_is_in_the_audit_log(office: Page, ann: Customer) -> None:
    """Found, proved and taken away."""
    office.goto(f"/office/audit/?q={ann.number}")
    expect(office.locator("[data-entry]", has_text="customers.look").first).to_be_visible()
    office.get_by_role("link", name="Verify the chain").click()
    expect(office.locator("[data-verdict=right]")).to_be_visible()
    seen(office)
    with office.expect_download() as download:
        office.get_by_role("link", name="CSV of these entries").click()
    assert download.value.suggested_filename == "audit.csv"


def forgotten_password_is_set_by_mail(page: Page, ann: Customer, code: str) -> None:
    """All sessions end; a login still needs the second factor."""
    page.get_by_role("link", name="Forgotten your password?").click()
    seen(page)
    page.get_by_label("E-mail address").fill(ann.email)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("heading", name="Look into your mail")).to_be_visible()
    seen(page)
    page.goto(link(page, ann.email, "password", "/reset/new"))
    seen(page)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_text("The password is set.")).to_be_visible()
    page.goto("/login")
    log_in(page, ann.email, PASSWORD)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/user/"))

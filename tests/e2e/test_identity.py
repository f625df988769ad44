"""A customer looks after their own security, in real browsers, with mail that is really sent."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import TIMEOUT_MS, MakeCustomer, OpenBrowser
from tests.e2e.customer import PASSWORD, Customer
from tests.e2e.test_looks import check

pytestmark = pytest.mark.e2e

NEW = "incorrect zebra socket"


def link(page: Page, email: str, subject: str, path: str) -> str:
    """The link in the newest caught mail to an address with this subject, once it has come."""
    mail = page.locator("[data-mail]").filter(has_text=subject).first
    until = time.monotonic() + TIMEOUT_MS / 1_000
    page.goto(f"/dev/mail?to={email}")
    while not mail.is_visible() and time.monotonic() < until:
        page.wait_for_timeout(200)
        page.reload()
    mail.click()
    found = re.search(rf"{re.escape(path)}\?token=([A-Za-z0-9_-]+)", page.content())
    assert found, page.content()
    return found.group(0)


def log_in(page: Page, email: str, password: str) -> None:
    page.goto("/login")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def code_at(secret: str, step: int) -> str:
    """The code of this moment, or of the step before or after: all three count, each once."""
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * step)


def set_up(ann: Customer) -> tuple[str, list[str]]:
    """Set a second factor up; its secret and the recovery codes."""
    page = ann.page
    ann.go("profile")
    page.get_by_role("link", name="Set up: Second factor").click()
    check(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Set up a second factor").click()
    picture = page.get_by_role("img", name="QR code of the secret for your authenticator")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 100
    page.get_by_text("Type it in instead").click()
    secret = page.locator("#secret").inner_text()
    check(page)
    page.get_by_label("Code").fill("nonsense")
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator(".field-error")).to_contain_text("This code is wrong")
    check(page)
    page.get_by_label("Code").fill(code_at(secret, -1))
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_role("heading", name="The second factor is on")).to_be_visible()
    check(page)
    return secret, page.locator("[data-recovery]").all_inner_texts()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["1280", "390-dark"])
def test_from_sign_up_to_a_forgotten_password(
    make_customer: MakeCustomer, open_browser: OpenBrowser, width: int, dark: bool
) -> None:
    ann, boris = make_customer("Ann Baker", width=width, dark=dark), make_customer("Boris Lind")
    page, other = ann.page, open_browser(width=width, dark=dark).new_page()

    # The address is proved by the mail that was sent to it.
    address = link(page, ann.email, "Confirm", "/verify")
    page.goto(address)
    check(page)
    page.get_by_role("button", name="Confirm the address").click()
    expect(page.get_by_text("The e-mail address is confirmed.")).to_be_visible()
    page.goto(address)
    expect(page.get_by_role("heading", name="This link does not count")).to_be_visible()
    check(page)

    secret, recovery = set_up(ann)
    ann.go("profile/second-factor")
    check(page)
    log_in(other, ann.email, PASSWORD)
    expect(other.get_by_role("heading", name="One more step")).to_be_visible()
    check(other)
    other.get_by_label("Code").fill(code_at(secret, 0))
    other.get_by_role("button", name="Log in").click()
    expect(other).to_have_url(re.compile("/user/"))

    # The first payment to somebody asks for a code, the second one does not.
    ann.fill_transfer(boris.accounts["USD"], "12.00")
    ann.review()
    page.get_by_role("button", name=re.compile("^Send ")).click()
    expect(
        page.get_by_role("heading", name="You have not paid this account before")
    ).to_be_visible()
    check(page)
    page.get_by_label("Code").fill(code_at(secret, 1))
    ann.confirm()
    ann.send(boris.accounts["USD"], "3.00")

    # A changed password ends the other session.
    ann.go("profile/password")
    check(page)
    page.get_by_label("Present password").fill(PASSWORD)
    page.get_by_label("New password").fill(NEW)
    page.get_by_label("Code").fill(recovery[0])
    page.get_by_role("button", name="Change the password").click()
    expect(
        page.get_by_text("The password is changed. All other sessions are ended.")
    ).to_be_visible()
    check(page)
    other.reload()
    expect(other).to_have_url(re.compile("/login"))

    for path in ("profile/email", "profile/close"):
        ann.go(path)
        check(page)

    # A forgotten password is set by mail; a login still needs the second factor.
    other.get_by_role("link", name="Forgotten your password?").click()
    check(other)
    other.get_by_label("E-mail address").fill(ann.email)
    other.get_by_role("button", name="Send the link").click()
    expect(other.get_by_role("heading", name="Look into your mail")).to_be_visible()
    check(other)
    other.goto(link(other, ann.email, "password", "/reset/new"))
    check(other)
    other.get_by_label("New password").fill(PASSWORD)
    other.get_by_role("button", name="Set the password").click()
    expect(other.get_by_text("The password is set.")).to_be_visible()
    log_in(other, ann.email, PASSWORD)
    other.get_by_label("Code").fill(recovery[1])
    other.get_by_role("button", name="Log in").click()
    expect(other).to_have_url(re.compile("/user/"))
    page.reload()
    expect(page).to_have_url(re.compile("/login"))


def test_everything_works_without_scripts(open_browser: OpenBrowser, browser: Browser) -> None:
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

"""What several tests do on the pages: logging in, links from caught mail, a second factor."""

from __future__ import annotations

import re
import time

import pyotp
from playwright.sync_api import Page, expect

from cluster.demo import PEOPLE
from tests.e2e.conftest import TIMEOUT_MS
from tests.e2e.customer import PASSWORD, Customer, complain_about_scripts
from tests.e2e.looks import seen

STAFF = next(person for person in PEOPLE if "administrator" in person.roles)
"""Administrator and operator at once."""


def log_in(page: Page, email: str, password: str) -> None:
    """Fill in the open login and send it."""
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def enter(page: Page, path: str, heading: str) -> None:
    """Ask for a page of the staff's, log in on the way, and be there."""
    complain_about_scripts(page)
    page.goto(path)
    log_in(page, STAFF.email, STAFF.password)
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def link(page: Page, email: str, subject: str, path: str) -> str:
    """The link in the newest caught mail to an address with this subject, once it has come."""
    mail = page.locator("[data-mail]").filter(has_text=subject).first
    until = time.monotonic() + TIMEOUT_MS / 1_000
    page.goto(f"/dev/mail?to={email}")
    while not mail.is_visible() and time.monotonic() < until:
        page.wait_for_timeout(200)
        page.reload()
    mail.click()
    found = re.search(rf"{re.escape(path)}\?[A-Za-z0-9_=&;-]+", page.content())
    assert found, page.content()
    return found.group(0).replace("&amp;", "&")


def code_at(secret: str, step: int) -> str:
    """The code of this moment, or of the step before or after: all three count, each once."""
    return pyotp.TOTP(secret).at(int(time.time()) + 30 * step)


def set_up(ann: Customer) -> tuple[str, list[str]]:
    """Set a second factor up; its secret and the recovery codes."""
    page = ann.page
    ann.go("profile")
    seen(page)
    page.get_by_role("link", name="Set up: Second factor").click()
    seen(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Set up a second factor").click()
    drawn = page.get_by_role("img", name="QR code of the secret for your authenticator")
    expect(drawn).to_be_visible()
    assert drawn.evaluate("image => image.naturalWidth") > 100
    page.get_by_text("Type it in instead").click()
    secret = page.locator("#secret").inner_text()
    seen(page)
    page.get_by_label("Code").fill("nonsense")
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator(".field-error")).to_contain_text("This code is wrong")
    seen(page)
    page.get_by_label("Code").fill(code_at(secret, -1))
    page.get_by_role("button", name="Switch it on").click()
    expect(page.get_by_role("heading", name="The second factor is on")).to_be_visible()
    seen(page)
    return secret, page.locator("[data-recovery]").all_inner_texts()

"""Axe on every page that the route table has, with something on it, while a canary is under way.

The addresses are taken from the application's own table. A page that is added is tried without a
word here, or this test says that it does not know what to put into its address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import httpx
import pytest
from playwright.sync_api import Page, expect
from starlette.routing import Route

from serve_apps.application import build
from serve_apps.pages.visit import Door
from tests.cluster.running import Running
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import PASSWORD, Customer, complain_about_scripts
from tests.e2e.looks import WIDTHS, check, picture, seen, show
from tests.e2e.steps import enter, link
from tests.e2e.test_operations import command
from tests.e2e.trader import FAR, fund, order, trade_page
from tests.serve_apps.inprocess import make_config

pytestmark = pytest.mark.e2e

PAGES_MIN: Final = 40
"""Fewer would mean that the table is not read right any more."""

LINKS: Final = {"/verify": "verify", "/reset/new": "reset", "/unsubscribe": "unsubscribe"}
"""Pages that somebody gets to by a link in a mail."""


def pages() -> list[tuple[str, str]]:
    """Path and access of every page that is shown; parts of pages and files are none."""
    app = build(make_config("postgresql://-", "redis://-", mail_dir="-"))
    found: list[tuple[str, str]] = []
    for route in app._router.routes:
        door = getattr(getattr(route, "endpoint", None), "__self__", None)
        if not isinstance(route, Route) or not isinstance(door, Door):
            continue
        part = "/fragments/" in route.path or route.path.endswith(".csv")
        if "GET" in (route.methods or ()) and not part:
            found.append((route.path, door.access))
    return found


class _Gone(BaseHTTPRequestHandler):
    """An endpoint that takes no webhooks any more, so that what goes there is given up."""

    def do_POST(self) -> None:
        self.send_response(410)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def gone() -> Iterator[str]:
    """The address of an endpoint that answers that it is gone."""
    server = HTTPServer(("127.0.0.1", 0), _Gone)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hooks"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def canary(running: Running) -> Iterator[None]:
    """Half of the clients meet a canary of the same code; it starts while the tests begin."""
    wished = ("--set", "KONTOR_QUOTE_SECONDS=45", "--weight", "50", "--max-error-rate", "5")
    command(running, "canary", "start", *wished, "--no-wait")
    yield
    command(running, "canary", "rollback")


def _webhook(site: str, ann: Customer, url: str) -> str:
    """An endpoint of a customer, by the API; its id."""
    with httpx.Client(base_url=site, timeout=30) as client:
        given = {"email": ann.email, "password": PASSWORD}
        token = client.post("/api/login/", json=given).raise_for_status().json()["token"]
        made = client.post(
            f"/api/user/{ann.number}/webhook/",
            json={"label": "shop", "url": url, "kinds": ["transfer_received"]},
            headers={"Authorization": f"Bearer {token}"},
        ).raise_for_status()
        number: str = made.json()["webhook"]["id"]
        return number


def _live(site: str, ann: Customer, boris: Customer, office: Page, gone: str) -> Mapping[str, str]:
    """Have something on every page; what goes into their addresses."""
    page = ann.page
    webhook = _webhook(site, ann, gone)
    ann.go("notifications/preferences")
    page.get_by_role("checkbox", name="Money received: E-mail").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("What you hear of is changed.")).to_be_visible()
    ann.send(boris.accounts["EUR"], "12.50", "Concert tickets")
    transfer = boris.send(ann.accounts["USD"], "5", "Coffee")

    fund(ann, "70")
    trade_page(page)
    order(page, price=FAR, quantity="0.0005")
    expect(page.locator("tr[data-order]")).to_have_count(1)
    order(page, type="market", total="20")
    expect(page.locator("[data-placed]")).to_contain_text("filled")
    ann.go("keys/")
    page.get_by_label("Name", exact=True).fill("My bot")
    page.get_by_role("button", name="Make the key").click()
    expect(page.locator("[data-secret]")).to_be_visible()

    office.goto(f"/office/customer/{ann.number}/")
    office.get_by_label("Account", exact=True).select_option(ann.accounts["USD"])
    office.get_by_label("Amount", exact=True).fill("1.00")
    office.locator("#reason").fill("Fee taken twice")
    office.get_by_role("button", name="Propose").click()
    expect(office.get_by_text("The adjustment is proposed.")).to_be_visible()

    httpx.post(f"{site}/api/password/reset/", json={"email": boris.email}).raise_for_status()
    theirs = boris.page
    return {
        "user": ann.number,
        "customer": ann.number,
        "account": ann.accounts["USD"],
        "transfer": transfer,
        "webhook": webhook,
        "symbol": "BTCUSD",
        "kind": "transfer_returned",
        "verify": link(theirs, boris.email, "Confirm", "/verify"),
        "reset": link(theirs, boris.email, "password", "/reset/new"),
        "unsubscribe": link(theirs, ann.email, "You received", "/unsubscribe"),
        "mail": theirs.url.rstrip("/").rpartition("/")[2],
    }


def _alone(page: Page, html: str) -> Page:
    """A document that may run no script, in a page that may: axe would wait in it for ever."""
    opened = page.context.new_page()
    opened.set_content(html)
    return opened


def test_axe_finds_nothing_on_any_page(
    make_customer: MakeCustomer, open_browser: OpenBrowser, platform: str, canary: None, gone: str
) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind")
    visitor, office = open_browser().new_page(), open_browser().new_page()
    complain_about_scripts(visitor)
    enter(office, "/office/roles/", "Roles")
    values = _live(platform, ann, boris, office, gone)
    table = pages()
    assert len(table) >= PAGES_MIN
    for path, access in table:
        page = {"anyone": visitor, "owner": ann.page}.get(access, office)
        answer = page.goto(values[LINKS[path]] if path in LINKS else path.format(**values))
        assert answer is not None
        assert answer.status == 200, page.url
        if "sandbox" in answer.headers.get("content-security-policy", ""):
            page = _alone(page, answer.text())
        seen(page)
    office.goto("/operations/mail/")
    expect(office.locator("[data-dead]").first).to_be_visible()
    seen(office)


def test_a_canary_on_the_operations_page(
    open_browser: OpenBrowser, canary: None, screenshots: Path | None
) -> None:
    page = open_browser().new_page()
    enter(page, "/operations/", "Operations")
    section = page.locator("[data-canary=running]")
    expect(section).to_contain_text("runs", timeout=60_000)
    for version in ("Stable", "Canary"):
        row = section.get_by_role("row", name=version)
        expect(row.get_by_role("cell").first).not_to_have_text("0", timeout=60_000)
    expect(section).to_contain_text("50 % of the clients; rolled back by itself beyond 5 % errors")
    for width, height in WIDTHS:
        for dark in (False, True):
            show(page, width, height, dark=dark)
            section.scroll_into_view_if_needed()
            check(page)
            picture(page, screenshots, "canary", width, dark=dark)

"""The operations page in a browser: what an operator sees, and that it moves by itself."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.cluster.running import Running, kontor
from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import PASSWORD
from tests.e2e.looks import WIDTHS, check, picture
from tests.e2e.steps import enter

pytestmark = pytest.mark.e2e


def command(running: Running, *words: str) -> Any:
    """What a command says with ``--json``."""
    done = kontor(*words, "--json", data_dir=running.data_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site(running: Running) -> None:
    """A platform with three partitions, a pinned customer and a proof."""
    with httpx.Client(base_url=running.url, timeout=30) as client:
        users = []
        for name in ("Ann", "Ben"):
            email = f"{uuid.uuid4().hex}@example.org"
            form = {"name": name, "email": email, "password": PASSWORD}
            users.append(client.post("/api/signup/", json=form).json())
        ann, ben = ({"Authorization": f"Bearer {user['token']}"} for user in users)
        path = f"/api/user/{users[0]['user']['id']}/"
        source = client.get(path, headers=ann).json()["accounts"][0]["id"]
        to = client.get(f"/api/user/{users[1]['user']['id']}/", headers=ben).json()
        body = {"from": source, "to": to["accounts"][0]["id"], "amount": "12.50"}
        sent = client.post(
            path + "transaction/", json=body, headers={**ann, "Idempotency-Key": "1"}
        )
        assert sent.status_code == 201, sent.text
    assert command(running, "scale", "accounts", "3")["done"]
    assert command(running, "pin", "accounts", users[0]["user"]["id"])["done"]
    assert command(running, "check")["ok"]


def watch(page: Page) -> None:
    """Log in at the operations page, and see the first of it."""
    enter(page, "/operations/", "Operations")
    expect(page.locator("[data-books=right]")).to_be_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), WIDTHS, ids=["1280", "390"])
def test_how_it_looks(
    open_browser: OpenBrowser,
    site: None,
    screenshots: Path | None,
    width: int,
    height: int,
    dark: bool,
) -> None:
    page = open_browser(width=width, height=height, dark=dark).new_page()
    watch(page)
    check(page)
    expect(page.get_by_text("running").locator("visible=true")).to_have_count(5)
    expect(page.locator("[data-proof]")).to_contain_text("right, in")
    picture(page, screenshots, "operations", width, dark=dark)
    page.get_by_role("link", name="Operations").locator("visible=true").first.click()
    expect(page.locator('[aria-current="page"]').locator("visible=true")).to_have_text("Operations")


def test_moves_are_seen_while_they_happen(
    open_browser: OpenBrowser, running: Running, site: None, screenshots: Path | None
) -> None:
    page = open_browser().new_page()
    watch(page)
    map_text = page.get_by_role("img", name="Map of the 4,096 slots of accounts").locator("desc")
    books = page.get_by_role("img", name="Map of the 4,096 slots of books").locator("desc")
    expect(books).to_contain_text("books/0 owns 4,096.")
    expect(map_text).to_contain_text("accounts/2 owns")
    expect(map_text).not_to_contain_text("accounts/3")
    assert command(running, "scale", "accounts", "4")["done"]
    expect(map_text).to_contain_text("accounts/3 owns 1,024.")
    expect(page.get_by_text("All where they are to be")).to_be_visible()
    expect(page.get_by_role("rowheader", name="accounts/3")).to_be_visible()

    rows = command(running, "placement", "accounts")["partitions"]
    frozen = psutil.Process(next(row["pid"] for row in rows if row["stream"] == "accounts/3"))
    frozen.suspend()
    try:
        command(running, "scale", "accounts", "3", "--no-wait")
        expect(map_text).to_contain_text("are to go from accounts/3")
        expect(page.locator(".slot-moving").first).to_be_attached()
        expect(page.locator("[data-books=unknown]")).to_contain_text("5 of 6 partitions")
        check(page)
        picture(page, screenshots, "operations-moving", 1280, dark=False)
    finally:
        frozen.resume()
    assert command(running, "scale", "accounts", "3")["done"]
    expect(page.get_by_text("Without slots, and so without a process: accounts/3.")).to_be_visible()
    expect(page.locator("[data-books=right]")).to_be_visible()


def test_it_says_so_when_news_stop(open_browser: OpenBrowser, site: None) -> None:
    page = open_browser().new_page()
    watch(page)
    expect(page.get_by_text("No news at the moment")).to_be_hidden()
    page.route("**/operations/fragments/overview", lambda route: route.fulfill(status=503))
    expect(page.get_by_text("No news at the moment")).to_be_visible()
    expect(page.get_by_role("rowheader", name="accounts/0")).to_be_visible()
    page.unroute("**/operations/fragments/overview")
    expect(page.get_by_text("No news at the moment")).to_be_hidden()


def test_it_is_complete_without_scripts(open_browser: OpenBrowser, site: None) -> None:
    page = open_browser(javascript=False).new_page()
    watch(page)
    expect(page.get_by_role("rowheader", name="accounts/0")).to_be_visible()
    expect(page.get_by_text("What the supervisor found and did")).to_be_visible()


def test_for_a_customer_it_is_not_there(make_customer: MakeCustomer) -> None:
    page = make_customer("Mallory Marsh").page
    expect(page.get_by_role("link", name="Operations")).to_have_count(0)
    answer = page.goto("/operations/")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()

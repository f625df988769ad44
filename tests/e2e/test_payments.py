"""The flow that the platform is for: two customers pay each other, in real browsers."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.e2e.conftest import MakeCustomer, OpenBrowser
from tests.e2e.customer import PASSWORD, Customer, sign_up

pytestmark = pytest.mark.e2e


def test_two_customers_pay_each_other(make_customer: MakeCustomer) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind", width=390, height=844)
    assert (ann.balance("USD"), ann.balance("EUR")) == ("100.00 USD", "0.00 EUR")

    transfer = ann.send(boris.accounts["USD"], "12.50", "Concert tickets")

    # Boris has done nothing: his open page shows it.
    expect(boris.page.locator("#toasts")).to_contain_text("You received 12.50 USD", timeout=20_000)
    expect(boris.page.locator('[data-currency="USD"] [data-balance]')).to_have_text("112.50 USD")
    first = boris.page.locator("[data-activity] li").first
    expect(first).to_contain_text("Ann B.")
    expect(first).to_contain_text("Concert tickets")
    expect(first).to_contain_text("+12.50")

    boris.send(ann.accounts["EUR"], "20", "Rent")
    ann.go()
    fee = re.compile(r"^−12\.\d\d")
    rows = ann.page.locator("[data-activity] li")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("from 20.00 USD")
    expect(rows.nth(1).get_by_text(fee)).to_be_visible()
    assert ann.balance("EUR") != "0.00 EUR"

    ann.page.goto(f"{ann.home}transaction/{transfer}/")
    expect(ann.page.get_by_role("heading", name="Sent to Boris L.")).to_be_visible()
    expect(ann.page.locator("#detail")).to_contain_text("Postings")


def test_a_page_that_was_cut_off_catches_up(make_customer: MakeCustomer) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind")
    sockets: list[WebSocketRoute] = []

    def deaf(route: WebSocketRoute) -> None:
        """Let the page talk, and keep transfers from it as long as this is its first socket."""
        sockets.append(route)
        first = len(sockets) == 1
        server = route.connect_to_server()
        server.on_message(
            lambda message: None if first and "transfer" in str(message) else route.send(message)
        )

    boris.page.route_web_socket(re.compile("/socket.io/"), deaf)
    boris.go()
    expect(boris.page.locator("[data-live-light]")).to_have_text("Live")
    ann.send(boris.accounts["USD"], "10")
    assert boris.balance("USD") == "100.00 USD"
    sockets[0].close()
    expect(boris.page.locator('[data-currency="USD"] [data-balance]')).to_have_text("110.00 USD")
    assert len(sockets) == 2


def test_either_side_of_a_conversion_can_be_given(make_customer: MakeCustomer) -> None:
    ann = make_customer("Ann Baker")
    ann.go("transaction/new?kind=own")
    page = ann.page
    page.get_by_label("To", exact=True).select_option(ann.accounts["EUR"])
    page.get_by_label("You receive").fill("25.00")
    expect(page.get_by_label("You send")).to_have_value(re.compile(r"^\d\d\.\d\d$"))
    sent = page.get_by_label("You send").input_value()
    expect(page.locator("#quote")).to_contain_text("Free")

    page.get_by_label("You send").fill("10,00")
    expect(page.get_by_label("You receive")).to_have_value(re.compile(r"^\d\.\d\d$"))
    page.get_by_label("You receive").fill("25.00")
    expect(page.get_by_label("You send")).to_have_value(sent)

    ann.review()
    expect(page.get_by_text("The rate is held")).to_be_visible()
    ann.confirm()
    ann.go()
    assert ann.balance("EUR") == "25.00 EUR"


def test_a_form_sent_twice_pays_once(make_customer: MakeCustomer) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind")
    ann.fill_transfer(boris.accounts["USD"], "10")
    ann.review()
    answers = ann.page.evaluate(
        """() => {
            const form = document.querySelector("#review form");
            const send = () => fetch(form.action, {
                method: "POST", body: new URLSearchParams(new FormData(form)),
            });
            return Promise.all([send(), send(), send()].map(async (sent) => (await sent).url));
        }"""
    )
    assert len(set(answers)) == 1, answers
    ann.confirm()
    assert ann.page.url == answers[0]
    ann.page.go_back()
    expect(ann.page.get_by_role("heading", name="Send money")).to_be_visible()
    boris.go()
    assert boris.balance("USD") == "110.00 USD"


def test_what_is_wrong_is_said_beside_the_field(make_customer: MakeCustomer) -> None:
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind")
    page = ann.page
    wrong = [
        ("12345678901234", "10", "No account has this number."),
        (boris.accounts["USD"], "0", "The amount must be more than zero."),
        (boris.accounts["USD"], "1.234", "The amount has more decimals than its currency."),
        (boris.accounts["USD"], "ten", "An amount is digits with an optional decimal point."),
        (boris.accounts["USD"], "100", "Available: 100.00 USD."),
        (ann.accounts["USD"], "1", "Source and destination are the same account."),
    ]
    for to, amount, text in wrong:
        ann.fill_transfer(to, amount)
        page.get_by_role("button", name="Review").click()
        error = page.locator(".field-error")
        expect(error).to_contain_text(text)
        invalid = page.locator('[aria-invalid="true"]')
        expect(invalid).to_have_attribute("aria-describedby", f"{invalid.get_attribute('id')}-note")


def _amounts(page: Page) -> list[str]:
    return page.locator(".history-table tbody td:nth-child(6)").all_inner_texts()


@pytest.fixture
def busy(make_customer: MakeCustomer) -> Customer:
    """A customer with something in the history."""
    ann, boris = make_customer("Ann Baker"), make_customer("Boris Lind")
    ann.send(boris.accounts["USD"], "20", "=Rent")
    ann.send(boris.accounts["USD"], "5", "Coffee")
    boris.send(ann.accounts["USD"], "7.50", "Bread")
    return ann


def test_history_is_filtered_sorted_and_exported(busy: Customer) -> None:
    page = busy.page
    busy.go("transaction/")
    newest = _amounts(page)
    assert len(newest) == 4
    assert newest[0] == "+7.50"

    page.get_by_role("link", name="Amount").click()
    expect(page).to_have_url(re.compile(r"sort=-amount"))
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
    assert _amounts(page)[0] == "+100.00"
    page.get_by_role("link", name="Amount").click()
    expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "ascending")
    assert _amounts(page)[-1] == "+100.00"

    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Direction", exact=True).select_option("out")
    expect(page).to_have_url(re.compile(r"direction=out"))
    expect(page.locator(".history-table tbody tr")).to_have_count(2)
    page.get_by_label("Amount from").fill("10")
    expect(page.locator(".history-table tbody tr")).to_have_count(1)

    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    content = Path(download.value.path()).read_text(encoding="utf-8")
    (row,) = csv.DictReader(io.StringIO(content))
    assert (row["amount"], row["currency"], row["direction"]) == ("-20.00", "USD", "out")
    assert row["reference"] == "'=Rent"

    page.reload()
    expect(page.locator(".history-table tbody tr")).to_have_count(1)
    page.get_by_label("Search by transfer id or reference").fill("no such thing")
    expect(page.get_by_text("No transfer fits these filters.")).to_be_visible()
    page.get_by_label("Search by transfer id or reference").fill(row["id"])
    expect(page.locator(".history-table tbody tr")).to_have_count(1)
    page.go_back()
    page.get_by_role("link", name="Clear all filters").first.click()
    expect(page.locator(".history-table tbody tr")).to_have_count(4)


def test_others_pages_are_not_there(
    make_customer: MakeCustomer, open_browser: OpenBrowser, busy: Customer
) -> None:
    page = make_customer("Mallory Marsh").page
    for path in (
        "",
        "transaction/",
        "transaction/new",
        "profile",
        "account/",
        "fragments/overview",
    ):
        answer = page.goto(busy.home + path)
        assert answer is not None
        assert answer.status == 404
        expect(page.get_by_role("heading", name="There is nothing here")).to_be_visible()
    stranger = open_browser().new_page()
    stranger.goto(busy.home + "transaction/?direction=in")
    expect(stranger).to_have_url(re.compile("/login"))
    stranger.get_by_label("E-mail address").fill(busy.email)
    stranger.get_by_label("Password").fill(PASSWORD)
    stranger.get_by_role("button", name="Log in").click()
    expect(stranger).to_have_url(re.compile("direction=in"))
    stranger.locator("details[data-menu] summary").click()
    stranger.get_by_role("button", name="Log out").click()
    expect(stranger.get_by_text("You are logged out.")).to_be_visible()
    stranger.goto(busy.home)
    expect(stranger).to_have_url(re.compile("/login"))


def test_everything_works_without_scripts(open_browser: OpenBrowser) -> None:
    boris = sign_up(open_browser(javascript=False).new_page(), "Boris Lind")
    ann = sign_up(open_browser(javascript=False).new_page(), "Ann Baker")
    ann.send(boris.accounts["EUR"], "30", "Half of it")
    ann.go("transaction/?direction=out")
    assert len(_amounts(ann.page)) == 1
    ann.go("transaction/new?kind=own")
    ann.page.get_by_label("To", exact=True).select_option(ann.accounts["CNY"])
    ann.page.get_by_label("You receive").fill("10")
    ann.review()
    ann.page.get_by_role("button", name="Change").click()
    ann.review()
    ann.confirm()
    ann.go("account/")
    ann.page.get_by_label("Name").fill("Savings")
    ann.page.get_by_role("button", name="Open the account").click()
    expect(ann.page.get_by_text("The account is open.")).to_be_visible()
    ann.page.get_by_role("link", name=re.compile("Savings")).click()
    ann.page.get_by_role("button", name="Close the account").click()
    expect(ann.page.get_by_text("The account is closed.")).to_be_visible()
    boris.go()
    assert boris.balance("EUR") != "0.00 EUR"

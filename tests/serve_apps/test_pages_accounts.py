"""Pages of accounts, transfers and history, over the whole application without a browser."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator

import pytest

from domain.durable import Unavailable
from serve_apps.application import Application
from serve_apps.identity.devices import browser_name
from serve_apps.pages.rendering import account_digits, money, rate_digits
from tests.serve_apps.browser import Browser


@pytest.fixture
async def ann(app: Application) -> AsyncIterator[Browser]:
    """Somebody with 100 USD."""
    async with Browser(app) as browser:
        await browser.sign_up("Ann Baker")
        yield browser


@pytest.fixture
async def bob(app: Application) -> AsyncIterator[Browser]:
    """Somebody else with 100 USD."""
    async with Browser(app) as browser:
        await browser.sign_up("Bob Carter")
        yield browser


def test_amounts_as_people_read_them() -> None:
    assert money(123_456_789, "USD") == "1,234,567.89"
    assert money(-5, "EUR") == "\u22120.05"
    assert money(5, "EUR", sign=True) == "+0.05"
    assert money(0, "EUR", sign=True) == "0.00"
    assert account_digits("12345678901234") == "1234\u00a05678\u00a09012\u00a034"
    assert rate_digits(1_083_400_000) == "1.0834"
    assert rate_digits(140_654_321) == "0.140654"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 19_0) Version/19 Safari/604.1", "Safari on iPhone"),
        ("<script>", "Unknown browser"),
        ("", "Unknown browser"),
    ],
)
def test_browsers_by_name(agent: str, name: str) -> None:
    assert browser_name(agent) == name


async def test_home_adds_everything_up(ann: Browser) -> None:
    assert "Everything together" in ann.text
    assert re.search(r"1 EUR = [0-9.]+ USD", ann.text)
    await ann.go("?base=EUR")
    assert re.search(r"1 USD = [0-9.]+ EUR", ann.text)
    await ann.go("")
    assert re.search(r"1 USD = [0-9.]+ EUR", ann.text)
    await ann.go("?base=<b>")
    assert ann.page.status_code == 200
    assert "<b>" not in ann.page.text


async def test_home_without_balances_says_so(
    app: Application, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> Unavailable:
        return Unavailable("away")

    monkeypatch.setattr(app.services.accounts, "call", away)
    await ann.go("")
    assert ann.page.status_code == 503
    assert "cannot be read at the moment" in ann.text
    assert "Welcome bonus" not in ann.text
    assert "Recent activity" in ann.text


async def test_transfer_from_form_to_receipt(ann: Browser, bob: Browser) -> None:
    await ann.go("transaction/new")
    review = ann.home + "transaction/review"
    await ann.submit(review, to=account_digits(bob.accounts["USD"]), amount="1 0,50", reference="x")
    assert "Bob C. receives 10.50 USD" in ann.text
    assert "Fee 0.11 USD" in ann.text
    assert "Leaves your account 10.61 USD" in ann.text
    assert "Available afterwards 89.39 USD" in ann.text
    fields = ann.fields(ann.home + "transaction/")
    await ann.post(ann.home + "transaction/", fields)
    assert "Done Bob C. has the money." in ann.text
    receipt = ann.page.url
    number = account_digits(ann.accounts["USD"]).replace("\u00a0", " ")
    assert f"Yours, {number} \u221210.61 USD" in ann.text
    assert "Fees +0.11 USD" in ann.text

    await ann.post(ann.home + "transaction/", fields)
    assert ann.page.url == receipt
    await ann.post(ann.home + "transaction/", {**fields, "amount": "11"})
    assert "already sent a transfer" in ann.text
    assert ann.fields(review)["key"] != fields["key"]

    await bob.go(f"transaction/{receipt.path.split('/')[-2]}/")
    assert "Received from Ann B." in bob.text
    assert "Fees" not in bob.text
    await ann.go("transaction/new")
    assert "Bob C." in ann.text


async def test_a_plain_post_of_three_fields_is_enough(ann: Browser, bob: Browser) -> None:
    await ann.go("transaction/new")
    csrf = ann.fields(ann.home + "transaction/review")["csrf"]
    form = {"from": ann.accounts["USD"], "to": bob.accounts["USD"], "amount": "1", "csrf": csrf}
    await ann.post(ann.home + "transaction/", form)
    assert "Done Bob C. has the money." in ann.text


async def test_conversion_from_the_side_that_arrives(ann: Browser) -> None:
    await ann.go("transaction/new?kind=own")
    changes = {"to": ann.accounts["EUR"], "receive": "25"}
    await ann.submit(ann.home + "transaction/review", **changes)
    assert "You receive 25.00 EUR" in ann.text
    assert "Fee Free" in ann.text
    await ann.submit(ann.home + "transaction/")
    assert "The money is in your account." in ann.text
    assert "Exchange" in ann.text


async def test_an_old_rate_is_shown_anew(ann: Browser) -> None:
    await ann.go("transaction/new?kind=own")
    await ann.submit(ann.home + "transaction/review", to=ann.accounts["EUR"], amount="10")
    fields = ann.fields(ann.home + "transaction/")
    await ann.post(ann.home + "transaction/", {**fields, "quote": "x" + fields["quote"][1:]})
    assert ann.page.status_code == 409
    assert "The rate was no longer valid." in ann.text
    again = ann.fields(ann.home + "transaction/")
    assert again["key"] != fields["key"]
    await ann.submit(ann.home + "transaction/")
    assert "Done" in ann.text


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"to": "12345678901234"}, 422, "No account has this number."),
        ({"amount": "0"}, 422, "must be more than zero"),
        ({"amount": "0.001"}, 422, "more decimals"),
        ({"amount": "1,000"}, 422, "digits with an optional decimal point"),
        ({"amount": "-1"}, 422, "digits with an optional decimal point"),
        ({"amount": "100"}, 409, "Available: 100.00 USD."),
        ({"amount": "60000"}, 409, "Left today: 50000.00 USD."),
        ({"amount": ""}, 422, "digits with an optional decimal point"),
        ({"from": "99999999999999"}, 404, "You have no such account."),
    ],
)
async def test_refusals_stand_beside_their_field(
    ann: Browser, bob: Browser, changes: dict[str, str], status: int, text: str
) -> None:
    form = {"to": bob.accounts["USD"], "amount": "1", "reference": "<i>"}
    for action in ("transaction/review", "transaction/"):
        await ann.go("transaction/new")
        csrf = ann.fields(ann.home + "transaction/review")
        if action == "transaction/" and changes.get("amount") in ("100", "60000"):
            continue
        await ann.post(ann.home + action, {**csrf, **form, **changes})
        assert ann.page.status_code == status, ann.text
        assert text in ann.text
        assert 'aria-invalid="true"' in ann.page.text
        assert "<i>" not in ann.page.text
    await ann.go("transaction/")
    assert "1 transfer" in ann.text


async def test_an_unknown_outcome_is_asked_again_with_the_same_key(
    app: Application, ann: Browser, bob: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ann.go("transaction/new")
    await ann.submit(ann.home + "transaction/review", to=bob.accounts["USD"], amount="1")
    fields = ann.fields(ann.home + "transaction/")

    async def away(*_: object, **__: object) -> Unavailable:
        return Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(app.services.accounts, "call", away)
        await ann.post(ann.home + "transaction/", fields)
    assert ann.page.status_code == 503
    assert "not known yet" in ann.text
    assert ann.fields(ann.home + "transaction/")["key"] == fields["key"]
    await ann.submit(ann.home + "transaction/")
    assert "Done" in ann.text


async def test_the_quote_follows_the_form(ann: Browser, bob: Browser) -> None:
    await ann.go("transaction/new")
    form = ann.fields(ann.home + "transaction/review")
    quote = ann.home + "fragments/quote"
    await ann.post(quote, {**form, "to": bob.accounts["EUR"], "receive": "10"})
    assert "belongs to Bob C. and is kept in EUR" in ann.text
    assert 'data-quote-receive="10.00"' in ann.page.text
    assert "<html" not in ann.page.text
    await ann.post(quote, {**form, "to": "12345678901234", "amount": "1"})
    assert "No account has this number." in ann.text
    await ann.post(quote, {**form, "to": ann.accounts["EUR"], "amount": "", "kind": "own"})
    assert "Enter an amount" in ann.text


XSS = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


async def test_nothing_typed_becomes_markup(app: Application, bob: Browser) -> None:
    async with Browser(app) as eve:
        await eve.go("/signup")
        form = {"name": XSS, "email": "eve@example.com", "password": "correct horse battery"}
        await eve.submit("/signup", **form)
        eve.home = eve.page.url.path
        account = re.search(r'data-account="([0-9]{14})" data-currency="USD"', eve.page.text)
        assert account is not None
        eve.accounts = {"USD": account.group(1)}
        transfer = await eve.send(bob.accounts["USD"], "1", XSS)
        await eve.go("account/")
        await eve.submit(eve.home + "account/", name="<b>" + XSS[:30], currency="EUR")
        pages = [eve.page.text]
        for path in ("", "transaction/", f"transaction/{transfer}/", "profile", "transaction/new"):
            pages.append((await eve.go(path)).text)
            pages.append((await bob.go(path)).text)
        pages.append((await bob.http.get(bob.home + "transaction/", params={"q": XSS})).text)
        pages.append((await bob.http.get("/login", params={"next": XSS, "notice": XSS})).text)
        for page in pages:
            assert "<script>alert" not in page
            assert "<img src=x" not in page
            assert "<b>" not in page


async def _rows(browser: Browser, **query: str) -> list[str]:
    browser.page = await browser.http.get(browser.home + "transaction/", params=query)
    assert browser.page.status_code == 200, browser.text
    table = browser.page.text.partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r'href="[^"]*/transaction/([0-9a-f]{32})/"', table)


async def test_history_by_filters_of_the_url(ann: Browser, bob: Browser) -> None:
    rent = await ann.send(bob.accounts["USD"], "20", "Rent")
    coffee = await ann.send(bob.accounts["EUR"], "5", "Coffee")
    bread = await bob.send(ann.accounts["USD"], "7.50", "Bread")
    everything = await _rows(ann)
    bonus = everything[-1]
    assert everything == [bread, coffee, rent, bonus]
    assert await _rows(ann, sort="date") == [bonus, rent, coffee, bread]
    assert await _rows(ann, sort="-amount") == [bonus, rent, bread, coffee]
    assert await _rows(ann, direction="in") == [bread, bonus]
    assert await _rows(ann, min="6", max="50", currency="USD") == [bread, rent]
    assert await _rows(ann, currency="EUR") == [coffee]
    assert await _rows(ann, counterparty=account_digits(bob.accounts["EUR"])) == [coffee]
    assert await _rows(ann, status="returned") == []
    assert await _rows(ann, q="ren") == [rent]
    assert await _rows(ann, q=coffee) == [coffee]
    assert await _rows(ann, from_date="2001-01-01", to_date="2001-12-31") == []
    await _rows(ann, min="6", currency="USD", q="")
    form = ann.fields(ann.home + "transaction/")
    assert (form["min"], form["currency"], form["q"]) == ("6", "USD", "")
    assert "Remove the filter At least 6" in ann.text
    without = re.search(r'href="([^"]+)"><span class="sr-only">Remove', ann.page.text)
    assert without is not None
    assert without.group(1) == f"{ann.home}transaction/?currency=USD"
    export = re.search(r'href="([^"]+export\.csv[^"]*)"', ann.page.text)
    assert export is not None
    answer = await ann.go(export.group(1).replace("&amp;", "&"))
    assert answer.headers["content-type"].startswith("text/csv")
    assert [row["id"] for row in csv.DictReader(io.StringIO(answer.text))] == [bread, rent, bonus]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("min=lots", "The smallest amount cannot be read."),
        ("from_date=yesterday", "The first day cannot be read."),
        ("counterparty=123", "counterparty's account number cannot be read."),
        ("currency=XXX", "The currency cannot be read."),
        ("sort=colour", "The order cannot be read."),
    ],
)
async def test_filters_that_cannot_be_read(ann: Browser, query: str, text: str) -> None:
    answer = await ann.go("transaction/?" + query)
    assert answer.status_code == 422
    assert text in ann.text.replace("&#39;", "'")
    assert (await ann.go("transaction/export.csv?" + query)).status_code == 422


async def test_history_by_pages(
    ann: Browser, bob: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_apps.pages.accounts.history.PAGE_ROWS", 2)
    monkeypatch.setattr("serve_apps.pages.accounts.history.EXPORT_CHUNK", 2)
    for amount in ("1", "2", "3", "4"):
        await ann.send(bob.accounts["USD"], amount)
    seen = await _rows(ann, direction="out", sort="amount")
    following = re.search(r'rel="next" href="([^"]+)"', ann.page.text)
    assert following is not None
    await ann.go(following.group(1).replace("&amp;", "&"))
    assert 'rel="next"' not in ann.page.text
    assert "First page" in ann.text
    table = ann.page.text.partition("<tbody>")[2]
    seen += re.findall(r'href="[^"]*/transaction/([0-9a-f]{32})/"', table)
    assert len(set(seen)) == 4
    export = await ann.go("transaction/export.csv?direction=out&sort=amount")
    assert [row["id"] for row in csv.DictReader(io.StringIO(export.text))] == seen
    await ann.go("transaction/?direction=out&cursor=nonsense")
    assert ann.page.url.query == b"direction=out"


async def test_spreadsheets_find_no_formula(ann: Browser, bob: Browser) -> None:
    await ann.send(bob.accounts["USD"], "1", '=HYPERLINK("x")')
    export = await ann.go("transaction/export.csv?direction=out")
    (row,) = csv.DictReader(io.StringIO(export.text))
    assert row["reference"] == '\'=HYPERLINK("x")'
    assert (row["amount"], row["fee"], row["status"]) == ("-1.00", "0.10", "completed")


async def test_a_transfer_is_for_its_parties(app: Application, ann: Browser, bob: Browser) -> None:
    transfer = await ann.send(bob.accounts["USD"], "1")
    async with Browser(app) as eve:
        await eve.sign_up("Eve Dean")
        for number in (transfer, transfer[:-1], "nonsense", "00" * 16):
            assert (await eve.go(f"transaction/{number}/")).status_code == 404


async def test_accounts_are_opened_and_closed(ann: Browser) -> None:
    await ann.go("account/")
    form = ann.fields(ann.home + "account/")
    for _ in range(2):
        await ann.post(ann.home + "account/", {**form, "name": "Savings", "currency": "EUR"})
        assert "The account is open." in ann.text
    assert ann.page.text.count("data-account=") == 4
    number = re.findall(r'data-account="([0-9]{14})"', ann.page.text)[-1]
    await ann.go(f"account/{number}/")
    assert "Savings" in ann.text
    await ann.submit(f"{ann.home}account/{number}/close")
    assert "The account is closed." in ann.text
    assert "Closed accounts (1)" in ann.text
    await ann.go(f"account/{ann.accounts['USD']}/")
    assert "Only an empty account can be closed." in ann.text
    csrf = form["csrf"]
    await ann.post(f"{ann.home}account/{ann.accounts['USD']}/close", {"csrf": csrf})
    assert ann.page.status_code == 409
    assert "has a balance" in ann.text
    await ann.post(ann.home + "account/", {**form, "key": "2", "currency": "XXX"})
    assert ann.page.status_code == 422
    assert (await ann.go("account/12345678901234/")).status_code == 404

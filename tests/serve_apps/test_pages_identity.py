"""Pages of sign-up, login, logout and profile; forms from elsewhere; other people's pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from serve_apps.application import Application
from serve_apps.pages.identity.entry import _own_path
from serve_apps.pages.visit import Refused
from serve_apps.services import AppConfig
from tests.serve_apps.browser import Browser
from tests.serve_apps.inprocess import PASSWORD, http_client


@pytest.fixture
async def ann(app: Application) -> AsyncIterator[Browser]:
    """Somebody who has signed up in a browser."""
    async with Browser(app) as browser:
        await browser.sign_up("Ann Baker")
        yield browser


@pytest.fixture
async def visitor(app: Application) -> AsyncIterator[Browser]:
    """Somebody who has not."""
    async with Browser(app) as browser:
        yield browser


async def test_the_front_page_tells_prices_from_the_settings(visitor: Browser) -> None:
    await visitor.go("/")
    assert visitor.page.status_code == 200
    assert "1 % 0.10 USD free 50,000.00 USD" in visitor.text
    assert "100.00 USD to start with" in visitor.text


async def test_members_are_sent_home(ann: Browser) -> None:
    for path in ("/", "/login", "/signup"):
        await ann.go(path)
        assert ann.page.url.path == ann.home


async def test_sign_up_opens_accounts(ann: Browser) -> None:
    assert sorted(ann.accounts) == ["CNY", "EUR", "USD"]
    assert "100.00 USD" in ann.text
    assert "Welcome to Kontor" in ann.text


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"email": "nonsense"}, 422, "This is not an e-mail address."),
        ({"name": " "}, 422, "A name has 1 to 100 characters."),
        ({"password": "short"}, 422, "at least 8 characters"),
        ({"password": "password"}, 422, "too easy to guess"),
        ({"email": "ann@example.com"}, 409, "already signed up"),
    ],
)
async def test_a_refused_sign_up_shows_the_form_again(
    ann: Browser, visitor: Browser, changes: dict[str, str], status: int, text: str
) -> None:
    await visitor.go("/signup")
    form = {"name": "Bob", "email": "bob@example.com", "password": "another good one"}
    await visitor.submit("/signup", **{**form, **changes})
    assert visitor.page.status_code == status
    assert text in visitor.text
    kept = visitor.fields("/signup")
    assert kept["email"] == {**form, **changes}["email"]
    assert kept["password"] == ""
    assert 'aria-invalid="true"' in visitor.page.text


async def test_login_and_logout(ann: Browser, visitor: Browser) -> None:
    await visitor.go("/login")
    await visitor.submit("/login", email="ann@example.com", password="wrong password")
    assert visitor.page.status_code == 401
    assert "do not belong together" in visitor.text
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    assert visitor.page.url.path == ann.home
    await visitor.submit("/logout")
    assert "You are logged out." in visitor.text
    await visitor.go(ann.home)
    assert visitor.page.url.path == "/login"
    await ann.go("")
    assert ann.page.url.path == ann.home


async def test_too_many_attempts_are_told_to_wait(ann: Browser, visitor: Browser) -> None:
    for _ in range(7):
        await visitor.go("/login")
        await visitor.submit("/login", email="ann@example.com", password="wrong password")
    assert visitor.page.status_code == 429
    assert int(visitor.page.headers["retry-after"]) > 0
    assert "Try again in" in visitor.text


async def test_login_leads_back_to_where_one_wanted_to(ann: Browser, visitor: Browser) -> None:
    await visitor.go(f"{ann.home}transaction/?direction=in")
    assert visitor.page.url.path == "/login"
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    assert visitor.page.url.path == f"{ann.home}transaction/"
    assert visitor.page.url.query == b"direction=in"


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/user/1234567890/",
        "//evil.example/user/1234567890/",
        "/\\evil.example/user/1234567890/",
        "/user/9999999999/",
        "/user/1234567890/../../logout",
        "/user/1234567890/..\\..\\logout",
        "//[evil",
        "javascript:alert(1)",
        "/logout",
        "",
    ],
)
def test_login_leads_nowhere_else(wanted: str) -> None:
    assert _own_path(wanted, 1234567890) == "/user/1234567890/"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_a_link_elsewhere_does_not_log_out(ann: Browser, site: str) -> None:
    await ann.go("/logout", **{"sec-fetch-site": site})
    assert "Log out?" in ann.text
    await ann.go("/logout")
    assert "You are logged out." in ann.text


async def test_other_sessions_are_listed_and_ended(ann: Browser, visitor: Browser) -> None:
    await visitor.go("/login")
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    await visitor.go(ann.home + "profile")
    assert visitor.page.text.count('name="session"') == 2
    mine = visitor.page.text.index("This one")
    other = visitor.page.text.index('name="session"', visitor.page.text.index("Log out here"))
    assert mine < other
    number = visitor.page.text[other:].split('value="')[1].split('"')[0]
    fields = {"csrf": visitor.fields(ann.home + "profile")["csrf"], "session": number}
    await visitor.post(ann.home + "profile/revoke", fields)
    assert "The session is ended." in visitor.text
    await ann.go("")
    assert ann.page.url.path == "/login"


async def test_a_new_name_is_shown_as_text(ann: Browser) -> None:
    await ann.go("profile")
    name = "<script>alert(1)</script> \"&'"
    await ann.submit(ann.home + "profile", name=name)
    assert "Your name is changed." in ann.text
    assert "<script>alert" not in ann.page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &#34;&amp;&#39;" in ann.page.text
    await ann.submit(ann.home + "profile", name="")
    assert ann.page.status_code == 422


ACTIONS = (
    "transaction/", "transaction/review", "transaction/edit", "fragments/quote", "account/",
    "profile", "profile/revoke",
)  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
async def test_forms_from_elsewhere_are_refused(ann: Browser, action: str) -> None:
    await ann.go("transaction/new")
    good = ann.fields(ann.home + "transaction/review")["csrf"]
    form = {"from": ann.accounts["USD"], "to": ann.accounts["EUR"], "amount": "1", "name": "X"}
    attempts: list[tuple[dict[str, str], dict[str, str]]] = [
        (form, {}),
        ({**form, "csrf": "wrong"}, {}),
        ({**form, "csrf": good}, {"origin": "https://evil.example"}),
        ({**form, "csrf": good}, {"origin": "null"}),
        ({**form, "csrf": good}, {"sec-fetch-site": "cross-site"}),
    ]
    for fields, headers in attempts:
        answer = await ann.post(ann.home + action, fields, **headers)
        assert answer.status_code == 403
        assert "This form has expired" in ann.text
    await ann.go("transaction/")
    assert "1 transfer" in ann.text


async def test_sign_up_and_login_need_their_own_form(visitor: Browser) -> None:
    for path in ("/login", "/signup"):
        form = {"email": "x@example.com", "name": "X", "password": PASSWORD}
        assert (await visitor.post(path, form)).status_code == 403
        await visitor.go(path)
        token = visitor.fields(path)["csrf"]
        visitor.http.cookies.clear()
        assert (await visitor.post(path, {**form, "csrf": token})).status_code == 403


GET_PATHS = (
    "", "transaction/", "transaction/new", "transaction/export.csv", "profile", "account/",
    "fragments/overview", "transaction/00000000000000000000000000000000/",
)  # fmt: skip


@pytest.mark.parametrize("path", GET_PATHS)
async def test_pages_are_for_their_owner(app: Application, ann: Browser, path: str) -> None:
    async with http_client(app) as nobody:
        answer = await nobody.get(ann.home + path)
        assert (answer.status_code, answer.text) == (303, "")
        assert answer.headers["location"].startswith("/login")
    async with Browser(app) as mallory:
        await mallory.sign_up("Mallory Marsh")
        answer = await mallory.go(ann.home + path)
        assert answer.status_code == 404
        assert "ann@example.com" not in answer.text


@pytest.mark.parametrize("action", ACTIONS)
async def test_forms_are_for_their_owner(app: Application, ann: Browser, action: str) -> None:
    form = {"from": ann.accounts["USD"], "to": ann.accounts["EUR"], "amount": "1", "name": "Mine"}
    async with Browser(app) as mallory:
        await mallory.sign_up("Mallory Marsh")
        await mallory.go("profile")
        csrf = mallory.fields(mallory.home + "profile")["csrf"]
        answer = await mallory.post(ann.home + action, {**form, "csrf": csrf})
        assert answer.status_code == 404
        to_mallory = {**form, "to": mallory.accounts["USD"], "csrf": csrf}
        answer = await mallory.post(mallory.home + "transaction/", to_mallory)
        assert answer.status_code == 404
        assert "You have no such account." in mallory.text
    async with http_client(app) as nobody:
        answer = await nobody.post(ann.home + action, data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    await ann.go("transaction/")
    assert "1 transfer" in ann.text


async def test_error_pages(app: Application, ann: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ann.go("/no/such/page")).status_code == 404
    assert "There is nothing here" in ann.text
    assert "Ann Baker" in ann.text
    assert (await ann.http.put("/login")).status_code == 405

    async def away(*_: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(app.services.sessions, "find", away)
    answer = await ann.go("")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert "nothing is lost" in ann.text


async def test_pages_carry_strict_headers(ann: Browser) -> None:
    await ann.go("")
    policy = ann.page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert ann.page.headers["cache-control"] == "no-store"
    assert " style=" not in ann.page.text
    assert "<style" not in ann.page.text
    assert " onclick=" not in ann.page.text


async def test_htmx_is_sent_on_without_following(ann: Browser, visitor: Browser) -> None:
    answer = await visitor.go(ann.home + "fragments/overview", **{"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/login")
    answer = await ann.go("no-such-page", **{"hx-request": "true"})
    assert answer.status_code == 404


def test_every_refusal_has_words() -> None:
    for status in (400, 403, 404, 405, 413, 422, 429, 500, 503):
        assert str(Refused(status))


async def test_static_files_may_be_kept(config: AppConfig) -> None:
    from pathlib import Path

    from serve_apps.pages.routes import Assets

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(Assets(directory=Path(__file__).parent)),
        base_url="http://kontor.test",
    ) as http:
        kept = await http.get("/conftest.py?v=1")
        assert "immutable" in kept.headers["cache-control"]
        assert "immutable" not in (await http.get("/conftest.py")).headers["cache-control"]

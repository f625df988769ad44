"""Pages on which people look after their own security, as a browser without scripts sees them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from serve_apps import accounts
from serve_apps.application import Application
from tests.serve_apps.authenticator import Authenticator, Clock, links, looked_at
from tests.serve_apps.browser import Browser
from tests.serve_apps.inprocess import PASSWORD

NEW = "incorrect zebra socket"


@pytest.fixture
def clock(app: Application) -> Clock:
    """The application's clock."""
    return Clock(app)


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


async def switch_on(ann: Browser, clock: Clock) -> tuple[Authenticator, list[str]]:
    """Set a second factor up on the pages; ends on the page with the recovery codes."""
    path = ann.home + "profile/second-factor"
    await ann.go("profile/second-factor")
    await ann.submit(path, password=PASSWORD)
    secret = re.search(r'id="secret">([A-Z2-7]{32})<', ann.page.text)
    assert secret, ann.text
    assert 'src="data:image/svg+xml' in ann.page.text
    device = Authenticator(secret.group(1), clock)
    await ann.submit(path + "/on", code=device.again())
    codes = re.findall(r"data-recovery>([0-9a-z-]{14})<", ann.page.text)
    assert len(codes) == 10
    return device, codes


async def test_second_factor_from_set_up_to_switching_off(
    ann: Browser, visitor: Browser, clock: Clock
) -> None:
    path = ann.home + "profile/second-factor"
    await ann.go("profile/second-factor")
    await ann.submit(path, password="not it")
    assert ann.page.status_code == 422
    assert "This is not your present password." in ann.text
    device, codes = await switch_on(ann, clock)
    await visitor.go(f"/login?next={ann.home}profile")
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    assert "One more step" in visitor.text
    await visitor.submit("/login/code", code=device.wrong())
    assert visitor.page.status_code == 422
    assert "This code is wrong" in visitor.text
    await visitor.submit("/login/code", code=device.code())
    assert visitor.page.url.path == ann.home + "profile"
    assert "On, 10 recovery codes left." in visitor.text
    await ann.go("profile/second-factor")
    await ann.submit(path + "/recovery", code=device.wrong())
    assert (ann.page.status_code, "This code is wrong" in ann.text) == (422, True)
    await ann.submit(path + "/recovery", code=codes[0])
    assert "Your new recovery codes" in ann.text
    await ann.go("profile/second-factor")
    await ann.submit(path + "/off", password=PASSWORD, code="")
    assert ann.page.status_code == 422
    await ann.submit(path + "/off", password=PASSWORD, code=device.code())
    assert "The second factor is off." in ann.text


async def test_a_login_whose_ticket_is_over_starts_again(
    ann: Browser, visitor: Browser, clock: Clock
) -> None:
    device, _ = await switch_on(ann, clock)
    await visitor.go("/login/code")
    assert visitor.page.url.path == "/login"
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    clock.forward(400)
    await visitor.submit("/login/code", code=device.code())
    assert visitor.page.status_code == 401
    assert "Start again with the password." in visitor.text
    await visitor.go("/signup")
    form = {"name": "Ann", "email": "ann@example.com", "password": PASSWORD}
    await visitor.submit("/signup", **form)
    assert "One more step" in visitor.text


async def test_the_first_payment_to_somebody_asks_for_a_code(
    app: Application, ann: Browser, clock: Clock
) -> None:
    device, _ = await switch_on(ann, clock)
    async with Browser(app) as bob:
        await bob.sign_up("Bob Carter")
        to = bob.accounts["EUR"]  # converts: the rate of the review can be over meanwhile
    send = ann.home + "transaction/"
    await ann.go("transaction/new")
    await ann.submit(ann.home + "transaction/review", to=to, amount="10")
    await ann.submit(send)
    assert "You have not paid this account before" in ann.text
    await ann.submit(send, code=device.wrong())
    assert ann.page.status_code == 422
    assert "This code is wrong" in ann.text
    clock.forward(-600)
    old = accounts.make_quote(app.services, "USD", "EUR")
    assert isinstance(old, accounts.Quote)
    clock.forward(600)
    await ann.submit(send, code=device.code(), quote=old.token)
    # The code counted, the rate did not: the new rate is reviewed, without another code.
    assert "The rate was no longer valid." in ann.text
    await ann.submit(send)
    assert "Done" in ann.text
    await ann.send(to, "5")


async def test_a_changed_payment_is_confirmed_anew(
    app: Application, ann: Browser, clock: Clock
) -> None:
    device, _ = await switch_on(ann, clock)
    async with Browser(app) as bob:
        await bob.sign_up("Bob Carter")
        to = bob.accounts["USD"]
    send = ann.home + "transaction/"
    await ann.go("transaction/new")
    await ann.submit(ann.home + "transaction/review", to=to, amount="10")
    await ann.submit(send)
    await ann.submit(send, code=device.code(), amount="50")
    assert ann.page.status_code == 409
    assert "Something else than this was confirmed." in ann.text
    await ann.go("")
    assert "100.00 USD" in ann.text


async def test_a_forgotten_password(app: Application, ann: Browser, visitor: Browser) -> None:
    texts = []
    for email in ("ann@example.com", "nobody@example.com"):
        await visitor.go("/reset")
        await visitor.submit("/reset", email=email)
        texts.append(visitor.text.replace(email, ""))
    assert texts[0] == texts[1]
    assert "Look into your mail" in texts[0]
    await looked_at(app)
    ((_, token),) = await links(app, "password_reset")
    await visitor.go(f"/reset/new?token={token}")
    await visitor.submit("/reset/new", new_password="password")
    assert "too easy to guess" in visitor.text
    await visitor.submit("/reset/new", new_password=NEW)
    assert visitor.page.url.path == "/login"
    assert "The password is set." in visitor.text
    await ann.go("")
    assert ann.page.url.path == "/login"
    await visitor.submit("/login", email="ann@example.com", password=NEW)
    assert visitor.page.url.path == ann.home
    await visitor.go(f"/reset/new?token={token}")
    assert (visitor.page.status_code, "This link does not count" in visitor.text) == (422, True)


async def test_opening_a_link_proves_nothing_its_button_does(
    app: Application, ann: Browser, visitor: Browser
) -> None:
    await ann.go("profile")
    assert "Not confirmed" in ann.text
    await ann.submit(ann.home + "profile/verification")
    assert "The link is on its way." in ann.text
    token = (await links(app, "email_verify"))[-1][1]
    await visitor.go(f"/verify?token={token}")
    await ann.go("profile")
    assert "Not confirmed" in ann.text
    await visitor.submit("/verify")
    assert "The e-mail address is confirmed." in visitor.text
    await ann.go("profile")
    assert "Not confirmed" not in ann.text
    await visitor.go(f"/verify?token={token}")
    assert "This link does not count" in visitor.text


async def test_password_and_address_are_changed(
    app: Application, ann: Browser, visitor: Browser
) -> None:
    await visitor.go("/login")
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    await ann.go("profile/email")
    path = ann.home + "profile/email"
    await ann.submit(path, email="nonsense", password=PASSWORD)
    assert (ann.page.status_code, "not an e-mail address" in ann.text) == (422, True)
    await ann.submit(path, email="ann@new.example", password=PASSWORD)
    assert "a link is on its way to ann@new.example." in ann.text
    ((_, token),) = await links(app, "email_change")
    await ann.go(f"/verify?token={token}")
    await ann.submit("/verify")
    assert ann.page.url.path == ann.home
    await ann.go("profile/password")
    path = ann.home + "profile/password"
    await ann.submit(path, password=PASSWORD, new_password=" x ")
    assert (ann.page.status_code, "at least 8 characters" in ann.text) == (422, True)
    stolen = ann.http.cookies["kontor_session"]
    await ann.submit(path, password=PASSWORD, new_password=f" {NEW} ")
    assert "All other sessions are ended." in ann.text
    await ann.go("profile")
    assert ann.page.url.path == ann.home + "profile"
    visitor.http.cookies.set("kontor_session", stolen, domain="kontor.test")
    await visitor.go(ann.home)
    assert visitor.page.url.path == "/login"
    # Passwords are taken as they are typed, with what stands around them.
    await visitor.submit("/login", email="ann@new.example", password=NEW)
    assert visitor.page.status_code == 401
    await visitor.submit("/login", email="ann@new.example", password=f" {NEW} ")
    assert visitor.page.url.path == ann.home


async def test_all_others_are_ended_and_data_is_taken_away(ann: Browser, visitor: Browser) -> None:
    await visitor.go("/login")
    await visitor.submit("/login", email="ann@example.com", password=PASSWORD)
    await ann.go("profile")
    await ann.submit(ann.home + "profile/revoke-others")
    assert "All other sessions and tokens are ended." in ann.text
    await visitor.go(ann.home)
    assert visitor.page.url.path == "/login"
    await ann.go("profile")
    await ann.submit(ann.home + "profile/export")
    assert "attachment" in ann.page.headers["content-disposition"]
    assert ann.page.json()["user"][0]["email"] == "ann@example.com"


async def test_leaving(ann: Browser, visitor: Browser) -> None:
    await ann.go("profile/close")
    await ann.submit(ann.home + "profile/close", password=PASSWORD)
    assert ann.page.status_code == 409
    assert "There is still money" in ann.text
    await visitor.sign_up("Bob Carter")
    for amount in ("90", "9"):
        await ann.send(visitor.accounts["USD"], amount)
    await ann.go("profile/close")
    await ann.submit(ann.home + "profile/close", password=PASSWORD)
    assert ann.page.url.path == "/"
    assert "Your accounts are closed. Goodbye." in ann.text
    await ann.go("/login")
    await ann.submit("/login", email="ann@example.com", password=PASSWORD)
    assert ann.page.status_code == 401


MEMBER = (
    "profile/password", "profile/email", "profile/verification", "profile/second-factor",
    "profile/second-factor/on", "profile/second-factor/off", "profile/second-factor/recovery",
    "profile/revoke-others", "profile/export", "profile/close",
)  # fmt: skip


async def test_forms_are_for_their_owner_and_from_our_pages(ann: Browser, visitor: Browser) -> None:
    await visitor.sign_up("Mallory Marsh")
    await visitor.go("profile")
    csrf = visitor.fields(visitor.home + "profile")["csrf"]
    fields = {"password": PASSWORD, "new_password": NEW, "email": "m@example.com", "code": "1"}
    for path in MEMBER:
        await visitor.post(ann.home + path, {**fields, "csrf": csrf})
        assert visitor.page.status_code == 404, path
        await ann.post(ann.home + path, fields)
        assert ann.page.status_code == 403, path
    for path in ("/reset", "/reset/new", "/verify", "/login/code"):
        await ann.post(path, {**fields, "token": "x", "ticket": "x"})
        assert ann.page.status_code == 403, path

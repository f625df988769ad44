"""Undelivered messages, previews, one-click unsubscription, and development's caught mail."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from actors.letters import unsubscribe_url
from cluster.mailserver import Folder
from domain.notifications import KINDS, Channel, Kind, may_choose
from persistence import notifications, roles
from serve_apps.application import AppConfig, Application, build
from tests.actors.post import at_work, make_courier, settled, tell
from tests.actors.postoffice import PostOffice
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import make_config

MAIL = "/operations/mail/"


@pytest.fixture(scope="module")
def config(
    shared_database_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AppConfig:
    """Development, with a folder of caught mail."""
    folder = tmp_path_factory.mktemp("mail")
    return make_config(shared_database_url, redis_url, mail_dir=str(folder), dev_mode=True)


async def dead_letter(app: Application, user: User, office: PostOffice) -> None:
    """A mail to somebody that the server refuses for good."""
    pool = app.services.pool
    await pool.execute("DELETE FROM deliveries")
    office.answers_to_recipients.append("550 Nobody here")
    await tell(pool, int(user.id), Kind.PASSWORD_RESET, "one", link="https://a.test/?token=sesame")
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await settled(pool)


async def become_operator(app: Application, user: User) -> None:
    await roles.grant(app.services.pool, int(user.id), "operator", "tests")
    await app.services.sessions.read_revocations()


@pytest.mark.alone
async def test_operators_see_what_was_given_up_and_have_it_sent_again(
    app: Application, ann: User, bob: User
) -> None:
    office = PostOffice()
    await dead_letter(app, ann, office)
    assert (await bob.http.get(f"/api{MAIL}")).status_code == 404
    await become_operator(app, bob)
    (dead,) = (await bob.http.get(f"/api{MAIL}?channel=email")).json()["messages"]
    assert (dead["to"], dead["kind"], dead["status"]) == ("ann@example.com", "password_reset", 550)
    assert "sesame" not in str(dead)
    assert (await bob.http.get(f"/api{MAIL}?channel=webhook")).json()["messages"] == []
    path = f"/api{MAIL}{dead['id']}/resend/"
    assert (await ann.http.post(path)).status_code == 404
    assert (await bob.http.post(path)).status_code == 202
    assert (await bob.http.post(path)).status_code == 404
    pool = app.services.pool
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await settled(pool)
    assert "sesame" in next(str(mail) for mail in office.mails if "ann@" in mail["to"])
    entry = await pool.fetchrow("SELECT * FROM audit_log WHERE action = 'mail.resend'")
    assert entry is not None
    assert entry["subject"] == f"delivery:{dead['id']}"
    assert "sesame" not in str(dict(entry))


@pytest.mark.parametrize("query", ["channel=fax", "cursor=x", "cursor=-1", "nothing=1"])
async def test_questions_without_sense(app: Application, ann: User, query: str) -> None:
    await become_operator(app, ann)
    assert (await ann.http.get(f"/api{MAIL}?{query}")).status_code == 400


async def test_pages_for_operators(app: Application, ann: User) -> None:
    await dead_letter(app, ann, PostOffice())
    async with Browser(app) as browser:
        await browser.sign_up("Otto")
        user = int(browser.home.split("/")[2])
        assert (await browser.go(MAIL)).status_code == 404
        await roles.grant(app.services.pool, user, "operator", "tests")
        await app.services.sessions.read_revocations()
        await browser.go(MAIL)
        assert "Set a new password" in browser.text
        assert "550: Nobody here" in browser.text
        assert "sesame" not in browser.page.text
        action = re.search(r'action="(/operations/mail/\d+/resend)"', browser.page.text)
        assert action is not None
        await browser.submit(action[1])
        assert "The message is sent again" in browser.text
        assert "Everything has been delivered" in browser.text
        await browser.go(MAIL + "kinds/")
        assert len(re.findall(r'href="/operations/mail/kinds/\w+/"', browser.page.text)) == len(
            KINDS
        )


async def test_every_kind_can_be_looked_at(app: Application) -> None:
    async with Browser(app) as browser:
        await browser.sign_up("Otto")
        user = int(browser.home.split("/")[2])
        await roles.grant(app.services.pool, user, "operator", "tests")
        await app.services.sessions.read_revocations()
        for kind, rule in KINDS.items():
            page = await browser.go(f"{MAIL}kinds/{kind.value}/")
            assert page.status_code == 200, page.text
            assert rule.label in browser.text
            policy = page.headers["content-security-policy"]
            assert "frame-src 'self'" in policy
            assert "'unsafe" not in policy
            frame = re.search(r'<iframe[^>]* src="([^"]+)"', page.text)
            assert frame is not None
            inner = await browser.go(frame[1].replace("&amp;", "&"))
            assert inner.status_code == 200
            held = inner.headers["content-security-policy"]
            assert held.startswith("sandbox allow-popups allow-popups-to-escape-sandbox;")
            assert "script-src" not in held
            assert "default-src 'none'" in held
            assert '<base target="_blank">' in inner.text
        assert (await browser.go(f"{MAIL}kinds/nonsense/")).status_code == 404
        assert (await browser.go(f"{MAIL}kinds/welcome/?language=../en")).status_code == 404


async def test_one_click_ends_mails_of_a_kind(
    app: Application, ann: User, client: httpx.AsyncClient
) -> None:
    kind = Kind.TRANSFER_RETURNED
    assert may_choose(kind, Channel.EMAIL)
    config = app.services.config
    url = unsubscribe_url(config.secret_key, "", int(ann.id), kind)
    assert (await client.get(url)).status_code == 200
    pool, user = app.services.pool, int(ann.id)
    assert (kind, Channel.EMAIL) not in await notifications.choices_of(pool, user)
    # As a mail program does it, without cookies and without a form of ours.
    done = await client.post(url, data={"List-Unsubscribe": "One-Click"})
    assert done.status_code == 200
    assert (await notifications.choices_of(pool, user))[kind, Channel.EMAIL] is False


async def test_links_that_are_not_ours_end_nothing(
    app: Application, ann: User, bob: User, client: httpx.AsyncClient
) -> None:
    secret = app.services.config.secret_key
    right = unsubscribe_url(secret, "", int(ann.id), Kind.TRANSFER_RETURNED)
    for wrong in (
        right.replace(ann.id, bob.id),
        right.replace("transfer_returned", "transfer_received"),
        right[:-1],
        "/unsubscribe",
        unsubscribe_url(secret, "", int(ann.id), Kind.PASSWORD_RESET),
        unsubscribe_url(b"another", "", int(ann.id), Kind.TRANSFER_RETURNED),
    ):
        assert (await client.post(wrong)).status_code == 404
    assert await app.services.pool.fetchval("SELECT count(*) FROM notification_preferences") == 0


async def test_caught_mail_is_shown_and_can_do_nothing(
    app: Application, ann: User, client: httpx.AsyncClient
) -> None:
    config, pool = app.services.config, app.services.pool
    assert "There is none" in (await client.get("/dev/mail")).text
    await pool.execute("DELETE FROM deliveries")
    office = PostOffice()
    link = "https://kontor.test/reset?token=sesame"
    await tell(pool, int(ann.id), Kind.PASSWORD_RESET, "one", link=link)
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await settled(pool)
    Folder(Path(config.mail_dir)).keep(office.mails[0].as_bytes())
    assert "data-mail" in (await client.get("/dev/mail?to=ANN@example.com")).text
    found = re.search(r'href="(/dev/mail/\d{20}/)" data-mail', (await client.get("/dev/mail")).text)
    assert found is not None
    assert "data-mail" not in (await client.get("/dev/mail?to=ben@")).text
    page = await client.get(found[1])
    assert f'href="{link}"' in page.text
    assert "Message-ID" in page.text
    inner = await client.get(found[1] + "html")
    assert urlsplit(link).path in inner.text
    assert inner.headers["content-security-policy"].startswith("sandbox")
    for wrong in ("/dev/mail/1/", "/dev/mail/..%2f..%2fsecret/", "/dev/mail/" + "1" * 20 + "/"):
        assert (await client.get(wrong)).status_code == 404


async def test_in_production_no_mail_is_shown(database_url: str, redis_url: str) -> None:
    routes = build(make_config(database_url, redis_url))._router.routes
    assert not any("/dev/" in getattr(route, "path", "") for route in routes)

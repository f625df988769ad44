"""Each change that needs a permission of staff, over REST and pages: the audit log has it.

The list of ways in is the route table of the running application, so that nobody adds one without
saying here how it is tried, and what is written then. What people do to what is their own is
sorted: what touches their security is written down, too.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import pytest

from domain.identity.permissions import ADMINISTRATOR, OPERATOR, SUPPORT, Permission
from domain.notifications import Kind
from persistence import audit, releases, roles
from persistence.audit import Actor, Filter
from persistence.releases import New
from serve_apps.application import Application, build
from tests.actors.post import tell
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.inprocess import make_config
from tests.serve_apps.test_api_instruments import NORD
from tests.serve_apps.test_every_permission import Way, ways_of

TESTER = Actor(None, "a test", "console")


class Try(NamedTuple):
    """A change: the path and the values to send, and what must be written then."""

    action: str
    path: str = ""
    values: Mapping[str, Any] = {}


class Office:
    """People, and what there is to be changed; ``boss`` may do everything that staff may."""

    def __init__(self, app: Application, ann: User, boss: Browser, maker: User) -> None:
        self.app, self.ann, self.boss, self.maker = app, ann, boss, maker
        self.made = 0

    async def adjustment(self) -> dict[str, str]:
        """One that somebody else has made."""
        body = {"account": self.ann.accounts["USD"], "amount": "1", "reason": "Why"}
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        made = await self.maker.http.post("/api/office/adjustment/", json=body, headers=headers)
        assert made.status_code == 201, made.text
        answer: dict[str, str] = made.json()
        return answer

    async def dead_letter(self) -> int:
        """A mail that could not be delivered."""
        self.made += 1
        pool = self.app.services.pool
        await tell(pool, int(self.ann.id), Kind.PASSWORD_CHANGED, f"dead {self.made}")
        number: int = await pool.fetchval(
            "update deliveries set state = 'dead', done_at = now(), last_error = '550'"
            " where id = (select max(id) from deliveries where channel = 'email') returning id"
        )
        return number

    async def canary(self) -> None:
        """One that runs."""
        pool = self.app.services.pool
        if await releases.under_way(pool) is None:
            begun = await releases.begin(pool, New("/srv/x", {}, "0", "base", 10), TESTER)
            await releases.settle(pool, begun, releases.RUNNING, TESTER)

    async def send(self, way: Way, wanted: Try) -> None:
        """Make the change, as a program or with a form."""
        if way.kind == "api":
            headers = {"x-csrf-token": self.boss.fields("/logout")["csrf"]}
            headers["idempotency-key"] = secrets.token_hex(8)
            answer = await self.boss.http.request(
                way.method, wanted.path or way.path, json=wanted.values or None, headers=headers
            )
        else:
            fields = {"csrf": self.boss.fields("/logout")["csrf"], **wanted.values}
            answer = await self.boss.http.post(
                wanted.path or way.path, data=fields, follow_redirects=False
            )
            assert answer.status_code == 303, (way.name, answer.text)
        assert answer.status_code < 400, (way.name, answer.text)


@pytest.fixture
async def office(app: Application, ann: User, make_user: MakeUser) -> AsyncIterator[Office]:
    """Everybody in their places."""
    maker = await make_user("sam")
    pool = app.services.pool
    await roles.grant(pool, int(maker.id), SUPPORT, "a test")
    async with Browser(app) as boss:
        await boss.sign_up("Boss Example")
        for role in (SUPPORT, OPERATOR, ADMINISTRATOR):
            await roles.grant(pool, int(boss.home.split("/")[2]), role, "a test")
        await app.services.sessions.read_revocations()
        yield Office(app, ann, boss, maker)


async def scenes(office: Office, name: str) -> Try:
    """How a way in is tried; what it needs is made first."""
    ann, usd = office.ann, office.ann.accounts["USD"]
    customer, symbol = f"/office/customer/{ann.id}/", "/api/instrument/NORDUSD/"
    if name.endswith(("approve_adjustment", "refuse_adjustment", "/decide")):
        seen = await office.adjustment()
        said = {"digest": seen["digest"], "note": "No", "verdict": "refuse"}
        verb = "approve" if name == "approve_adjustment" else "refuse"
        if name.endswith("/decide"):
            return Try(f"adjustments.{verb}", f"/office/adjustments/{seen['id']}/decide", said)
        del said["verdict"]
        return Try(f"adjustments.{verb}", f"/api/office/adjustment/{seen['id']}/{verb}/", said)
    if "resend" in name:
        path = f"/operations/mail/{await office.dead_letter()}/resend"
        return Try("mail.resend", path if "/" in name else f"/api{path}/")
    if "canary" in name:
        await office.canary()
        if "/" in name:
            return Try("canary.rollback", "", {"action": "rollback"})
        return Try("canary.weight", "", {"action": "weight", "weight": 20})
    reason = {"reason": "Why"}
    freeze = f"/api/office/account/{usd}/"
    limit, give = {"currency": "USD", "amount": "9"}, {"user": ann.id, "role": "auditor"}
    return {
        "freeze_account": Try("accounts.freeze", freeze + "freeze/", reason),
        "unfreeze_account": Try("accounts.unfreeze", freeze + "unfreeze/", reason),
        "POST /office/customer/{customer}/freeze": Try(
            "accounts.freeze", customer + "freeze", {"account": usd, "what": "freeze", **reason}
        ),
        "propose_adjustment": Try(
            "adjustments.propose", "", {"account": usd, "amount": "1", **reason}
        ),
        "POST /office/customer/{customer}/adjust": Try(
            "adjustments.propose", customer + "adjust", {"account": usd, "amount": "1", **reason}
        ),
        "set_customer_limit": Try("limits.set", f"/api{customer}limit/", limit),
        "POST /office/customer/{customer}/limit": Try("limits.set", customer + "limit", limit),
        "give_role": Try("roles.give", "", give),
        "take_role": Try("roles.take", f"/api/office/role/{ann.id}/auditor/"),
        "POST /office/roles/": Try("roles.give", "", give),
        "POST /office/roles/take": Try("roles.take", "", give),
        "list_instrument": Try("instruments.list", "", NORD),
        "halt_instrument": Try("instruments.halt", symbol + "halt/", reason),
        "resume_instrument": Try("instruments.resume", symbol + "resume/"),
        "auction_instrument": Try(
            "instruments.auction", symbol + "auction/", {"until": "2999-01-01T00:00:00Z"}
        ),
        "POST /operations/instruments/": Try("instruments.list", "", {**NORD, "base": "FJRD"}),
        "POST /operations/instruments/{symbol}": Try(
            "instruments.halt", "/operations/instruments/FJRDUSD", {"change": "halt", **reason}
        ),
        "delist_instrument": Try("instruments.delist", symbol + "delist/", reason),
    }[name]  # fmt: skip


ORDER = (
    "list_instrument", "auction_instrument", "resume_instrument", "halt_instrument",
    "delist_instrument", "POST /operations/instruments/", "POST /operations/instruments/{symbol}",
    "freeze_account", "unfreeze_account", "give_role", "take_role", "POST /office/roles/",
    "canary_steer",
)  # fmt: skip
"""What another change must come before; the rest follow in any order."""


async def test_every_change_that_staff_make_is_in_the_audit_log(office: Office) -> None:
    plain = build(make_config("postgresql://nowhere/none", "redis://nowhere"))
    ways = {
        way.name: way
        for way in ways_of(plain)[0]
        if way.permission is not Permission.OWN and way.method != "GET"
    }
    assert len(ways) > len(ORDER)
    pool = office.app.services.pool
    boss = int(office.boss.home.split("/")[2])
    for name in (*ORDER, *sorted(set(ways) - set(ORDER))):
        wanted = await scenes(office, name)
        before = await pool.fetchval("select seq from audit_head")
        await office.send(ways[name], wanted)
        entries = [
            row for row in await audit.search(pool, Filter(actor=boss), 10) if row.seq > before
        ]
        assert [row.action for row in entries if row.action == wanted.action], (name, entries)
        assert not [row.action for row in entries if row.action.endswith(".refused")], name
        (entry,) = [row for row in entries if row.action == wanted.action]
        origin = "api" if ways[name].kind == "api" else "page"
        assert (entry.by, entry.origin) == ("boss@example.com", origin), name
        assert entry.session, name
        assert entry.subject, name


async def test_what_was_refused_is_written_too(office: Office) -> None:
    plain = build(make_config("postgresql://nowhere/none", "redis://nowhere"))
    (way,) = [way for way in ways_of(plain)[0] if way.name == "halt_instrument"]
    with pytest.raises(AssertionError):
        await office.send(way, Try("", "/api/instrument/NONEUSD/halt/", {"reason": "Why"}))
    rows = await audit.search(office.app.services.pool, Filter(subject="instrument:NONEUSD"))
    assert [row.action for row in rows] == ["instruments.halt.refused", "instruments.halt"]


# -- what people do to what is their own ----------------------------------------------------

WRITTEN = {
    "change_password", "reset_password", "change_email", "verify_email", "change_profile",
    "revoke_session", "end_other_sessions", "export_data", "close",
    "switch_second_factor_on", "switch_second_factor_off", "renew_recovery_codes",
    "make_api_key", "revoke_api_key",
    "make_webhook", "delete_webhook", "enable_webhook", "rotate_webhook_secret",
}  # fmt: skip
"""Touches somebody's security: in the audit log."""

IN_THE_JOURNAL = {
    "make_transfer", "batch_transfer", "reserve_hold", "post_hold", "void_hold",
    "open_account", "close_account", "fund_brokerage", "withdraw_brokerage",
}  # fmt: skip
"""Moves what is somebody's own: in the journal of their entity."""

NOTHING_YET = {
    "sign_up", "login", "complete_login", "logout", "ask_password_reset",
    "ask_email_verification", "set_up_second_factor", "confirm", "make_quote", "ping_webhook",
    "choose_notifications", "read_notification", "read_notifications",
}  # fmt: skip
"""Comes and goes, or counts for nothing before another step."""


def test_what_people_do_themselves_is_sorted() -> None:
    plain = build(make_config("postgresql://nowhere/none", "redis://nowhere"))
    own = {
        way.name
        for way in ways_of(plain)[0]
        if way.permission is Permission.OWN and way.kind == "api" and way.method != "GET"
    }
    assert own == WRITTEN | IN_THE_JOURNAL | NOTHING_YET


async def test_what_touches_ones_own_security_is_in_the_audit_log(
    app: Application, ann: User
) -> None:
    """What needs nothing but the person; the rest is in the tests of links and second factor."""
    home, http = ann.path, ann.http
    endpoint = {"label": "shop", "url": "https://shop.example/hooks"}

    async def last(method: str, path: str, body: Any = None) -> tuple[Any, str]:
        answer = await http.request(method, home + path, json=body)
        assert answer.status_code < 400, (path, answer.text)
        (row, *_) = await audit.search(app.services.pool, Filter(subject=f"customer:{ann.id}"))
        assert (row.actor, row.origin) == (int(ann.id), "api")
        return answer.json() if path != "export/" else None, row.action

    assert (await last("PATCH", "", {"name": "Ann B"}))[1] == "identity.renamed"
    assert (await last("DELETE", "session/"))[1] == "identity.sessions_ended"
    assert (await last("POST", "export/"))[1] == "identity.exported"
    made, action = await last("POST", "api-key/", {"label": "bot", "scopes": ["read"]})
    assert action == "identity.api_key_made"
    assert (await last("DELETE", f"api-key/{made['id']}/"))[1] == "identity.api_key_revoked"
    made, action = await last("POST", "webhook/", endpoint)
    assert action == "webhook.add"
    hook = f"webhook/{made['webhook']['id']}/"
    assert (await last("POST", hook + "secret/"))[1] == "webhook.rotate"
    await app.services.pool.execute("update webhook_endpoints set disabled_at = now()")
    assert (await last("POST", hook + "enable/"))[1] == "webhook.enable"
    assert (await last("DELETE", hook))[1] == "webhook.delete"

"""What people have beside a password: an authenticator, a mailbox, and time that passes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp

from serve_apps import identity
from serve_apps.application import Application
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PASSWORD


class Clock:
    """The application's clock, which can be moved ahead."""

    def __init__(self, app: Application) -> None:
        self._ahead = timedelta()
        app.services.now = self.now

    def now(self) -> datetime:
        """The time of day in the application."""
        return datetime.now(UTC) + self._ahead

    def forward(self, seconds: int) -> None:
        """Let time pass."""
        self._ahead += timedelta(seconds=seconds)


class Authenticator:
    """Shows a code that was not used before: time passes until there is one."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._totp = pyotp.TOTP(secret)
        self._clock = clock

    def again(self) -> str:
        """The code of this moment."""
        return self._totp.at(self._clock.now())

    def code(self) -> str:
        """The next code."""
        self._clock.forward(30)
        return self.again()

    def wrong(self) -> str:
        """A code of no moment around this one."""
        near = {self._totp.at(self._clock.now() + timedelta(seconds=30 * n)) for n in range(-3, 4)}
        return next(code for code in map("{:06d}".format, range(100)) if code not in near)


async def switch_on(
    user: User, clock: Clock, password: str = PASSWORD
) -> tuple[Authenticator, list[str]]:
    """Give a user a second factor; with the recovery codes."""
    path = user.path + "second-factor/"
    made = (await user.http.post(path, json={"password": password})).json()
    device = Authenticator(made["secret"], clock)
    answer = await user.http.post(path + "confirm/", json={"code": device.again()})
    assert answer.status_code == 200, answer.text
    return device, answer.json()["recovery_codes"]


async def looked_at(app: Application) -> None:
    """Wait until the background job has looked at all requests for a new password."""
    async with asyncio.timeout(30):
        while await app.services.pool.fetchval("select count(*) from reset_requests"):
            await identity.send_resets(app.services)


async def links(app: Application, kind: str) -> list[tuple[str, str]]:
    """The links of this kind that wait to be sent: to which address, and the token; newest last."""
    rows = await app.services.pool.fetch(
        "select d.target, d.secret ->> 'link' as link from deliveries d"
        " join notifications n on n.id = d.notification_id where n.kind = $1 order by d.id",
        kind,
    )
    return [(row["target"], token_of(row["link"])) for row in rows]


def token_of(link: str) -> str:
    """What stands in a link after ``token=``."""
    return parse_qs(urlsplit(link).query)["token"][0]


async def told(app: Application, user: User) -> list[str]:
    """The kinds of what this user was told, oldest first."""
    rows = await app.services.pool.fetch(
        "select kind from notifications where user_id = $1 order by id", int(user.id)
    )
    return [row["kind"] for row in rows]


async def logged(app: Application, user: User) -> list[str]:
    """What the audit log has of this user, oldest first."""
    rows = await app.services.pool.fetch(
        "select action from audit_log where subject = $1 order by seq", f"customer:{user.id}"
    )
    return [row["action"] for row in rows]


def refused(answer: httpx.Response, code: str, status: int) -> dict[str, Any]:
    """The fields of a refusal with this code."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    fields: dict[str, Any] = answer.json().get("fields", {})
    return fields

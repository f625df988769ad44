"""Links sent by e-mail: they prove an address, and set a new password.

Nobody learns from an answer, or from how long it takes, whether an address is known: a request for
a new password is taken down for every address alike, and looked at afterwards, in the background.
May use Postgres and the password threads.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from domain.durable import Rejection
from domain.identity.rules import (
    ADDRESS_BACK_OFF,
    LINK_BACK_OFF,
    BackOff,
    IdentityCode,
    check_email,
    check_password,
    email_key,
)
from domain.notifications import Kind
from persistence import identity as store
from persistence.database import Connection
from serve_apps.identity.telling import Client, Who, log, send_link, tell, transaction, where
from serve_apps.security import Busy
from serve_apps.services import Services
from serve_apps.sessions import Principal, new_token, token_hash

VERIFY_LASTS: Final = timedelta(days=3)
RESET_LASTS: Final = timedelta(hours=1)
RESETS_MAX: Final = 1_000
"""So many requests are looked at in one round."""


async def send_verification(
    connection: Connection, services: Services, person: Who, name: str, *, change_to: str = ""
) -> None:
    """Send a link that proves the person's address; or another, which then becomes theirs."""
    token, now = new_token(), services.now()
    email = change_to or person.email
    await store.add_token(
        connection,
        token_hash=token_hash(token),
        purpose="change" if change_to else "verify",
        user=person.user,
        email=email,
        now=now,
        expires_at=now + VERIFY_LASTS,
    )
    link = _link(services, "/verify", token)
    kind = Kind.EMAIL_CHANGE if change_to else Kind.EMAIL_VERIFY
    await send_link(connection, person.user, kind, {"name": name}, link, to=email)


async def ask_verification(services: Services, principal: Principal) -> Rejection | None:
    """Send the link for one's own address once more."""
    if principal.verified:
        return None
    wait_s = await store.count_attempt(
        services.pool, [("link", str(principal.user), LINK_BACK_OFF)], services.now()
    )
    if wait_s:
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    person = Who(principal.user, principal.email, principal.session_id)
    async with transaction(services) as connection:
        await send_verification(connection, services, person, principal.name)
    return None


async def known_link(services: Services, token: str, purpose: store.Purpose) -> bool:
    """Whether a link would count now; it is not used up."""
    found = await store.find_token(services.pool, token_hash(token), purpose, services.now())
    return found is not None


async def verify(services: Services, token: str, client: Client) -> Rejection | None:
    """Follow a link that proves an address; another than the present one becomes the user's."""
    digest, now = token_hash(token), services.now()
    try:
        async with transaction(services) as connection:
            found = await store.use_token(connection, digest, "verify", now)
            if found is not None:
                if not await store.mark_verified(connection, found.user, found.email, now):
                    return Rejection(IdentityCode.LINK_INVALID)
                await log(connection, Who(found.user, found.email), client, "email_verified")
            else:
                found = await store.use_token(connection, digest, "change", now)
                if found is None:
                    return Rejection(IdentityCode.LINK_INVALID)
                await _change_email(connection, services, found, client)
    except store.EmailTaken:
        return Rejection(IdentityCode.LINK_INVALID)
    await services.sessions.changed(found.user)
    return None


async def _change_email(
    connection: Connection, services: Services, found: store.TokenRow, client: Client
) -> None:
    row = await store.user_by_id(connection, found.user)
    assert row is not None
    await store.change_email(connection, found.user, found.email, services.now())
    await store.drop_tokens(connection, found.user)  # those sent to the old address among them
    # Whoever reads the old address is told, in case it was not they who did this.
    await tell(
        connection, services, found.user, Kind.EMAIL_CHANGED, client,
        to=row.email, email=masked(found.email),
    )  # fmt: skip
    await log(
        connection, Who(found.user, row.email), client, "email_changed",
        before={"email": row.email}, after={"email": found.email},
    )  # fmt: skip


def masked(email: str) -> str:
    """An address as it may be told to whoever reads another one."""
    local, _, domain = email.partition("@")
    return f"{local[:1]}***@{domain}"


async def ask_reset(services: Services, email: str, client: Client) -> Rejection | None:
    """Somebody wants to set a new password for this address, known or not."""
    refused = await services.gate.admit("password_reset", client.ip, email_key(email))
    if refused is not None:
        return refused
    key = hashlib.sha256(email_key(email).encode("utf-8", "replace")).hexdigest()
    rules: list[tuple[store.FailureKind, str, BackOff]] = [("link", key, LINK_BACK_OFF)]
    if client.ip:
        rules.append(("address", client.ip, ADDRESS_BACK_OFF))
    wait_s = await store.count_attempt(services.pool, rules, services.now())
    if wait_s:
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    checked = check_email(email)
    if checked is None:
        return Rejection(IdentityCode.EMAIL_INVALID, {"field": "email"})
    await store.ask_for_reset(services.pool, checked, client.ip, client.user_agent, services.now())
    services.wake("send_resets")
    return None


async def send_resets(services: Services) -> None:
    """Background job: send a link to those who asked for one and are known."""
    for _ in range(RESETS_MAX):
        async with transaction(services) as connection:
            request = await store.take_reset(connection)
            if request is None:
                return
            row = await store.user_by_email(connection, request.email)
            if row is None:
                continue
            token, now = new_token(), services.now()
            await store.add_token(
                connection,
                token_hash=token_hash(token),
                purpose="reset",
                user=row.id,
                email=row.email,
                now=now,
                expires_at=now + RESET_LASTS,
            )
            values = {"name": row.name, **where(services, Client(request.ip, request.user_agent))}
            link = _link(services, "/reset/new", token)
            await send_link(connection, row.id, Kind.PASSWORD_RESET, values, link, to=row.email)


async def reset(services: Services, token: str, password: str, client: Client) -> Rejection | None:
    """Set a new password by a link. All sessions and tokens end; a second factor stays."""
    digest = token_hash(token)
    found = await store.find_token(services.pool, digest, "reset", services.now())
    row = await store.user_by_id(services.pool, found.user) if found else None
    if found is None or row is None or row.closed_at is not None:
        return Rejection(IdentityCode.LINK_INVALID)
    refused = check_password(password, row.email, row.name)
    if refused is not None:
        return refused
    try:
        hashed = await services.passwords.hash(password)
    except Busy:
        return Rejection(IdentityCode.BUSY)
    now, person = services.now(), Who(row.id, row.email)
    async with transaction(services) as connection:
        if await store.use_token(connection, digest, "reset", now) is None:
            return Rejection(IdentityCode.LINK_INVALID)
        await store.change_password(connection, row.id, hashed, now)
        ended = await store.revoke_sessions(connection, row.id, now)
        await store.drop_tokens(connection, row.id)
        await store.mark_verified(connection, row.id, found.email, now)
        await tell(connection, services, row.id, Kind.PASSWORD_CHANGED, client)
        await log(connection, person, client, "password_reset", after={"sessions": len(ended)})
    await services.sessions.ended(ended)
    return None


def _link(services: Services, path: str, token: str) -> str:
    return f"{services.config.public_url.rstrip('/')}{path}?{urlencode({'token': token})}"

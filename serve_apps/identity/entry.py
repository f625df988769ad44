"""Sign-up, login with one or two factors, and logout.

May use Postgres, the password threads, and the accounts' entities to open a new customer's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog
from starlette.requests import HTTPConnection

from domain.accounts.commands import CustomerView, OpenCustomer
from domain.accounts.numbers import customer_of
from domain.durable import Rejection
from domain.identity.rules import (
    ACCOUNT_BACK_OFF,
    ADDRESS_BACK_OFF,
    BackOff,
    IdentityCode,
    SignUp,
    check_email,
    check_name,
    check_sign_up,
    email_key,
    short_name,
)
from domain.identity.secondfactor import TICKET_FAILURES_MAX, TICKET_S
from domain.notifications import Kind
from persistence import identity as store
from persistence.notifications import notify
from serve_apps.identity.codes import check_code
from serve_apps.identity.links import send_verification
from serve_apps.identity.telling import Client, Who, tell, transaction, who
from serve_apps.identity.telling import log as note
from serve_apps.security import Busy
from serve_apps.services import Services
from serve_apps.sessions import TOKEN_PREFIX, Principal, new_token, token_hash

log = structlog.get_logger("kontor.identity")

USER_MIN: Final = 1_000_000_000
USER_MAX: Final = 9_999_999_999
DRAWS_MAX: Final = 20
SWEEP_AGE: Final = timedelta(seconds=10)
SWEEP_MAX: Final = 100


class LoggedIn(msgspec.Struct, frozen=True):
    """A new session. ``token`` is told once and never stored."""

    user: int
    name: str
    email: str
    token: str
    session_id: int
    expires_at: datetime


def client_of(request: HTTPConnection) -> Client:
    """The client's address, as the application's front has found it, and browser."""
    return Client(
        request.client.host if request.client else "",
        request.headers.get("user-agent", "")[:200],
        "api" if request.url.path.startswith("/api/") else "page",
        request.headers.get("x-request-id", "")[:64],
    )


async def signup(
    services: Services, email: str, name: str, password: str, client: Client, *, api: bool = False
) -> LoggedIn | Rejection:
    """Make a user, open the accounts and log in.

    Signing up again with the same address and password is a retry: it finishes what a crash
    left undone and logs in, and nothing is given twice.
    """
    form = check_sign_up(email, name, password)
    if isinstance(form, Rejection):
        return form
    refused = await services.gate.admit("sign_up", client.ip, email_key(form.email))
    if refused is not None:
        return refused
    try:
        return await _signup(services, form, client, api)
    except Busy:
        return Rejection(IdentityCode.BUSY)


async def _signup(
    services: Services, form: SignUp, client: Client, api: bool
) -> LoggedIn | Rejection:
    if await store.user_by_email(services.pool, form.email) is None:
        password_hash = await services.passwords.hash(form.password)
        try:
            user = await _add_user(services, form, password_hash)
        except store.EmailTaken:
            user = None
        if user is not None:
            await open_customer(services, user)
            row = await store.user_by_id(services.pool, user)
            assert row is not None
            return await _start(services, row, client, api, known=True)
    refused = await _attempt(services, form.email, client)
    if refused is not None:
        return refused
    row = await store.user_by_email(services.pool, form.email)
    stored = row.password_hash if row else None
    if not await services.passwords.verify(stored, form.password) or row is None:
        return Rejection(IdentityCode.EMAIL_TAKEN, {"field": "email"})
    return await _welcome(services, row, client, api)


async def _add_user(services: Services, form: SignUp, password_hash: str) -> int:
    for _ in range(DRAWS_MAX):
        user = USER_MIN + secrets.randbelow(USER_MAX - USER_MIN + 1)
        async with transaction(services) as connection:
            if await store.add_user(
                connection, user=user, email=form.email, name=form.name,
                password_hash=password_hash, now=services.now(),
            ):  # fmt: skip
                values = {"name": form.name}
                await notify(connection, user, Kind.WELCOME, values, key="welcome")
                person = Who(user, form.email)
                await send_verification(connection, services, person, form.name)
                return user
    raise RuntimeError("no free customer number was drawn")


async def login(
    services: Services,
    email: str,
    password: str,
    client: Client,
    *,
    code: str = "",
    api: bool = False,
) -> LoggedIn | Rejection:
    """Check e-mail address and password, and the code if there is a second factor.

    Without a code the refusal ``second_factor_required`` has a ticket for ``complete``. What is
    answered and the time it takes do not tell whether the address is known.
    """
    refused = await services.gate.admit("login", client.ip, email_key(email))
    refused = refused or await _attempt(services, email, client)
    if refused is not None:
        return refused
    known = check_email(email)
    row = await store.user_by_email(services.pool, known) if known else None
    try:
        matches = await services.passwords.verify(row.password_hash if row else None, password)
        if not matches or row is None:
            return Rejection(IdentityCode.CREDENTIALS_INVALID)
        if services.passwords.outdated(row.password_hash):
            renewed = await services.passwords.hash(password)
            await store.replace_password_hash(services.pool, row.id, row.password_hash, renewed)
    except Busy:
        await _take_back(services, email, client)
        return Rejection(IdentityCode.BUSY)
    return await _welcome(services, row, client, api, code)


async def complete(
    services: Services, ticket: str, code: str, client: Client, *, api: bool = False
) -> LoggedIn | Rejection:
    """Complete a login with a code; five wrong ones end it, and it starts with the password."""
    digest = token_hash(ticket)
    found = await store.try_token(
        services.pool, digest, "login", TICKET_FAILURES_MAX, services.now()
    )
    if found is None:
        return Rejection(IdentityCode.TICKET_INVALID)
    refused = await check_code(services, found.user, code, client)
    if refused is not None:
        if refused.code != IdentityCode.CODE_INVALID:
            await store.untry_token(services.pool, digest)
        return refused
    async with transaction(services) as connection:
        used = await store.use_token(connection, digest, "login", services.now())
    row = await store.user_by_id(services.pool, found.user)
    if used is None or row is None or row.closed_at is not None:
        return Rejection(IdentityCode.TICKET_INVALID)
    return await _start(services, row, client, api)


async def check_own_password(
    services: Services, principal: Principal, password: str, client: Client
) -> store.UserRow | Rejection:
    """Check the present password of somebody who is logged in; slowed as at the login."""
    refused = await _attempt(services, principal.email, client)
    if refused is not None:
        return refused
    row = await store.user_by_id(services.pool, principal.user)
    assert row is not None
    try:
        matches = await services.passwords.verify(row.password_hash, password)
    except Busy:
        await _take_back(services, principal.email, client)
        return Rejection(IdentityCode.BUSY)
    if not matches:
        return Rejection(IdentityCode.PASSWORD_WRONG, {"field": "password"})
    await _forgive(services, row.email, client)
    return row


async def renew_session(services: Services, principal: Principal, client: Client) -> LoggedIn:
    """Another session in place of the one in use, in case somebody has a copy of its cookie."""
    row = await store.user_by_id(services.pool, principal.user)
    assert row is not None
    fresh = await _start(services, row, client, principal.kind == "api", known=True)
    await services.sessions.revoke(principal.user, principal.session_id)
    return fresh


async def logout(services: Services, principal: Principal) -> None:
    """End the session that the request came with."""
    await services.sessions.revoke(principal.user, principal.session_id)


async def rename(
    services: Services, principal: Principal, name: str, client: Client
) -> str | Rejection:
    """Give the user another name; answers it as stored."""
    checked = check_name(name)
    if checked is None:
        return Rejection(IdentityCode.NAME_INVALID, {"field": "name"})
    if checked != principal.name:
        async with transaction(services) as connection:
            await store.rename_user(connection, principal.user, checked)
            names = {"name": principal.name}, {"name": checked}
            await note(
                connection, who(principal), client, "renamed", before=names[0], after=names[1]
            )
        await services.sessions.changed(principal.user)
    return checked


async def payee_name(services: Services, account: int) -> str | None:
    """How the owner of an account is shown to others."""
    customer = customer_of(account)
    return (await payee_names(services, [customer])).get(customer)


async def payee_names(services: Services, customers: Collection[int]) -> dict[int, str]:
    """How customers are shown to others: first name and initials."""
    names = await store.user_names(services.pool, customers) if customers else {}
    return {customer: short_name(name) for customer, name in names.items()}


async def open_customer(services: Services, user: int) -> bool:
    """Open the accounts of a user and credit the bonus, once, however often this is called."""
    config = services.config
    digest = hashlib.blake2b(f"open\0{user}".encode(), digest_size=16).digest()
    reply = await services.accounts.call(
        OpenCustomer(
            digest, b"open", user, config.currencies, config.bonus_currency, config.bonus_amount
        )
    )
    if not isinstance(reply, CustomerView):
        log.warning("accounts_not_opened", user=user, reply=repr(reply))
        return False
    services.directory.note({account.id: account.currency for account in reply.accounts})
    await store.mark_opened(services.pool, user, services.now())
    return True


async def finish_openings(services: Services) -> None:
    """Background job: open the accounts of users whose sign-up was cut short."""
    before = services.now() - SWEEP_AGE
    for user in await store.unopened_users(services.pool, before, SWEEP_MAX):
        await open_customer(services, user)


async def purge(services: Services) -> None:
    """Background job: forget what ended long ago."""
    await store.purge(services.pool, services.now())


def _rules(email: str, client: Client) -> list[tuple[store.FailureKind, str, BackOff]]:
    # The key is hashed, so that mistyped passwords in the e-mail field are not stored.
    key = hashlib.sha256(email_key(email).encode("utf-8", "replace")).hexdigest()
    rules: list[tuple[store.FailureKind, str, BackOff]] = [("account", key, ACCOUNT_BACK_OFF)]
    if client.ip:
        rules.append(("address", client.ip, ADDRESS_BACK_OFF))
    return rules


async def _attempt(services: Services, email: str, client: Client) -> Rejection | None:
    wait_s = await store.count_attempt(services.pool, _rules(email, client), services.now())
    if wait_s:
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    return None


async def _take_back(services: Services, email: str, client: Client) -> None:
    for kind, key, _rule in _rules(email, client):
        await store.uncount(services.pool, kind, key)


async def _forgive(services: Services, email: str, client: Client) -> None:
    for kind, key, _rule in _rules(email, client):
        if kind == "account":
            await store.forgive(services.pool, kind, key)
        else:
            await store.uncount(services.pool, kind, key)


async def _welcome(
    services: Services, row: store.UserRow, client: Client, api: bool, code: str = ""
) -> LoggedIn | Rejection:
    """Go on with somebody whose password is right."""
    await _forgive(services, row.email, client)
    if row.opened_at is None:
        await open_customer(services, row.id)
    if row.second_factor:
        if not code:
            return await _ticket(services, row)
        refused = await check_code(services, row.id, code, client)
        if refused is not None:
            return refused
    return await _start(services, row, client, api)


async def _ticket(services: Services, row: store.UserRow) -> Rejection:
    ticket, now = new_token(), services.now()
    async with transaction(services) as connection:
        await store.add_token(
            connection,
            token_hash=token_hash(ticket),
            purpose="login",
            user=row.id,
            email="",
            now=now,
            expires_at=now + timedelta(seconds=TICKET_S),
        )
    fields = {"ticket": ticket, "expires_in": str(TICKET_S)}
    return Rejection(IdentityCode.SECOND_FACTOR_REQUIRED, fields)


async def _start(
    services: Services, row: store.UserRow, client: Client, api: bool, *, known: bool = False
) -> LoggedIn:
    """A new session; the user is told unless this program was seen at this address before."""
    config, now = services.config, services.now()
    token = new_token(TOKEN_PREFIX if api else "")
    lasts = timedelta(seconds=config.token_max_s if api else config.session_max_s)
    session = store.NewSession(
        token_hash=token_hash(token),
        kind="api" if api else "browser",
        user=row.id,
        csrf=secrets.token_urlsafe(32),
        created_at=now,
        expires_at=now + lasts,
        idle_s=config.token_idle_s if api else config.session_idle_s,
        ip=client.ip,
        user_agent=client.user_agent,
    )
    async with transaction(services) as connection:
        if not known:
            known = await store.was_here(connection, row.id, client.ip, client.user_agent)
        number = await store.add_session(connection, session)
        if not known:
            await tell(connection, services, row.id, Kind.LOGIN_NEW_DEVICE, client)
    return LoggedIn(row.id, row.name, row.email, token, number, session.expires_at)

"""What somebody who is logged in changes about their own security.

The password is asked for once more, a code where there is a second factor; the person is told of
each step and the audit log has it. May use Postgres and the password threads.
"""

from __future__ import annotations

import msgspec

from domain.durable import Rejection
from domain.identity.rules import (
    LINK_BACK_OFF,
    IdentityCode,
    check_email,
    check_password,
    email_key,
)
from domain.identity.secondfactor import CODE_BACK_OFF
from domain.notifications import Kind
from persistence import identity as store
from persistence.database import Connection
from serve_apps.confirmation import Intent, Proof, demand
from serve_apps.identity import check_own_password
from serve_apps.identity.codes import (
    Enrolment,
    begin_enrolment,
    matching_step,
    new_recovery_codes,
    recovery_hash,
)
from serve_apps.identity.devices import browser_name
from serve_apps.identity.links import send_verification
from serve_apps.identity.telling import Client, log, tell, transaction, who
from serve_apps.security import Busy
from serve_apps.services import Services
from serve_apps.sessions import Principal


class FactorView(msgspec.Struct, frozen=True):
    """A second factor as its owner sees it; ``pending`` is one that waits for its first code."""

    on: bool
    pending: bool
    since: str
    recovery_left: int


async def change_password(
    services: Services,
    principal: Principal,
    present: str,
    new: str,
    proof: Proof,
    client: Client,
) -> int | Rejection:
    """Set another password; all other sessions and tokens end. Answers how many did."""
    row = await check_own_password(services, principal, present, client)
    if isinstance(row, Rejection):
        return row
    refused = check_password(new, row.email, row.name)
    if refused is not None:
        return Rejection(refused.code, {"field": "new_password"})
    try:
        hashed = await services.passwords.hash(new)
    except Busy:
        return Rejection(IdentityCode.BUSY)
    # Last, since a code that was given counts no more.
    refused = await demand(services, principal, Intent("password_change", {}), proof, client)
    if refused is not None:
        return refused
    now = services.now()
    async with transaction(services) as connection:
        await store.change_password(connection, row.id, hashed, now)
        await store.drop_tokens(connection, row.id)
        ended = await store.revoke_sessions(connection, row.id, now, but=principal.session_id)
        await tell(connection, services, row.id, Kind.PASSWORD_CHANGED, client)
        await log(
            connection, who(principal), client, "password_changed", after={"ended": len(ended)}
        )
    await services.sessions.ended(ended)
    return len(ended)


async def end_session(
    services: Services, principal: Principal, number: int, client: Client
) -> bool:
    """End one session or token; ``False`` when the person has none of this number."""
    if number == principal.session_id:
        return await services.sessions.revoke(principal.user, number)  # which is to log out
    async with transaction(services) as connection:
        ended = await store.revoke_session(connection, principal.user, number, services.now())
        if ended is None:
            return False
        what = browser_name(ended.user_agent) + (", an API token" if ended.kind == "api" else "")
        await _tell_ended(connection, services, principal, client, what=what)
        before = {"session": str(number), "kind": ended.kind, "ip": ended.ip, "device": what}
        await log(connection, who(principal), client, "session_ended", before=before)
    await services.sessions.ended([ended.token_hash])
    return True


async def end_other_sessions(services: Services, principal: Principal, client: Client) -> int:
    """End all sessions and tokens but the one in use; how many did."""
    async with transaction(services) as connection:
        ended = await store.revoke_sessions(
            connection, principal.user, services.now(), but=principal.session_id
        )
        if ended:
            await _tell_ended(connection, services, principal, client, sessions=len(ended))
        after = {"ended": len(ended)}
        await log(connection, who(principal), client, "sessions_ended", after=after)
    await services.sessions.ended(ended)
    return len(ended)


async def _tell_ended(
    connection: Connection,
    services: Services,
    principal: Principal,
    client: Client,
    *,
    sessions: int = 1,
    what: str = "",
) -> None:
    values = {"sessions": str(sessions), "what": what}
    await tell(connection, services, principal.user, Kind.SESSION_ENDED, client, **values)


async def change_email(
    services: Services,
    principal: Principal,
    email: str,
    password: str,
    proof: Proof,
    client: Client,
) -> str | Rejection:
    """Send a link to another address; it becomes the user's when the link is followed.

    Whether somebody else has that address is not told: then no link is sent.
    """
    checked = check_email(email)
    if checked is None:
        return Rejection(IdentityCode.EMAIL_INVALID, {"field": "email"})
    row = await check_own_password(services, principal, password, client)
    if isinstance(row, Rejection):
        return row
    intent = Intent("email_change", {"email": checked})
    refused = await demand(services, principal, intent, proof, client)
    if refused is not None:
        return refused
    wait_s = await store.count_attempt(
        services.pool, [("link", str(principal.user), LINK_BACK_OFF)], services.now()
    )
    if wait_s:
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    owner = await store.user_by_email(services.pool, checked)
    if owner is None or email_key(owner.email) == email_key(principal.email):
        person = who(principal)
        async with transaction(services) as connection:
            await send_verification(connection, services, person, row.name, change_to=checked)
    return checked


async def second_factor(services: Services, principal: Principal) -> FactorView:
    """How things stand with the second factor."""
    row = await store.second_factor(services.pool, principal.user)
    if row is None:
        return FactorView(False, False, "", 0)
    if row.confirmed_at is None:
        return FactorView(False, True, "", 0)
    return FactorView(True, False, row.confirmed_at.isoformat(), row.recovery_left)


async def set_up(
    services: Services, principal: Principal, password: str, client: Client
) -> Enrolment | Rejection:
    """Begin with a second factor: the secret for the device, which counts for nothing yet."""
    row = await check_own_password(services, principal, password, client)
    if isinstance(row, Rejection):
        return row
    return await begin_enrolment(services, row.id, row.email)


async def switch_on(
    services: Services, principal: Principal, code: str, client: Client
) -> list[str] | Rejection:
    """Show that the device has the secret: from now on it counts. Answers recovery codes."""
    user = principal.user
    wait_s = await store.count_attempt(
        services.pool, [("code", str(user), CODE_BACK_OFF)], services.now()
    )
    if wait_s:
        return Rejection(IdentityCode.TOO_MANY_ATTEMPTS, {"retry_after": str(wait_s)})
    factor = await store.second_factor(services.pool, user)
    if factor is None:
        return Rejection(IdentityCode.SECOND_FACTOR_OFF)
    if factor.confirmed_at is not None:
        return Rejection(IdentityCode.SECOND_FACTOR_ON)
    step = matching_step(services, user, factor, code)
    if step is None:
        return Rejection(IdentityCode.CODE_INVALID, {"field": "code"})
    codes = new_recovery_codes()
    async with transaction(services) as connection:
        if not await store.confirm_factor(connection, user, factor.secret, step, services.now()):
            return Rejection(IdentityCode.CODE_INVALID, {"field": "code"})
        await store.replace_recovery_codes(
            connection, user, [recovery_hash(services, user, text) for text in codes]
        )
        await store.forgive(connection, "code", str(user))
        await store.security_changed(connection, user)
        await tell(connection, services, user, Kind.SECOND_FACTOR_ON, client)
        await log(connection, who(principal), client, "second_factor_on")
    await services.sessions.changed(user)
    return codes


async def switch_off(
    services: Services, principal: Principal, password: str, proof: Proof, client: Client
) -> Rejection | None:
    """Do without a second factor from now on."""
    row = await check_own_password(services, principal, password, client)
    if isinstance(row, Rejection):
        return row
    if not row.second_factor:
        return Rejection(IdentityCode.SECOND_FACTOR_OFF)
    refused = await _demand_code(services, principal, "second_factor_off", proof, client)
    if refused is not None:
        return refused
    user = principal.user
    async with transaction(services) as connection:
        await store.drop_factor(connection, user)
        await store.drop_tokens(connection, user)
        await store.security_changed(connection, user)
        await tell(connection, services, user, Kind.SECOND_FACTOR_OFF, client)
        await log(connection, who(principal), client, "second_factor_off")
    await services.sessions.changed(user)
    return None


async def renew_recovery_codes(
    services: Services, principal: Principal, proof: Proof, client: Client
) -> list[str] | Rejection:
    """New recovery codes; the old ones count no more."""
    factor = await store.second_factor(services.pool, principal.user)
    if factor is None or factor.confirmed_at is None:
        return Rejection(IdentityCode.SECOND_FACTOR_OFF)
    refused = await _demand_code(services, principal, "recovery_codes", proof, client)
    if refused is not None:
        return refused
    codes, user = new_recovery_codes(), principal.user
    async with transaction(services) as connection:
        await store.replace_recovery_codes(
            connection, user, [recovery_hash(services, user, text) for text in codes]
        )
        await tell(connection, services, user, Kind.RECOVERY_CODES_RENEWED, client)
        await log(connection, who(principal), client, "recovery_codes_renewed")
    return codes


async def _demand_code(
    services: Services, principal: Principal, kind: str, proof: Proof, client: Client
) -> Rejection | None:
    """As ``demand``, also where the session remembered does not know of the second factor yet."""
    sure = msgspec.structs.replace(principal, second_factor=True)
    return await demand(services, sure, Intent(kind, {}), proof, client)

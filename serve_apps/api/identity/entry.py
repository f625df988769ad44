"""Operations on users, tokens and sessions."""

from __future__ import annotations

from typing import Final

from domain.accounts.commands import CustomerView
from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from persistence import identity as store
from serve_apps import identity
from serve_apps.accounts import overview
from serve_apps.api.bodies import (
    DoneBody,
    ProfileBody,
    SessionBody,
    SessionsBody,
    TokenBody,
    UserBody,
    account_body,
    limit_body,
    moment_text,
)
from serve_apps.api.examples import ACCOUNT, PROFILE, SESSION, TOKEN, USER
from serve_apps.api.forms import CompleteForm, LoginForm, ProfileForm, SignUpForm
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.identity import steps

_SIGN_UP_CODES: Final = (
    IdentityCode.TOO_MANY_ATTEMPTS,
    IdentityCode.BUSY,
    IdentityCode.EMAIL_INVALID,
    IdentityCode.NAME_INVALID,
    IdentityCode.PASSWORD_TOO_SHORT,
    IdentityCode.PASSWORD_TOO_LONG,
    IdentityCode.PASSWORD_TOO_SIMPLE,
    IdentityCode.EMAIL_TAKEN,
)


def _token_body(logged_in: identity.LoggedIn) -> TokenBody:
    return TokenBody(
        logged_in.token,
        moment_text(logged_in.expires_at),
        UserBody(str(logged_in.user), logged_in.email, logged_in.name),
    )


async def sign_up(call: Call) -> Outcome:
    """Make a user; the answer carries a token."""
    form: SignUpForm = call.body
    outcome = await identity.signup(
        call.services, form.email, form.name, form.password, call.client, api=True
    )
    if isinstance(outcome, Rejection):
        return outcome
    location = f"/api/user/{outcome.user}/".encode()
    return Answer(_token_body(outcome), 201, [(b"location", location)])


async def login(call: Call) -> Outcome:
    """Give a token for e-mail address and password."""
    form: LoginForm = call.body
    outcome = await identity.login(
        call.services, form.email, form.password, call.client, code=form.code, api=True
    )
    return outcome if isinstance(outcome, Rejection) else Answer(_token_body(outcome))


async def complete(call: Call) -> Outcome:
    """Give a token for a login's ticket and a code."""
    form: CompleteForm = call.body
    outcome = await identity.complete(call.services, form.ticket, form.code, call.client, api=True)
    return outcome if isinstance(outcome, Rejection) else Answer(_token_body(outcome))


async def logout(call: Call) -> Outcome:
    """Revoke the token that the request came with."""
    await identity.logout(call.services, call.principal)
    return Answer(DoneBody())


async def profile(call: Call) -> Outcome:
    """The user with accounts and limits."""
    view = await overview(call.services, call.user)
    if not isinstance(view, CustomerView):
        return view
    return Answer(
        ProfileBody(
            str(call.user),
            call.principal.email,
            call.principal.name,
            [account_body(account) for account in view.accounts],
            [limit_body(limit) for limit in view.limits],
        )
    )


async def change_profile(call: Call) -> Outcome:
    """Give the user another name."""
    form: ProfileForm = call.body
    name = await identity.rename(call.services, call.principal, form.name, call.client)
    if isinstance(name, Rejection):
        return name
    return Answer(UserBody(str(call.user), call.principal.email, name))


async def sessions(call: Call) -> Outcome:
    """The user's sessions and tokens."""
    services = call.services
    rows = await store.sessions_of(services.pool, call.user, services.now())
    return Answer(
        SessionsBody(
            [
                SessionBody(
                    str(row.id),
                    row.kind,
                    row.id == call.principal.session_id,
                    moment_text(row.created_at),
                    moment_text(row.last_seen_at),
                    moment_text(row.expires_at),
                    row.ip,
                    row.user_agent,
                )
                for row in rows
            ]
        )
    )


async def revoke_session(call: Call) -> Outcome:
    """End one of the user's sessions."""
    number = call.number("session")
    if number is None:
        return Rejection("not_found")
    if not await steps.end_session(call.services, call.principal, number, call.client):
        return Rejection("not_found")
    return Answer(DoneBody())


OPERATIONS: Final = (
    Operation(
        name="sign_up",
        method="POST",
        path="/api/signup/",
        handler=sign_up,
        summary="Sign up",
        description="Opens an account in each currency, credits the welcome bonus and answers"
        " with a token. Repeated with the same address and password it gives nothing twice.",
        tag="Identity",
        access="anyone",
        body=SignUpForm,
        body_example={
            "email": "ann@example.com",
            "name": "Ann Example",
            "password": "correct horse battery",
        },
        status=201,
        answer=TokenBody,
        answer_example=TOKEN,
        codes=(*_SIGN_UP_CODES, IdentityCode.SECOND_FACTOR_REQUIRED),
    ),
    Operation(
        name="login",
        method="POST",
        path="/api/login/",
        handler=login,
        summary="Get a token",
        description="Send it in the header `Authorization: Bearer ...` of every other request."
        " With a second factor, send its `code` along; or without one, take `ticket` from the"
        " fields of `second_factor_required` to `/api/login/code/` within five minutes.",
        tag="Identity",
        access="anyone",
        body=LoginForm,
        body_example={"email": "ann@example.com", "password": "correct horse battery"},
        answer=TokenBody,
        answer_example=TOKEN,
        codes=(
            IdentityCode.TOO_MANY_ATTEMPTS,
            IdentityCode.BUSY,
            IdentityCode.CREDENTIALS_INVALID,
            IdentityCode.SECOND_FACTOR_REQUIRED,
            IdentityCode.CODE_INVALID,
            IdentityCode.CODE_USED,
        ),
    ),
    Operation(
        name="complete_login",
        method="POST",
        path="/api/login/code/",
        handler=complete,
        summary="Complete a login with a second factor",
        description="After five wrong codes the login starts again with the password.",
        tag="Identity",
        access="anyone",
        body=CompleteForm,
        body_example={"ticket": "pQ4mB1xk", "code": "492039"},
        answer=TokenBody,
        answer_example=TOKEN,
        codes=(
            IdentityCode.TOO_MANY_ATTEMPTS,
            IdentityCode.TICKET_INVALID,
            IdentityCode.CODE_INVALID,
            IdentityCode.CODE_USED,
        ),
    ),
    Operation(
        name="logout",
        method="POST",
        path="/api/logout/",
        handler=logout,
        summary="Revoke the token in use",
        tag="Identity",
        access="user",
        answer=DoneBody,
        answer_example={"done": True},
    ),
    Operation(
        name="profile",
        method="GET",
        path="/api/user/{user}/",
        handler=profile,
        summary="Profile and accounts",
        tag="Identity",
        answer=ProfileBody,
        answer_example={**PROFILE, "accounts": [ACCOUNT]},
    ),
    Operation(
        name="change_profile",
        method="PATCH",
        path="/api/user/{user}/",
        handler=change_profile,
        summary="Change the name",
        tag="Identity",
        body=ProfileForm,
        body_example={"name": "Ann B. Example"},
        answer=UserBody,
        answer_example=USER,
        codes=(IdentityCode.NAME_INVALID,),
    ),
    Operation(
        name="sessions",
        method="GET",
        path="/api/user/{user}/session/",
        handler=sessions,
        summary="Sessions and tokens",
        tag="Identity",
        answer=SessionsBody,
        answer_example={"sessions": [SESSION]},
    ),
    Operation(
        name="revoke_session",
        method="DELETE",
        path="/api/user/{user}/session/{session}/",
        handler=revoke_session,
        summary="End a session or revoke a token",
        tag="Identity",
        answer=DoneBody,
        answer_example={"done": True},
    ),
)

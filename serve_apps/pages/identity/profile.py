"""Pages on which people look after their own security, and by which they leave."""

from __future__ import annotations

from typing import Any, Final

import segno
from starlette.responses import Response, StreamingResponse

from domain.durable import Rejection, Unavailable
from domain.identity.rules import IdentityCode
from persistence import identity as store
from serve_apps import identity
from serve_apps.confirmation import Proof
from serve_apps.identity import client_of, leaving, steps
from serve_apps.identity.codes import Enrolment, open_enrolment
from serve_apps.pages.identity.entry import leave, told
from serve_apps.pages.visit import Refused, Visit
from serve_apps.paths import read_number
from serve_apps.problems import explain, sentence, status_of

_FIELD_OF: Final[dict[str, str]] = {
    IdentityCode.PASSWORD_WRONG: "password",
    IdentityCode.PASSWORD_TOO_SHORT: "new_password",
    IdentityCode.PASSWORD_TOO_LONG: "new_password",
    IdentityCode.PASSWORD_TOO_SIMPLE: "new_password",
    IdentityCode.EMAIL_INVALID: "email",
    IdentityCode.CODE_INVALID: "code",
    IdentityCode.CODE_USED: "code",
}
"""Beside which field a refusal is shown; what is not here is shown above the form."""


def _proof(form: dict[str, str]) -> Proof:
    return Proof(form.get("code", ""))


async def profile(visit: Visit) -> Response:
    """Name, address, password, second factor, open sessions, API tokens."""
    return await _profile_page(visit, 200, "", "")


async def rename(visit: Visit) -> Response:
    """Change one's name."""
    name = (await visit.form()).get("name", "")
    result = await identity.rename(visit.services, visit.owner, name, client_of(visit.request))
    if isinstance(result, Rejection):
        return await _profile_page(visit, status_of(result.code), name, sentence(result.code))
    return visit.go(f"{visit.home}profile", notice="renamed")


async def revoke(visit: Visit) -> Response:
    """End one of one's sessions."""
    number = read_number((await visit.form()).get("session", ""))
    if number is None:
        raise Refused(422)
    if number == visit.owner.session_id:
        return await leave(visit)
    client = client_of(visit.request)
    if not await steps.end_session(visit.services, visit.owner, number, client):
        raise Refused(404)
    return visit.go(f"{visit.home}profile", notice="revoked")


async def revoke_others(visit: Visit) -> Response:
    """End all sessions and tokens but this one."""
    await visit.form()
    await steps.end_other_sessions(visit.services, visit.owner, client_of(visit.request))
    return visit.go(f"{visit.home}profile", notice="others-ended")


async def _profile_page(visit: Visit, status: int, name: str, error: str) -> Response:
    principal = visit.owner
    sessions = await store.sessions_of(visit.services.pool, visit.user, visit.services.now())
    return visit.page(
        "identity/profile.html",
        status,
        name=name or principal.name,
        error=error,
        factor=await steps.second_factor(visit.services, principal),
        browsers=[row for row in sessions if row.kind == "browser"],
        tokens=[row for row in sessions if row.kind == "api"],
    )


async def password_form(visit: Visit) -> Response:
    """The form for another password."""
    return _page(visit, "password")


async def password(visit: Visit) -> Response:
    """Change the password; all other sessions end."""
    form = await visit.form()
    ended = await steps.change_password(
        visit.services,
        visit.owner,
        form.get("password", ""),
        form.get("new_password", ""),
        _proof(form),
        client_of(visit.request),
    )
    if isinstance(ended, Rejection):
        return _page(visit, "password", ended)
    fresh = await identity.renew_session(visit.services, visit.owner, client_of(visit.request))
    response = visit.go(f"{visit.home}profile", notice="password-changed")
    visit.services.security.set_session(response, fresh.token)
    return response


async def email_form(visit: Visit) -> Response:
    """The form for another address."""
    return _page(visit, "email", email="", sent="")


async def email(visit: Visit) -> Response:
    """Send a link to another address."""
    form = await visit.form()
    sent = await steps.change_email(
        visit.services,
        visit.owner,
        form.get("email", ""),
        form.get("password", ""),
        _proof(form),
        client_of(visit.request),
    )
    if isinstance(sent, Rejection):
        return _page(visit, "email", sent, email=form.get("email", ""), sent="")
    return _page(visit, "email", email="", sent=sent)


async def verification(visit: Visit) -> Response:
    """Send the link once more that proves one's address."""
    await visit.form()
    refused = await identity.ask_verification(visit.services, visit.owner)
    if refused is not None:
        return visit.error(429, explain(refused), refused.fields.get("retry_after", ""))
    return visit.go(f"{visit.home}profile", notice="link-sent")


async def factor_form(visit: Visit) -> Response:
    """How things stand with the second factor, and what can be done."""
    return await _factor_page(visit)


async def set_up(visit: Visit) -> Response:
    """Begin with a second factor."""
    form = await visit.form()
    made = await steps.set_up(
        visit.services, visit.owner, form.get("password", ""), client_of(visit.request)
    )
    return await _factor_page(visit, made if isinstance(made, Rejection) else None)


async def switch_on(visit: Visit) -> Response:
    """Take it into use."""
    form = await visit.form()
    codes = await steps.switch_on(
        visit.services, visit.owner, form.get("code", ""), client_of(visit.request)
    )
    if isinstance(codes, Rejection):
        return await _factor_page(visit, codes)
    return visit.page("identity/recovery.html", codes=codes, fresh=True)


async def switch_off(visit: Visit) -> Response:
    """Do without."""
    form = await visit.form()
    refused = await steps.switch_off(
        visit.services,
        visit.owner,
        form.get("password", ""),
        _required(form),
        client_of(visit.request),
    )
    if refused is not None:
        return await _factor_page(visit, refused)
    return visit.go(f"{visit.home}profile", notice="second-factor-off")


async def renew(visit: Visit) -> Response:
    """New recovery codes."""
    form = await visit.form()
    codes = await steps.renew_recovery_codes(
        visit.services, visit.owner, _required(form), client_of(visit.request)
    )
    if isinstance(codes, Rejection):
        return await _factor_page(visit, codes, "renew")
    return visit.page("identity/recovery.html", codes=codes, fresh=False)


async def export(visit: Visit) -> Response:
    """Everything that is held about the person, as a file."""
    await visit.form()
    file = await leaving.export(visit.services, visit.owner, client_of(visit.request))
    return StreamingResponse(
        leaving.pieces(file),
        media_type="application/json",
        headers={
            "content-disposition": f'attachment; filename="kontor-{visit.user}.json"',
            "cache-control": "no-store",
        },
    )


async def close_form(visit: Visit) -> Response:
    """What leaving means, and the form for it."""
    return _page(visit, "close")


async def close(visit: Visit) -> Response:
    """Leave for good."""
    form = await visit.form()
    refused = await leaving.close(
        visit.services,
        visit.owner,
        form.get("password", ""),
        _proof(form),
        client_of(visit.request),
    )
    if isinstance(refused, Unavailable):
        raise Refused(503)
    if refused is not None:
        return _page(visit, "close", refused)
    response = visit.go("/", notice="left")
    visit.services.security.clear_session(response)
    return response


def _required(form: dict[str, str]) -> Proof:
    """A code that was left out is a wrong one; no confirmation is begun for it."""
    return Proof(form.get("code", "") or "-")


def _page(visit: Visit, name: str, refused: Rejection | None = None, **values: Any) -> Response:
    errors = _errors(refused)
    status = status_of(refused.code) if refused else 200
    page = visit.page(f"identity/{name}.html", status, errors=errors, **values)
    return told(page, refused) if refused else page


def _errors(refused: Rejection | None) -> dict[str, str]:
    if refused is None:
        return {}
    if refused.code == IdentityCode.CONFIRMATION_REQUIRED:
        return {"code": "Give a code of your second factor."}
    return {_FIELD_OF.get(refused.code, ""): explain(refused)}


async def _factor_page(visit: Visit, refused: Rejection | None = None, asked: str = "") -> Response:
    principal = visit.owner
    view = await steps.second_factor(visit.services, principal)
    begun: Enrolment | None = None
    if view.pending:
        begun = await open_enrolment(visit.services, principal.user, principal.email)
    return _page(
        visit,
        "factor",
        refused,
        factor=view,
        begun=begun,
        picture=_picture(begun.uri) if begun else "",
        asked=asked,
    )


def _picture(uri: str) -> str:
    """The QR code as the address of an image; dark on white also where the page is dark."""
    made: str = segno.make(uri, error="m", micro=False).svg_data_uri(
        scale=5, border=4, dark="#000", light="#fff"
    )
    return made

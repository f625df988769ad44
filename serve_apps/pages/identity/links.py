"""Pages for links that came by e-mail: an address is proved, a new password set.

Opening a link changes nothing (programs that look through mail open links, too): a button does.
"""

from __future__ import annotations

from starlette.responses import Response

from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from serve_apps import identity
from serve_apps.identity import client_of
from serve_apps.identity.links import known_link
from serve_apps.pages.identity.entry import told
from serve_apps.pages.visit import Visit
from serve_apps.problems import explain, status_of


async def forgot_form(visit: Visit) -> Response:
    """Ask for a link to set a new password."""
    return visit.page("identity/forgot.html", email=visit.query.get("email", ""), error="")


async def forgot(visit: Visit) -> Response:
    """The same answer for every address."""
    email = (await visit.form()).get("email", "")
    refused = await identity.ask_reset(visit.services, email, client_of(visit.request))
    if refused is None:
        return visit.page("identity/sent.html", email=email)
    page = visit.page(
        "identity/forgot.html", status_of(refused.code), email=email, error=explain(refused)
    )
    return told(page, refused)


async def reset_form(visit: Visit) -> Response:
    """The form that a link leads to."""
    token = visit.query.get("token", "")
    if not await known_link(visit.services, token, "reset"):
        return _no_link(visit)
    return _reset_page(visit, token)


async def reset(visit: Visit) -> Response:
    """Set a new password; one logs in with it afterwards."""
    form = await visit.form()
    token = form.get("token", "")
    refused = await identity.reset(
        visit.services, token, form.get("new_password", ""), client_of(visit.request)
    )
    if refused is None:
        response = visit.go("/login", notice="password-set")
        visit.services.security.clear_session(response)
        return response
    if refused.code == IdentityCode.LINK_INVALID:
        return _no_link(visit)
    return _reset_page(visit, token, refused)


async def verify_form(visit: Visit) -> Response:
    """A button that proves the address."""
    token = visit.query.get("token", "")
    services = visit.services
    if await known_link(services, token, "verify") or await known_link(services, token, "change"):
        return visit.page("identity/verify.html", token=token)
    return _no_link(visit)


async def verify(visit: Visit) -> Response:
    """Prove the address."""
    token = (await visit.form()).get("token", "")
    if await identity.verify(visit.services, token, client_of(visit.request)) is not None:
        return _no_link(visit)
    path = "/login" if visit.principal is None else visit.home
    return visit.go(path, notice="verified")


def _reset_page(visit: Visit, token: str, refused: Rejection | None = None) -> Response:
    return visit.page(
        "identity/reset.html",
        status_of(refused.code) if refused else 200,
        token=token,
        error=explain(refused),
    )


def _no_link(visit: Visit) -> Response:
    return visit.page("identity/no_link.html", status_of(IdentityCode.LINK_INVALID))

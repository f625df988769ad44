"""Pages by which people come in and go: the front page, sign-up, login, logout."""

from __future__ import annotations

import urllib.parse
from typing import Final

from starlette.responses import Response

from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from domain.money import CURRENCIES, format_amount
from serve_apps import identity
from serve_apps.identity import LoggedIn, client_of
from serve_apps.pages.visit import Visit
from serve_apps.problems import explain, status_of

_FIELDS: Final = ("email", "name", "password")


async def front(visit: Visit) -> Response:
    """What Kontor is, for visitors; members go home."""
    if visit.principal is not None:
        return visit.go(visit.home)
    policy = visit.services.config.policy
    prices = []
    for code in visit.services.config.currencies:
        fee = policy.fees.get(code)
        limit = policy.daily_limits.get(code)
        prices.append(
            {
                "currency": CURRENCIES[code],
                "percent": _percent(fee.basis_points) if fee else "0",
                "minimum": format_amount(fee.minimum, code) if fee else None,
                "limit": limit,
            }
        )
    config = visit.services.config
    return visit.page(
        "identity/front.html",
        prices=prices,
        spread=_percent(config.rates.spread_basis_points),
        quote_s=config.quote_s,
        bonus=format_amount(config.bonus_amount, config.bonus_currency),
        bonus_currency=config.bonus_currency,
    )


def _percent(basis_points: int) -> str:
    return f"{basis_points // 100}.{basis_points % 100:02d}".rstrip("0").rstrip(".")


async def login_form(visit: Visit) -> Response:
    """The login."""
    if visit.principal is not None:
        return visit.go(visit.home)
    return _login_page(visit, {"next": visit.query.get("next", "")})


async def login(visit: Visit) -> Response:
    """Log in, and go on to where one wanted to."""
    form = await visit.form()
    client = client_of(visit.request)
    result = await identity.login(
        visit.services, form.get("email", ""), form.get("password", ""), client
    )
    if isinstance(result, Rejection):
        return told(_login_page(visit, form, result), result)
    return _enter(visit, result, _own_path(form.get("next", ""), result.user))


async def code_form(visit: Visit) -> Response:
    """A login begins with the password."""
    return visit.go("/login")


async def code(visit: Visit) -> Response:
    """Complete a login with a code of the second factor."""
    form = await visit.form()
    client = client_of(visit.request)
    ticket = form.get("ticket", "")
    result = await identity.complete(visit.services, ticket, form.get("code", ""), client)
    if isinstance(result, LoggedIn):
        return _enter(visit, result, _own_path(form.get("next", ""), result.user))
    if result.code == IdentityCode.TICKET_INVALID:
        return _login_page(visit, form, result)
    return told(_code_page(visit, ticket, form, result), result)


async def signup_form(visit: Visit) -> Response:
    """The sign-up."""
    if visit.principal is not None:
        return visit.go(visit.home)
    return _signup_page(visit, {})


async def signup(visit: Visit) -> Response:
    """Make a customer with accounts, and log in."""
    form = await visit.form()
    client = client_of(visit.request)
    result = await identity.signup(
        visit.services,
        form.get("email", ""),
        form.get("name", ""),
        form.get("password", ""),
        client,
    )
    if isinstance(result, Rejection):
        if result.code == IdentityCode.SECOND_FACTOR_REQUIRED:
            return _code_page(visit, result.fields["ticket"], form)
        return told(_signup_page(visit, form, result), result)
    return _enter(visit, result, f"/user/{result.user}/?notice=welcome")


async def logout_form(visit: Visit) -> Response:
    """Log out when the customer asked for it on one of our pages, else show a button to do it.

    A link elsewhere cannot log anybody out: the browser says where a request comes from.
    """
    if visit.principal is None:
        return visit.go("/")
    if visit.request.headers.get("sec-fetch-site") == "same-origin":
        return await leave(visit)
    return visit.page("identity/logout.html")


async def logout(visit: Visit) -> Response:
    """Log out."""
    if visit.principal is None:
        return visit.go("/")
    await visit.form()
    return await leave(visit)


def _code_page(
    visit: Visit, ticket: str, form: dict[str, str], refused: Rejection | None = None
) -> Response:
    return visit.page(
        "identity/code.html",
        status_of(refused.code) if refused else 200,
        ticket=ticket,
        next=form.get("next", ""),
        error=explain(refused),
    )


def _login_page(visit: Visit, form: dict[str, str], refused: Rejection | None = None) -> Response:
    if refused is not None and refused.code == IdentityCode.SECOND_FACTOR_REQUIRED:
        return _code_page(visit, refused.fields["ticket"], form)
    return visit.page(
        "identity/login.html",
        status_of(refused.code) if refused else 200,
        email=form.get("email", ""),
        next=form.get("next", ""),
        error=explain(refused),
    )


def _signup_page(visit: Visit, form: dict[str, str], refused: Rejection | None = None) -> Response:
    config = visit.services.config
    field = refused.fields.get("field", "") if refused else ""
    return visit.page(
        "identity/signup.html",
        status_of(refused.code) if refused else 200,
        email=form.get("email", ""),
        name=form.get("name", ""),
        errors={field: explain(refused)} if field in _FIELDS else {},
        error="" if field in _FIELDS else explain(refused),
        currencies=config.currencies,
        bonus=format_amount(config.bonus_amount, config.bonus_currency),
        bonus_currency=config.bonus_currency,
    )


def told(response: Response, refused: Rejection) -> Response:
    """The page of a refusal, with when to try again where that is known."""
    if "retry_after" in refused.fields:
        response.headers["retry-after"] = refused.fields["retry_after"]
    return response


def _enter(visit: Visit, result: LoggedIn, path: str) -> Response:
    response = visit.go(path)
    visit.services.security.set_session(response, result.token)
    return response


async def leave(visit: Visit) -> Response:
    """End the session in use."""
    assert visit.principal is not None
    await identity.logout(visit.services, visit.principal)
    response = visit.go("/", notice="logged-out")
    visit.services.security.clear_session(response)
    return response


def _own_path(wanted: str, user: int) -> str:
    """Where to go after login: the page that was asked for if it is the customer's own.

    Or one that depends on a role, which is checked there.
    """
    home = f"/user/{user}/"
    try:
        parts = urllib.parse.urlsplit(wanted)
    except ValueError:
        return home
    known = parts.path.startswith((home, "/operations/", "/office/", "/trade/", "/markets"))
    if not known or ".." in parts.path or "\\" in parts.path:
        return home
    return urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))

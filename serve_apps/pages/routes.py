"""Which page answers which address."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from domain.identity.permissions import Permission
from serve_apps.pages import notifications, operations
from serve_apps.pages.accounts import history, home, transfer
from serve_apps.pages.backoffice.routes import routes as office_routes
from serve_apps.pages.exchange.routes import routes as exchange_routes
from serve_apps.pages.identity import entry, links, profile
from serve_apps.pages.mail.routes import routes as mail_routes
from serve_apps.pages.visit import Page, Pages
from serve_apps.services import Services


class Assets(StaticFiles):
    """Built style sheets and scripts; an address with a version may be kept for ever."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = b"v=" in scope.get("query_string", b"")
        response.headers["cache-control"] = (
            "public, max-age=31536000, immutable" if kept else "public, max-age=300"
        )
        return response


async def _favicon(request: Request) -> Response:
    """Browsers ask for this where a page names no icon."""
    return RedirectResponse("/static/images/logo.svg", 308)


class _Doors:
    """Routes of pages by who may see them; a page that takes a form has a second one."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def anyone(self, path: str, get: Page, post: Page | None = None) -> list[BaseRoute]:
        """For everybody."""
        found: list[BaseRoute] = [Route(path, self._pages.open(get), methods=["GET"])]
        if post is not None:
            found.append(Route(path, self._pages.open(post), methods=["POST"]))
        return found

    def member(self, path: str, get: Page | None, post: Page | None = None) -> list[BaseRoute]:
        """For the customer whose number is in the path."""
        found: list[BaseRoute] = []
        if get is not None:
            found.append(Route("/user/{user}/" + path, self._pages.member(get), methods=["GET"]))
        if post is not None:
            found.append(Route("/user/{user}/" + path, self._pages.member(post), methods=["POST"]))
        return found

    def operator(self, path: str, get: Page) -> list[BaseRoute]:
        """For those who may see how the platform runs."""
        guarded = self._pages.permitted(Permission.OPERATIONS_SEE, get)
        return [Route("/operations/" + path, guarded, methods=["GET"])]


def routes(services: Services) -> list[BaseRoute]:
    """Every page, and the static files if they are built."""
    pages = Pages(services)
    doors = _Doors(pages)
    anyone, member, operator = doors.anyone, doors.member, doors.operator
    result = [
        *anyone("/", entry.front),
        *anyone("/login", entry.login_form, entry.login),
        *anyone("/login/code", entry.code_form, entry.code),
        *anyone("/signup", entry.signup_form, entry.signup),
        *anyone("/logout", entry.logout_form, entry.logout),
        *anyone("/reset", links.forgot_form, links.forgot),
        *anyone("/reset/new", links.reset_form, links.reset),
        *anyone("/verify", links.verify_form, links.verify),
        *member("", home.home),
        *member("fragments/overview", home.overview_fragment),
        *member("account/", home.open_form, home.open_account),
        *member("account/{account}/", home.account),
        *member("account/{account}/close", None, home.close_account),
        *member("profile", profile.profile, profile.rename),
        *member("profile/revoke", None, profile.revoke),
        *member("profile/revoke-others", None, profile.revoke_others),
        *member("profile/password", profile.password_form, profile.password),
        *member("profile/email", profile.email_form, profile.email),
        *member("profile/verification", None, profile.verification),
        *member("profile/second-factor", profile.factor_form, profile.set_up),
        *member("profile/second-factor/on", None, profile.switch_on),
        *member("profile/second-factor/off", None, profile.switch_off),
        *member("profile/second-factor/recovery", None, profile.renew),
        *member("profile/export", None, profile.export),
        *member("profile/close", profile.close_form, profile.close),
        *member("transaction/", history.history, transfer.send),
        *member("transaction/new", transfer.new),
        *member("transaction/review", None, transfer.review),
        *member("transaction/edit", None, transfer.edit),
        *member("fragments/quote", None, transfer.quote_fragment),
        *member("transaction/export.csv", history.export),
        *member("transaction/{transfer}/", history.detail),
        *member("notifications/", notifications.show),
        *member("notifications/read", None, notifications.read),
        *member("notifications/preferences", notifications.preferences, notifications.choose),
        *exchange_routes(pages),
        *mail_routes(pages, services),
        *office_routes(pages),
        *operator("", operations.show),
        *operator("fragments/overview", operations.fragment),
        Route(
            "/operations/canary",
            pages.permitted(Permission.CANARY_RUN, operations.canary),
            methods=["POST"],
        ),
    ]
    if services.config.static_dir:
        result.append(Route("/favicon.ico", _favicon, methods=["GET"]))
        result.append(Mount("/static", Assets(directory=services.config.static_dir)))
    return result

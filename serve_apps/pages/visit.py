"""One request for a page: who makes it, what its form says, and how it is answered.

Holds what every page must get right: the login, the form token, headers, and that a customer's
pages are for that customer alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import jinja2
import structlog
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from domain.accounts.numbers import parse_customer
from domain.durable import Rejection
from domain.identity.permissions import Permission
from persistence.audit import Actor
from persistence.database import OUTAGES
from serve_apps.notifications import bell
from serve_apps.pages.rendering import NOTICES, make_environment, render
from serve_apps.permissions import permits
from serve_apps.problems import sentence
from serve_apps.services import Services
from serve_apps.sessions import Principal
from serve_apps.staff import Staff, actor_of, staff_of

log = structlog.get_logger("kontor.pages")

FORM_FIELDS_MAX: Final = 50
FORM_VALUE_MAX: Final = 4_096
AS_TYPED: Final = ("password", "new_password")
THEMES: Final = ("kontor", "kontor-dark")
TITLES: Final = {
    400: "This cannot be read",
    403: "This form has expired",
    404: "There is nothing here",
    405: "That is not possible here",
    413: "That is too much at once",
    422: "Something needs another look",
    429: "Too many attempts",
    500: "Something went wrong on our side",
    503: "Kontor is not available for the moment",
}
ADVICE: Final = {
    400: "The address or the form is not one that Kontor has made.",
    403: "Nothing was changed. Go back, load the page again and send the form once more.",
    404: "The address may be mistyped, or the page is not yours to see.",
    405: "The page exists, but it does not take this kind of request.",
    413: "Send less in one request.",
    422: "Go back and check what you entered.",
    429: "Wait a little, then try again.",
    500: "Nothing is lost: what was confirmed is stored. Try again, or look at your history first.",
    503: "Your money is safe and nothing is lost. Try again in a moment.",
}


class Refused(Exception):
    """The request ends here, with an error page of this status."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or TITLES[status])
        self.status = status
        self.message = message


class Visit:
    """A request with everything that a page's handler needs."""

    def __init__(
        self,
        services: Services,
        environment: jinja2.Environment,
        request: Request,
        principal: Principal | None,
    ) -> None:
        self.services = services
        self.request = request
        self.principal = principal
        self.bell: tuple[int, str] = (0, "")
        self._environment = environment

    @property
    def user(self) -> int:
        """The customer whose page it is; only where a login was required."""
        assert self.principal is not None
        return self.principal.user

    @property
    def owner(self) -> Principal:
        """Whoever asks, with their session; only where a login was required."""
        assert self.principal is not None
        return self.principal

    @property
    def home(self) -> str:
        """The address of the customer's home page."""
        return f"/user/{self.user}/"

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the URL."""
        return self.request.query_params

    @property
    def by_htmx(self) -> bool:
        """Whether htmx asks, which shows a part of the answer in the page that is open."""
        return self.request.headers.get("hx-request") == "true"

    @property
    def actor(self) -> Actor:
        """Whoever asks, as the audit log names them; only where a login was required."""
        assert self.principal is not None
        return actor_of(self.principal, self.request)

    def staff(self, form: Mapping[str, str]) -> Staff:
        """Whoever asks, with the code that the form has; one that was left out is a wrong one."""
        return staff_of(self.owner, self.request, form.get("code", "") or "-")

    def may(self, permission: str) -> bool:
        """Whether whoever asks may do this; templates name it by its value."""
        return permits(self.principal, Permission(permission))

    async def form(self) -> dict[str, str]:
        """The form's texts, trimmed. Raises ``Refused`` unless one of our own pages sent it."""
        async with self.request.form(max_files=0, max_fields=FORM_FIELDS_MAX) as data:
            fields = {
                name: value if name in AS_TYPED else value.strip()
                for name, value in data.items()
                if isinstance(value, str)
            }
        if any(len(value) > FORM_VALUE_MAX for value in fields.values()):
            raise Refused(413)
        security = self.services.security
        if not security.form_valid(self.request, self.principal, fields.get("csrf")):
            raise Refused(403)
        return fields

    def page(self, template: str, http_status: int = 200, **values: Any) -> Response:
        """Answer with a page."""
        token = self.services.security.form_token(self.request, self.principal)
        theme = self.request.cookies.get("theme", "")
        content = render(
            self._environment,
            template,
            {
                "principal": self.principal,
                "may": self.may,
                "staff_factor": self.services.config.staff_factor,
                "home_url": self.home if self.principal else "/",
                "csrf": token.value,
                "bell": self.bell,
                "theme": theme if theme in THEMES else "",
                "path": self.request.url.path,
                "here": _here(self.request),
                "notice": NOTICES.get(self.query.get("notice", ""), ""),
                **values,
            },
        )
        response = HTMLResponse(content, http_status)
        response.headers["cache-control"] = "no-store"
        token.attach(response)
        return response

    def go(self, path: str, **query: str) -> Response:
        """Send the browser to another of our pages."""
        url = f"{path}?{urlencode(query)}" if query else path
        if self.by_htmx:
            return Response(status_code=200, headers={"HX-Redirect": url})
        return RedirectResponse(url, 303)

    def to_login(self) -> Response:
        """Send the browser to the login, and afterwards back."""
        url = self.request.url
        back = url.path + (f"?{url.query}" if url.query else "")
        if self.request.method != "GET" or "/fragments/" in url.path:
            return self.go("/login")
        return self.go("/login?next=" + quote(back, safe=""))

    def error(self, status: int, message: str = "", retry_after: str = "") -> Response:
        """Answer with an error page; inside a page that htmx works on, a whole new one."""
        response = self.page(
            "error.html",
            status,
            status=status,
            title=TITLES.get(status, TITLES[500]),
            advice=message or ADVICE.get(status, ADVICE[500]),
        )
        if retry_after or status == 503:
            response.headers["retry-after"] = retry_after or "5"
        if self.by_htmx:
            response.headers["HX-Retarget"] = "#main"
            response.headers["HX-Reselect"] = "#main"
            response.headers["HX-Reswap"] = "outerHTML"
        return response


def _here(request: Request) -> str:
    """The address of the page without what is said only once."""
    once = ("notice", "done")
    query = [
        (name, value) for name, value in request.query_params.multi_items() if name not in once
    ]
    return f"{request.url.path}?{urlencode(query)}" if query else request.url.path


Page = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]
Access = Literal["anyone", "user", "owner"]


class Door:
    """A page and who may see it: the endpoint of a route is its ``enter``."""

    def __init__(
        self, pages: Pages, page: Page, access: Access, permission: Permission = Permission.OWN
    ) -> None:
        self._pages = pages
        self._page = page
        self.access = access
        self.permission = permission

    async def enter(self, request: Request) -> Response:
        """Answer a request."""
        return await self._pages.answer(request, self._guarded)

    async def _guarded(self, visit: Visit) -> Response:
        principal = visit.principal
        if self.access != "anyone":
            if principal is None:
                return visit.to_login()
            if not permits(principal, self.permission):
                raise Refused(404)
            if self.access == "owner":
                owner = parse_customer(visit.request.path_params["user"])
                if owner != principal.user:
                    raise Refused(404)
        return await self._page(visit)


class Pages:
    """Makes endpoints of pages."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._environment = make_environment(services.config.static_dir)

    async def visit(self, request: Request) -> Visit:
        """The request with whoever makes it."""
        principal = await self._services.security.current(request)
        visit = Visit(self._services, self._environment, request, principal)
        if principal is not None and "/fragments/" not in request.url.path:
            visit.bell = await bell(self._services, principal.user)
        return visit

    def anonymous_visit(self, request: Request) -> Visit:
        """The request without looking up who makes it, for when that may be what failed."""
        return Visit(self._services, self._environment, request, None)

    def open(self, page: Page) -> Endpoint:
        """An endpoint for everybody."""
        return Door(self, page, "anyone").enter

    def member(self, page: Page) -> Endpoint:
        """An endpoint for the customer whose number is in the path; for others it is not there."""
        return Door(self, page, "owner").enter

    def permitted(self, permission: Permission, page: Page) -> Endpoint:
        """An endpoint for those who may do this; for others it is not there."""
        return Door(self, page, "user", permission).enter

    def _charge(self, visit: Visit) -> Rejection | None:
        gate, principal, client = self._services.gate, visit.principal, visit.request.client
        visit.request.scope["kontor.user"] = principal.user if principal else 0
        if principal is None:
            return gate.charge_address(client.host if client else "", 1).refused
        return gate.charge_member(principal.session_id, principal.user, 1).refused

    async def answer(self, request: Request, page: Page) -> Response:
        """Answer with a page, or say why it is none."""
        visit = self.anonymous_visit(request)
        try:
            visit = await self.visit(request)
            refused = self._charge(visit)
            if refused is not None:
                return visit.error(429, sentence(refused.code), refused.fields["retry_after"])
            return await page(visit)
        except Refused as refused:
            return visit.error(refused.status, refused.message)
        except OUTAGES as error:
            log.warning("page_not_available", path=request.url.path, error=repr(error))
            return visit.error(503)

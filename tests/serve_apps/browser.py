"""A browser without a screen: follows redirects, keeps cookies, fills in the forms of pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from types import TracebackType

import httpx

from serve_apps.application import Application
from tests.serve_apps.inprocess import PASSWORD, http_client


class _Forms(HTMLParser):
    """Collects the fields of each form by the form's action."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self._current: dict[str, str] | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._current = self.forms.setdefault(given.get("action", ""), {})
        elif self._current is None:
            return
        elif tag == "input" and "name" in given:
            if given.get("type") != "radio" or "checked" in given:
                self._current[given["name"]] = given.get("value", "")
        elif tag == "select":
            self._select = given.get("name", "")
        elif (
            tag == "option"
            and self._select
            and ("selected" in given or self._select not in self._current)
        ):
            self._current[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._current = None
        elif tag == "select":
            self._select = ""


class Browser:
    """One person's browser."""

    def __init__(self, app: Application) -> None:
        self.http: httpx.AsyncClient = http_client(
            app, follow_redirects=True, headers={"sec-fetch-site": "same-origin"}
        )
        self.page: httpx.Response
        self.home = ""
        self.accounts: dict[str, str] = {}

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.aclose()

    @property
    def text(self) -> str:
        """The open page as people read it: without tags, with single spaces."""
        return " ".join(re.sub(r"<[^>]*>", " ", self.page.text).split())

    async def go(self, path: str, **headers: str) -> httpx.Response:
        """Open a page; a path without a slash in front is one of the user's own."""
        url = path if path.startswith("/") else self.home + path
        self.page = await self.http.get(url, headers=headers)
        return self.page

    def fields(self, action: str) -> dict[str, str]:
        """What the open page's form with this action would send."""
        forms = _Forms()
        forms.feed(self.page.text)
        assert action in forms.forms, f"no form for {action} among {list(forms.forms)}"
        return dict(forms.forms[action])

    async def submit(self, action: str, **changes: str) -> httpx.Response:
        """Fill in the open page's form with this action and send it."""
        fields = {**self.fields(action), **changes}
        return await self.post(action, fields)

    async def post(self, action: str, fields: dict[str, str], **headers: str) -> httpx.Response:
        """Send fields as a form."""
        self.page = await self.http.post(action, data=fields, headers=headers)
        return self.page

    async def sign_up(self, name: str) -> None:
        """Become a customer; ends on the home page."""
        await self.go("/signup")
        email = f"{name.split()[0].lower()}@example.com"
        await self.submit("/signup", name=name, email=email, password=PASSWORD)
        assert self.page.status_code == 200, self.page.text
        self.home = self.page.url.path
        cards = re.findall(r'data-account="([0-9]{14})" data-currency="([A-Z]{3})"', self.page.text)
        self.accounts = {currency: account for account, currency in cards}

    async def send(self, to: str, amount: str, reference: str = "") -> str:
        """A transfer from the USD account; its id."""
        await self.go("transaction/new")
        review = self.home + "transaction/review"
        await self.submit(review, to=to, amount=amount, reference=reference)
        assert self.page.status_code == 200, self.text
        await self.submit(self.home + "transaction/")
        assert self.page.status_code == 200, self.text
        return self.page.url.path.rstrip("/").rpartition("/")[2]

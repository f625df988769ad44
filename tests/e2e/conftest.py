"""Fixtures of the browser tests: a Chromium, a platform, and customers who have signed up.

``KONTOR_E2E_URL`` names a platform that already runs; without it one is started on a port and in
a folder of its own. ``KONTOR_E2E_SCREENSHOTS`` names a folder for the README's pictures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from cluster.demo_market import MARKET, QUOTE
from cluster.processes import wait_until
from tests.cluster.running import Running
from tests.e2e.customer import Customer, sign_up

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 15_000


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium."""
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.fail(
            "The browser tests need Chromium or Chrome, and there is none on the PATH "
            f"(looked for {', '.join(CHROMIUMS)}). On Debian: apt-get install chromium.",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform of the tests' own."""
    started = Running(tmp_path_factory.mktemp("e2e") / "var", demo=True)
    started.start()
    market = f"http://localhost:{started.port}/trade/{MARKET[-1].base}{QUOTE}"
    assert wait_until(
        lambda: httpx.get(market, timeout=5).status_code == 200, timeout_s=60, pause_s=0.2
    ), "the demo's market does not open"
    yield started
    started.stop()


@pytest.fixture(scope="package")
def platform(request: pytest.FixtureRequest) -> str:
    """The address of a running platform."""
    given = os.environ.get("KONTOR_E2E_URL")
    if given:
        return given.rstrip("/")
    running: Running = request.getfixturevalue("running")
    return f"http://localhost:{running.port}"


OpenBrowser = Callable[..., BrowserContext]


@pytest.fixture
def open_browser(browser: Browser, platform: str) -> Iterator[OpenBrowser]:
    """Opens a browser of its own for somebody: ``open_browser(width=390, dark=True)``."""
    opened: list[BrowserContext] = []

    def make(
        *, width: int = 1280, height: int = 860, dark: bool = False, javascript: bool = True
    ) -> BrowserContext:
        context = browser.new_context(
            base_url=platform,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            java_script_enabled=javascript,
        )
        context.set_default_timeout(TIMEOUT_MS)
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


MakeCustomer = Callable[..., Customer]


@pytest.fixture
def make_customer(open_browser: OpenBrowser) -> MakeCustomer:
    """Signs somebody up in a browser of their own: ``make_customer("Ann Baker", width=390)``."""

    def make(name: str, **options: int) -> Customer:
        return sign_up(open_browser(**options).new_page(), name)

    return make


@pytest.fixture
def screenshots() -> Path | None:
    """Where to put pictures, if they are wanted."""
    folder = os.environ.get("KONTOR_E2E_SCREENSHOTS")
    if not folder:
        return None
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path

"""How a page looks: nothing spills, axe finds nothing, in which sizes and colours; pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

WIDTHS: Final = ((1280, 860), (390, 844))
SCREENS: Final = ((*WIDTHS[0], False), (*WIDTHS[1], True))
"""Width, height, dark or not: each page is made for all four, and these two differ the most."""

_AXE: Final = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_TOO_WIDE: Final = """
[...document.querySelectorAll("body *")]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .slice(0, 4).map(e => e.outerHTML.slice(0, 120))
"""


@cache
def _axe() -> str:
    return _AXE.read_text(encoding="utf-8")


def check(page: Page) -> None:
    """Nothing is wider than the window, and axe has nothing to say."""
    overflow = 1
    for _ in range(30):  # it may still be at the layout of another width
        overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if overflow <= 0:
            break
        page.wait_for_timeout(100)
    assert overflow <= 0, f"{page.url} is {overflow} px too wide: {page.evaluate(_TOO_WIDE)}"
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    found = [
        f"{violation['id']}: {node['html'][:120]} {node['failureSummary']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]
    assert not found, f"{page.url}\n" + "\n".join(found)


def show(page: Page, width: int, height: int, *, dark: bool) -> None:
    """Turn the open page into one of this size and colour."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="dark" if dark else "light")


def seen(page: Page) -> None:
    """The open page is right on a wide light screen and on a narrow dark one."""
    for width, height, dark in reversed(SCREENS):
        show(page, width, height, dark=dark)
        check(page)


def picture(page: Page, folder: Path | None, name: str, width: int, *, dark: bool) -> None:
    """A picture for the README, if wanted."""
    if folder is not None:
        page.screenshot(path=folder / f"{name}-{width}-{'dark' if dark else 'light'}.png")

"""From a kind and its values to words: a line for the application, and an e-mail in two forms.

One template for each kind and language, in ``templates/<language>``, says everything once. How a
paragraph or a button looks in HTML and in plain text is said in ``templates/html`` and
``templates/text``; ``templates/brief`` takes what is said in few words. What a language lacks is
said in English, and so is a kind that this version does not know. May read the templates that come
with the package, nothing else.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import jinja2
import msgspec

TEMPLATES: Final = Path(__file__).parent / "templates"
ENGLISH: Final = "en"
TEXT_WIDTH: Final = 76
_UNKNOWN: Final = "unknown"
_BETWEEN: Final = "\x1f"
_NO_BREAK: Final = "\u00a0"
_MINUS: Final = "\u2212"
_LANGUAGE: Final = re.compile(r"[a-z]{2}")
_KIND: Final = re.compile(r"[a-z_]{1,40}")
_SPACES: Final = re.compile(r"[ \t\r\n]+")
_BLANK_LINES: Final = re.compile(r"\n\s*\n+")

Form = Literal["brief", "html", "text"]

_FOLDERS: Final[Mapping[Form, tuple[str, ...]]] = {
    "brief": ("brief", "text"),
    "html": ("html",),
    "text": ("text",),
}


class Rendered(msgspec.Struct, frozen=True):
    """A notification in words.

    ``title`` and ``line`` are what the application shows; ``path`` leads to what it is about, below
    the person's own pages, and is empty where there is nothing to see. ``subject``, ``text`` and
    ``html`` make an e-mail.
    """

    title: str
    line: str
    path: str
    subject: str
    text: str
    html: str


class Brief(msgspec.Struct, frozen=True):
    """The same for the application alone."""

    title: str
    line: str
    path: str


def render(
    kind: str,
    values: Mapping[str, str],
    language: str = ENGLISH,
    *,
    secret: Mapping[str, str] | None = None,
    public_url: str = "",
    user: int = 0,
) -> Rendered:
    """Everything that is said of a notification.

    ``secret`` are the values that only an e-mail may carry; ``public_url`` and ``user`` make its
    links complete. Raises ``jinja2.UndefinedError`` when a value that the words need is missing.
    """
    words, subject = _words(kind, values, language)
    home = f"{public_url}/user/{user}/" if user else f"{public_url}/"
    given = {
        **values,
        **(secret or {}),
        "subject": subject,
        "language": language,
        "home": home,
        "about": home + words.path,
        "settings": f"{home}notifications/preferences" if user else "",
    }
    html, text = (_template(form, kind, language).render(given) for form in ("html", "text"))
    text = _BLANK_LINES.sub("\n\n", text).strip() + "\n"
    return Rendered(words.title, words.line, words.path, subject, text, html)


def brief(kind: str, values: Mapping[str, str], language: str = ENGLISH) -> Brief:
    """Title, line and path of a notification, as text."""
    return _words(kind, values, language)[0]


def _words(kind: str, values: Mapping[str, str], language: str) -> tuple[Brief, str]:
    """What the application shows, and the subject of the e-mail; each is one line."""
    text = _template("brief", kind, language).render({**values, "between": _BETWEEN})
    title, line, path, subject = (_SPACES.sub(" ", part).strip() for part in text.split(_BETWEEN))
    return Brief(title, line, path), subject


def languages() -> list[str]:
    """The languages that have templates."""
    return sorted(path.name for path in TEMPLATES.iterdir() if _LANGUAGE.fullmatch(path.name))


@functools.cache
def _template(form: Form, kind: str, language: str) -> jinja2.Template:
    names = [f"{ENGLISH}/{_UNKNOWN}.jinja"]
    if _KIND.fullmatch(kind):
        names.insert(0, f"{ENGLISH}/{kind}.jinja")
        if _LANGUAGE.fullmatch(language):
            names.insert(0, f"{language}/{kind}.jinja")
    return _environment(form).select_template(names)


@functools.cache
def _environment(form: Form) -> jinja2.Environment:
    """Templates as they look in one form; an error for every name that is not there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*(TEMPLATES / of for of in _FOLDERS[form]), TEMPLATES]),
        autoescape=form == "html",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(digits=_digits, money=_money, fill=_fill)
    return environment


def _digits(account: str) -> str:
    """An account number in groups of four."""
    return _NO_BREAK.join(account[start : start + 4] for start in range(0, len(account), 4))


def _money(amount: str) -> str:
    """A decimal amount with its thousands apart and a real minus."""
    sign = _MINUS if amount.startswith("-") else ""
    whole, dot, fraction = amount.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}{dot}{fraction}" if whole.isdigit() else amount


def _fill(text: str) -> str:
    """A paragraph of plain text, broken into lines; addresses are left whole."""
    return textwrap.fill(
        _SPACES.sub(" ", text).strip(), TEXT_WIDTH, break_long_words=False, break_on_hyphens=False
    )

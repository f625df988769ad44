"""Notifications in words: every kind in every language, safe in HTML, whole in plain text."""

from __future__ import annotations

from html.parser import HTMLParser

import jinja2
import pytest

from actors.notifications import rendering
from actors.notifications.rendering import TEMPLATES, brief, languages, render
from domain.notifications import KINDS, Kind

HOME = "https://kontor.example"
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """What a mail program makes of HTML: text, links, and whether tags are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("language", languages())
def test_every_kind_is_said(kind: Kind, language: str) -> None:
    rule = KINDS[kind]
    rendered = render(
        kind, rule.example, language, secret=rule.secret, public_url=HOME, user=1_000_000_001
    )
    page = Page(rendered.html)
    assert page.open == []
    for text in (rendered.title, rendered.line, rendered.subject):
        assert text
        assert "\n" not in text
        assert len(text) <= 160
    assert rendered.title in rendered.text
    for link in page.links:
        assert link.startswith(HOME)
        assert link in rendered.text
    assert all(link in page.links for link in rule.secret.values())
    assert max(map(len, rendered.text.splitlines())) <= 120
    assert "{{" not in rendered.html + rendered.text
    assert (TEMPLATES / "en" / f"{kind}.jinja").exists()


@pytest.mark.parametrize("kind", [kind for kind in Kind if KINDS[kind].secret])
def test_the_application_never_says_a_secret(kind: Kind) -> None:
    rule = KINDS[kind]
    said = brief(kind, rule.example)
    assert not any(secret in f"{said}" for secret in rule.secret.values())
    with pytest.raises(jinja2.UndefinedError, match="link"):
        render(kind, rule.example)


@pytest.mark.parametrize("kind", Kind)
def test_values_are_text_and_never_markup(kind: Kind) -> None:
    rule = KINDS[kind]
    bad = "<b onclick=x>'\"&\n\r\nBcc: all@example.com"
    values = dict.fromkeys(rule.example, bad)
    rendered = render(kind, values, secret=rule.secret, public_url=HOME, user=1)
    assert "<b " not in rendered.html
    assert Page(rendered.html).open == []
    assert "\n" not in rendered.subject
    assert "\r" not in rendered.subject


def test_amounts_and_account_numbers_are_for_people() -> None:
    values = {**KINDS[Kind.ADJUSTMENT_POSTED].example, "amount": "-1234567.80"}
    rendered = render(Kind.ADJUSTMENT_POSTED, values)
    assert rendered.title == "Your balance was corrected by \u22121,234,567.80 USD"
    assert rendered.line.startswith("1000\u00a00000\u00a00101\u00a016:")


def test_a_language_that_lacks_a_kind_says_it_in_english(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("templates")
    for path in TEMPLATES.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "de").mkdir()
    (folder / "de" / "welcome.jinja").write_text(
        '{% extends "en/welcome.jinja" %}{% block title %}Willkommen{% endblock %}'
    )
    monkeypatch.setattr(rendering, "TEMPLATES", folder)
    rendering._template.cache_clear()
    rendering._environment.cache_clear()
    try:
        assert languages() == ["de", "en"]
        assert brief(Kind.WELCOME, {"name": "Ann"}, "de").title == "Willkommen"
        changed = KINDS[Kind.PASSWORD_CHANGED].example
        assert brief(Kind.PASSWORD_CHANGED, changed, "de").title == "Your password was changed"
        assert 'lang="de"' in render(Kind.WELCOME, {"name": "Ann"}, "de").html
    finally:
        rendering._template.cache_clear()
        rendering._environment.cache_clear()


@pytest.mark.parametrize("kind", ["from_the_future", "../../secrets", ""])
def test_a_kind_that_is_not_known_is_said_all_the_same(kind: str) -> None:
    assert brief(kind, {"anything": "x"}).title == "Something happened in your account"

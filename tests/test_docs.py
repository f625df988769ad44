"""The documentation is held against the code: links, commands, settings, codes, metrics, routes.

Whether a sentence is true a test cannot tell; whether what it names exists, it can.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from actors.durable import metrics
from cluster.cli.main import app
from cluster.errors import Exit
from cluster.settings import Limits, variables
from domain.accounts.codes import Code
from serve_apps.api.routes import OPERATIONS
from serve_apps.exchange import table as exchange
from serve_apps.problems import STATUS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FOLDERS = (
    "actors",
    "benchmarks",
    "cluster",
    "docs",
    "domain",
    "persistence",
    "serve_apps",
    "tests",
)
LINK = re.compile(
    r"(?<!!)!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|source)\b[^>]*\bsrc(?:set)?=\"([^\"]+)\""
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"\$\w+|\{\w+\}")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(name))


def code(name: str) -> Iterator[str]:
    """What a page shows as code: spans, with line breaks taken out, and lines of shell blocks."""
    yield from (" ".join(span.split()) for span in SPAN.findall(prose(name)))
    for language, block in FENCE.findall(text_of(name)):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                yield line.partition("#")[0].strip()


def anchors(name: str) -> set[str]:
    """What a page's headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def rows(name: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = text_of(name).partition(f"\n## {heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None, f"{name} has no table below {heading}"
    lines = table.group(0).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    lost = []
    for groups in LINK.findall(text_of(name)):
        target, _, anchor = next(filter(None, groups)).partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = ((ROOT / name).parent / target).resolve() if target else ROOT / name
        if not path.exists() or not path.is_relative_to(ROOT):
            lost.append(target)
        elif anchor and anchor not in anchors(path.relative_to(ROOT).as_posix()):
            lost.append(f"{target}#{anchor}")
    assert lost == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in reached or not name.endswith(".md") or not (ROOT / name).exists():
            continue
        reached.add(name)
        for groups in LINK.findall(text_of(name)):
            target = next(filter(None, groups)).partition("#")[0]
            if target and "://" not in target:
                path = ((ROOT / name).parent / target).resolve()
                waiting.append(path.relative_to(ROOT).as_posix())
    assert set(NAMES) - reached == set()


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    path = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*")
    missing = [
        span
        for span in code(name)
        if path.fullmatch(span)
        and not (ROOT / span).exists()
        and not span.startswith("docs/images")
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_names_beside_a_file_are_in_it(name: str) -> None:
    """`` `thing` in `domain/file.py` `` and `` `thing` (`domain/file.py`) `` are true."""
    named = re.compile(r"((?:`\w[\w.]*`(?:, | and )?)+)\s+(?:in\s+|\()`([\w/]+\.py)`")
    wrong = []
    for things, path in named.findall(prose(name)):
        if (ROOT / path).exists():
            content = text_of(path)
            wrong += [
                f"{thing} in {path}"
                for thing in re.findall(r"`([\w.]+)`", things)
                if not re.search(rf"\b{thing.rpartition('.')[2]}\b", content)
            ]
    assert wrong == []


def command(words: list[str]) -> str | None:
    """What is wrong with a ``kontor`` command line, if anything."""
    found: Any = typer.main.get_command(app)
    for word in words:
        if word.startswith("--"):
            option = word.partition("=")[0]
            known = {name for param in found.params for name in param.opts + param.secondary_opts}
            if option not in {*known, "--help"}:
                return f"{found.name} has no {option}"
        elif hasattr(found, "commands"):
            inner = found.commands.get(word)
            if inner is None:
                return f"{found.name} has no {word}"
            found = inner
    return None


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name: str) -> None:
    wrong = []
    for line in code(name):
        match = re.match(r"(?:KONTOR_\w+=\S+ )*(?:\S*/)?kontor((?: [\w:./-]+)*)$", line)
        if match:
            found = command(match.group(1).split())
            if found:
                wrong.append(f"{line}: {found}")
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_goals_of_make_exist(name: str) -> None:
    goals = set(re.findall(r"^([a-z0-9]+):", text_of("Makefile"), re.MULTILINE))
    called = [
        match for line in code(name) for match in re.findall(r"\bmake ([a-z][a-z0-9-]*)", line)
    ]
    assert [goal for goal in called if goal not in goals] == []


@pytest.mark.parametrize("name", NAMES)
def test_variables_exist(name: str) -> None:
    named = set(re.findall(r"\bKONTOR_[A-Z0-9_]+\b", text_of(name)))
    assert named - set(variables()) == set()


def test_the_table_of_settings_is_whole_and_true() -> None:
    table = {row[0].strip("`"): row[1] for row in rows("docs/operations/running.md", "Settings")}
    defaults = variables()
    assert sorted(table) == sorted(defaults)
    wrong = []
    for name, shown in table.items():
        default = defaults[name]
        if isinstance(default, dict):
            texts = re.findall(r"[0-9.]+[0-9]", repr(default))
            fits = all(text in shown for text in texts)
        elif isinstance(default, Limits):  # each has a row on the page of the gateway
            page = text_of("docs/operations/gateway.md")
            fits = all(f"`{text}`" in page for text in default.model_dump().values())
        else:
            fits = shown == ("" if default in (None, "") else f"`{default}`")
        if not fits:
            wrong.append(f"{name}: {shown!r}, but the default is {default!r}")
    assert wrong == []


def test_the_table_of_exit_codes_is_whole() -> None:
    table = rows("docs/operations/failures.md", "Exit codes")
    named = {row[1].strip("`"): int(row[0]) for row in table if row[1]}
    assert named == {code.name: code.value for code in Exit}


def test_the_table_of_metrics_is_whole() -> None:
    source = inspect.getsource(metrics)
    counters = re.search(r"_COUNTERS.*?\{(.*?)\}", source, re.DOTALL)
    gauges = re.search(r"_GAUGES.*?\{(.*?)\}", source, re.DOTALL)
    assert counters is not None
    assert gauges is not None
    expected = {"up"}
    expected |= {f"{name}_total" for name in re.findall(r'"(\w+)":', counters.group(1))}
    expected |= set(re.findall(r'"(\w+)":', gauges.group(1)))
    table = {row[0].strip("`") for row in rows("docs/operations/observing.md", "Metrics")}
    assert table == {f"ray_kontor_partition_{name}" for name in expected}


@pytest.mark.parametrize("name", NAMES)
def test_routes_of_the_api_exist(name: str) -> None:
    known = {PLACEHOLDER.sub("*", operation.path) for operation in OPERATIONS}
    known |= {"/api/docs", "/api/openapi.json", "/api/v3/"}
    methods = {(item.method, PLACEHOLDER.sub("*", item.path)) for item in OPERATIONS}
    methods |= {(item.method, item.path) for item in exchange.OPERATIONS}
    known |= {item.path for item in exchange.OPERATIONS}
    wrong = []
    for match in re.finditer(r"(?:\b([A-Z]+) )?(?<!serve_apps)(/api/[\w$/{}.-]*)", text_of(name)):
        path = PLACEHOLDER.sub("*", match.group(2)).rstrip(".")
        if path not in known or (match.group(1) and (match.group(1), path) not in methods):
            wrong.append(match.group(0))
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_codes_of_refusals_exist(name: str) -> None:
    codes = {*map(str, Code), *STATUS}
    refusals = re.compile(
        r"`(\w+)`, HTTP|503 `(\w+)`|answers `([a-z]\w+)`|^- `(\w+)`:", re.MULTILINE
    )
    named = {word for match in refusals.findall(text_of(name)) for word in match if word}
    assert named - codes == set()


def test_every_decision_is_listed_and_numbered() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text_of("docs/decisions/README.md"))
    assert listed == files
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    for name in files:
        content = (folder / name).read_text(encoding="utf-8")
        assert content.startswith(f"# {name[:4]}: "), name
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**What else was "):
            assert part in content, f"{name} has no {part}"

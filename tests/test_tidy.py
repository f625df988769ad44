"""The house rules that a tool can hold: lengths, banned constructs, docstrings, tests' folders.

What ruff, mypy and import-linter check already is left to them (``make check``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("actors", "benchmarks", "cluster", "domain", "persistence", "serve_apps")
# About five hundred and about sixty: a whole that would lose by a cut may go a little past it.
MODULE_LINES_MAX = 520
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100
# `make help` output and tables aside, only the command line speaks to people.
MAY_PRINT = ("cluster/cli/", "benchmarks/")
MONEY = ("domain/", "persistence/", "actors/")
CLOCKS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today"}
BUSINESS = re.compile(
    r"\b(bank|currenc(y|ies)|customers?|deposits?|money|orders? books?|pa(y|ys|id|yer|yments?)|"
    r"prices?|trad(e|es|er|ing)|transfer(s|red)?)\b",
    re.IGNORECASE,
)
MARKS = re.compile(r"\b(TODO|FIXME)\b(?!.*docs/decisions/)")

Sources = dict[str, ast.Module]


def files(*folders: str, suffix: str = ".py") -> Iterator[Path]:
    """Files with ``suffix`` below ``folders`` that are in version control or will be."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if not {"__pycache__", "static", "node_modules"} & set(path.parts):
                yield path


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def sources() -> Sources:
    """Every module of the packages, parsed."""
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in files(*PACKAGES)}


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What is called, as written (``datetime.now``), and where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_modules_are_short() -> None:
    long = [
        f"{name_of(path)}: {count} lines"
        for path in files(*PACKAGES, "tests")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES_MAX
    ]
    assert long == []


def test_functions_are_short(sources: Sources) -> None:
    long = [
        f"{name}:{node.lineno} {node.name}: {length} lines"
        for name, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_say_why_they_exist(sources: Sources) -> None:
    assert [name for name, tree in sources.items() if not ast.get_docstring(tree)] == []


def test_public_classes_and_functions_have_docstrings(sources: Sources) -> None:
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in sources.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_only_the_command_line_prints(sources: Sources) -> None:
    prints = [
        f"{name}:{line}"
        for name, tree in sources.items()
        if not name.startswith(MAY_PRINT)
        for called, line in calls(tree)
        if called == "print"
    ]
    assert prints == []


def test_the_domain_has_no_clock_and_no_chance(sources: Sources) -> None:
    impure = [
        f"{name}:{line} {called}"
        for name, tree in sources.items()
        if name.startswith("domain/")
        for called, line in calls(tree)
        if called in CLOCKS or called.startswith(("random.", "secrets.", "uuid."))
    ]
    assert impure == []


def test_exceptions_are_not_swallowed(sources: Sources) -> None:
    swallowed = [
        f"{name}:{node.lineno}"
        for name, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and all(isinstance(step, ast.Pass) for step in node.body)
    ]
    suppressed = [
        f"{name}:{line}"
        for name, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("suppress")
        and any(ast.unparse(argument) in {"Exception", "BaseException"} for argument in node.args)
        for line in [node.lineno]
    ]
    assert swallowed + suppressed == []


def test_money_is_never_a_float(sources: Sources) -> None:
    """No ``float`` beside an amount, a balance, a rate or a fee, in names or in annotations."""
    money = re.compile(r"amount|balance|fee|rate|price|credit|debit|posting", re.IGNORECASE)
    seconds = re.compile(r"(_s|_ms|_seconds|_per_s)$")
    found = []
    for name, tree in sources.items():
        if not name.startswith(MONEY):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
                target = ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else node.arg
                is_float = re.search(r"\bfloat\b", ast.unparse(node.annotation))
                if is_float and money.search(target) and not seconds.search(target):
                    found.append(f"{name}:{node.lineno} {target}")
        if name.startswith("domain/"):
            found += [f"{name}:{line} float()" for called, line in calls(tree) if called == "float"]
            found += [
                f"{name}:{number.lineno} {number.value}"
                for number in ast.walk(tree)
                if isinstance(number, ast.Constant) and isinstance(number.value, float)
            ]
            found += [
                f"{name}:{division.lineno} true division"
                for division in ast.walk(tree)
                if isinstance(division, ast.BinOp) and isinstance(division.op, ast.Div)
            ]
    assert found == []


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Modules that are imported anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno


def test_the_layers_import_downwards_only(sources: Sources) -> None:
    """Beside import-linter, which holds the same rule: no package imports the tests either."""
    order = ["domain", "persistence", "actors", "serve_apps"]
    upward = []
    for name, tree in sources.items():
        layer = name.partition("/")[0]
        above = {"tests"}
        if layer in order:
            above |= {*order[order.index(layer) + 1 :], "cluster", "benchmarks"}
        upward += [
            f"{name}:{line} {module}"
            for module, line in imported(tree)
            if module.partition(".")[0] in above
        ]
    assert upward == []


def test_the_durable_runtime_does_not_know_what_its_entities_are_about() -> None:
    pages = [*files("actors/durable"), ROOT / "docs/concepts/durable-runtime.md"]
    knowing = {
        name_of(page): word.group()
        for page in pages
        if (word := BUSINESS.search(page.read_text(encoding="utf-8")))
    }
    assert knowing == {}
    assert len(pages) > 20


def test_nothing_is_left_to_do() -> None:
    """A mark of unfinished work names the decision that allows it."""
    marks = [
        f"{name_of(path)}:{number}"
        for suffix in (".py", ".js", ".html", ".sql", ".css")
        for path in files(*PACKAGES, "tests", suffix=suffix)
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MARKS.search(line)
    ]
    assert marks == []


def test_no_test_is_switched_off() -> None:
    off = re.compile(r"pytest\.mark\.(skip|xfail)\b|raise NotImplementedError")
    found = [
        f"{name_of(path)}:{number}"
        for path in files(*PACKAGES, "tests")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if off.search(line)
    ]
    assert found == []


def test_lines_fit_the_screen() -> None:
    """Where ruff does not look: SQL and our own scripts."""
    long = [
        f"{name_of(path)}:{number}"
        for suffix in (".sql", ".js")
        for path in files(*PACKAGES, suffix=suffix)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > LINE_LENGTH_MAX
    ]
    assert long == []


def test_every_folder_is_a_package() -> None:
    bare = {
        name_of(path.parent)
        for path in files(*PACKAGES, "tests")
        if not (path.parent / "__init__.py").exists()
    }
    assert bare == set()

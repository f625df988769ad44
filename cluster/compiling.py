"""Compiles the matching engine with mypyc, where a C compiler is there.

The modules of ``domain/trading`` that make up the engine are copied into a package of their own,
``kontor_engine``, compiled, and put beside the other packages of the environment. The copy carries
a hash of its source: ``domain/trading/engine.py`` takes it only while it is the source that is
there. Nothing but speed depends on it.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from domain.trading import engine

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

modules = {modules!r}
setup(
    name="{package}",
    packages=["{package}"],
    ext_modules=mypycify(
        ["--ignore-missing-imports", *modules], opt_level="3", group_name="{package}"
    ),
)
"""


def compile_engine(tell: Callable[[str], None], into: Path | None = None) -> bool:
    """Compile into the folder ``into`` (that of installed packages); whether it could be done."""
    place = into or Path(sysconfig.get_path("platlib"))
    if importlib.util.find_spec("mypyc") is None:
        tell("mypyc is not installed: the engine runs in its plain form")
        return False
    with tempfile.TemporaryDirectory(prefix="kontor-engine-") as folder:
        root = Path(folder)
        _copy(root)
        command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            tell(f"not compiled, the engine runs in its plain form: {lines[-1]}")
            return False
        _install(root, place)
    tell("compiled")
    return True


def compiled_source() -> str:
    """The hash of the source of the compiled engine that is installed; empty if none is."""
    try:
        return str(importlib.import_module(engine.PACKAGE).SOURCE)
    except ImportError:
        return ""


def _copy(root: Path) -> None:
    """The engine as a package of its own, ready to be compiled, in ``root``."""
    package = root / engine.PACKAGE
    package.mkdir()
    modules = []
    for name in engine.MODULES:
        source = engine.INSTEAD.get(name, name)
        text = (Path(engine.__file__).parent / f"{source}.py").read_text(encoding="utf-8")
        for other in engine.MODULES:
            text = text.replace(f"domain.trading.{other} ", f"{engine.PACKAGE}.{other} ")
        path = package / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        modules.append(str(path.relative_to(root)))
    init = f'"""The compiled matching engine."""\n\nSOURCE = "{engine.source_hash()}"\n'
    (package / "__init__.py").write_text(init, encoding="utf-8")
    setup = _SETUP.format(modules=modules, package=engine.PACKAGE)
    (root / "setup.py").write_text(setup, encoding="utf-8")


def _install(root: Path, place: Path) -> None:
    """Replace what is installed; a process that runs keeps what it has loaded."""
    for path in place.glob(f"{engine.PACKAGE}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in root.glob(f"{engine.PACKAGE}*"):
        if path.is_dir():
            shutil.copytree(path, place / path.name, ignore=_plain)
        else:
            shutil.copy2(path, place / path.name)


def _plain(_folder: str, names: list[str]) -> list[str]:
    """The modules themselves: without them a form that does not fit is none, not a slow one."""
    return [name for name in names if name.endswith(".py") and name != "__init__.py"]

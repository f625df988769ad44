"""Bugs on purpose: a function with one fragment of its source replaced.

A test counts once it was seen to fail against code broken on purpose. A mutation whose fragment
is not in the source any more fails loudly, so that it is kept up with the code.
"""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest


class Mutation(NamedTuple):
    """``old`` is replaced by ``new`` in the source of attribute ``name`` of ``owner``."""

    title: str
    owner: Any
    name: str
    old: str
    new: str

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Break the code until the patch is undone."""
        original = inspect.getattr_static(self.owner, self.name)
        function: Any = original.fget if isinstance(original, property) else original
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, f"{self.title}: the source has changed\n{source}"
        module = sys.modules[function.__module__]
        code = compile(
            source.replace(self.old, self.new),
            module.__file__ or "",
            "exec",
            flags=__future__.annotations.compiler_flag,
        )
        names: dict[str, Any] = {}
        exec(code, module.__dict__, names)
        patch.setattr(self.owner, self.name, names[self.name])


def found_by(checks: Iterable[tuple[str, Callable[[], object]]]) -> str | None:
    """The name of the first check that fails."""
    for name, check in checks:
        try:
            check()
        except (Exception, pytest.fail.Exception):
            return name
    return None

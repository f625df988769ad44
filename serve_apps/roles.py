"""What a role permits: asked here by pages and API alike, and nowhere else.

A user without the role gets the same answer as for what belongs to somebody else: it is not there.
"""

from __future__ import annotations

from typing import Final

from serve_apps.sessions import Principal

OPERATOR: Final = "operator"
"""Sees how the platform runs."""

ADMINISTRATOR: Final = "administrator"
"""Lists instruments, halts, resumes and delists them."""


def holds(principal: Principal | None, role: str) -> bool:
    """Whether somebody who makes a request holds a role."""
    return principal is not None and role in principal.roles

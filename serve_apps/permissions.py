"""Whether somebody may do something: asked here by pages, REST and websockets, and nowhere else.

To those who may not, it is not there: they get the same answer as for what belongs to somebody
else, or was never made.
"""

from __future__ import annotations

from domain.identity.permissions import Permission, granted
from serve_apps.sessions import Principal


def permits(principal: Principal | None, permission: Permission) -> bool:
    """Whether whoever makes a request may do this."""
    return principal is not None and permission in granted(principal.roles)

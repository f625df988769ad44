"""Operations on users: how they come in, what they change about their security, how they leave."""

from __future__ import annotations

from typing import Final

from serve_apps.api.identity import entry, factor, links, person
from serve_apps.api.routing import Operation

OPERATIONS: Final[tuple[Operation, ...]] = (
    *entry.OPERATIONS,
    *links.OPERATIONS,
    *factor.OPERATIONS,
    *person.OPERATIONS,
)

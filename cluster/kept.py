"""The actors of which a platform has one each, and what they are made with. One more is a line.

``actors.keeping`` says what becomes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from actors.keeping import KeptActor
    from cluster.settings import Settings
    from serve_apps.services import AppConfig


class Kept(NamedTuple):
    """An actor's name, its class, and what it is called with (a ``made`` mark follows)."""

    name: str
    actor: type[KeptActor]
    arguments: tuple[Any, ...]


def kept(settings: Settings, config: AppConfig) -> list[Kept]:
    """All of them, ready to be started."""
    from actors.notifying import NAME as NOTIFIER
    from actors.notifying import NotifierActor
    from actors.projecting import NAME as PROJECTOR
    from actors.projecting import ProjectorActor

    return [
        Kept(PROJECTOR, ProjectorActor, (config.database_url,)),
        Kept(NOTIFIER, NotifierActor, (config.database_url, config.redis_url)),
    ]

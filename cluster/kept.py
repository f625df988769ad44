"""The actors of which a platform has one each, and what they are made with. One more is a line.

``actors.keeping`` says what becomes of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from actors.courier import CourierSettings
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
    from actors.couriering import NAME as COURIER
    from actors.couriering import CourierActor
    from actors.notifying import NAME as NOTIFIER
    from actors.notifying import NotifierActor
    from actors.projecting import NAME as PROJECTOR
    from actors.projecting import ProjectorActor

    return [
        Kept(PROJECTOR, ProjectorActor, (config.database_url,)),
        Kept(NOTIFIER, NotifierActor, (config.database_url, config.redis_url)),
        Kept(COURIER, CourierActor, (config.database_url, courier_settings(settings, config))),
    ]


def courier_settings(settings: Settings, config: AppConfig) -> CourierSettings:
    """How mail and webhooks are sent: by the server that was set, or to the one that catches."""
    from actors.courier import CourierSettings
    from actors.mail import SmtpSettings
    from cluster.mailserver import HOST

    if settings.catches_mail:
        server = SmtpSettings(host=HOST, port=config.mail_port, security="none")
    else:
        password = settings.smtp_password
        server = SmtpSettings(
            host=settings.smtp_host,
            port=settings.smtp_port,
            security=settings.smtp_security,
            username=settings.smtp_username,
            password="" if password is None else password.get_secret_value(),
            ca_file=str(settings.smtp_ca_file or ""),
        )
    return CourierSettings(
        secret_key=config.secret_key,
        public_url=config.public_url,
        smtp=replace(server, sender=settings.mail_sender),
        connections=settings.smtp_connections,
        private=settings.private_webhooks,
    )

"""The actors of which a platform has one each, and what they are made with. One more is a line.

``actors.keeping`` says what becomes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from actors.courier import CourierSettings
    from actors.keeping import KeptActor
    from actors.mail import SmtpSettings
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
    """How mail and webhooks are sent."""
    from actors.courier import CourierSettings

    return CourierSettings(
        secret_key=config.secret_key,
        public_url=config.public_url,
        smtp=smtp_settings(settings, config.mail_port),
        connections=settings.smtp_connections,
        private=settings.private_webhooks,
    )


def smtp_settings(settings: Settings, mail_port: int) -> SmtpSettings:
    """Which server mail goes to: the one that was set, or the one that catches it here."""
    from actors.mail import SmtpSettings
    from cluster.mailserver import HOST

    if settings.catches_mail:
        return SmtpSettings(host=HOST, port=mail_port, security="none", sender=settings.mail_sender)
    password = settings.smtp_password
    return SmtpSettings(
        host=settings.smtp_host,
        port=settings.smtp_port,
        security=settings.smtp_security,
        username=settings.smtp_username,
        password="" if password is None else password.get_secret_value(),
        sender=settings.mail_sender,
        ca_file=str(settings.smtp_ca_file or ""),
    )

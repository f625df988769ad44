"""Which page about mail and webhooks answers which address."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from domain.identity.permissions import Permission
from serve_apps.pages.mail import caught, letters, unsubscribe, webhooks
from serve_apps.pages.visit import Pages
from serve_apps.services import Services


def routes(pages: Pages, services: Services) -> list[BaseRoute]:
    """All of them; what development has caught, only where something is caught."""
    read, send = Permission.MAIL_READ, Permission.MAIL_RESEND
    hooks = "/user/{user}/webhooks/"
    office = "/operations/mail/"
    found: list[BaseRoute] = [
        Route(hooks, pages.member(webhooks.show), methods=["GET"]),
        Route(hooks, pages.member(webhooks.make), methods=["POST"]),
        Route(hooks + "{webhook}/", pages.member(webhooks.detail), methods=["GET"]),
        Route(hooks + "{webhook}/", pages.member(webhooks.change), methods=["POST"]),
        Route(office, pages.permitted(read, letters.show), methods=["GET"]),
        Route(office + "kinds/", pages.permitted(read, letters.previews), methods=["GET"]),
        Route(office + "kinds/{kind}/", pages.permitted(read, letters.preview), methods=["GET"]),
        Route(
            office + "kinds/{kind}/html",
            pages.permitted(read, letters.preview_html),
            methods=["GET"],
        ),
        Route(office + "{message}/resend", pages.permitted(send, letters.resend), methods=["POST"]),
        Route("/unsubscribe", pages.open(unsubscribe.ask), methods=["GET"]),
        Route("/unsubscribe", pages.open(unsubscribe.end), methods=["POST"]),
    ]
    if services.config.mail_dir:
        found += [
            Route("/dev/mail", pages.open(caught.show), methods=["GET"]),
            Route("/dev/mail/{mail}/", pages.open(caught.mail), methods=["GET"]),
            Route("/dev/mail/{mail}/html", pages.open(caught.html), methods=["GET"]),
        ]
    return found

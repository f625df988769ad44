"""What could not be delivered, and what each kind of message looks like, for operators."""

from __future__ import annotations

from starlette.responses import Response

from actors.letters import LANGUAGE
from domain.identity.permissions import Permission
from domain.notifications import KINDS, Kind
from serve_apps import mail
from serve_apps.pages.mail.frames import framed, with_frames
from serve_apps.pages.visit import Refused, Visit
from serve_apps.paths import read_number
from serve_apps.permissions import permits
from serve_apps.staff import actor_of

_CHANNELS = {"": "All", "email": "E-mail", "webhook": "Webhooks"}


async def show(visit: Visit) -> Response:
    """What was given up, newest first."""
    channel = visit.query.get("channel", "")
    if channel not in _CHANNELS:
        raise Refused(400)
    before = read_number(visit.query.get("before", ""))
    rows = await mail.dead_letters(visit.services, before=before, channel=channel)
    return visit.page(
        "mail/dead.html",
        rows=rows,
        channel=channel,
        channels=_CHANNELS,
        labels={kind.value: rule.label for kind, rule in KINDS.items()},
        next=rows[-1].id if len(rows) == mail.PAGE else None,
        may_resend=permits(visit.principal, Permission.MAIL_RESEND),
    )


async def resend(visit: Visit) -> Response:
    """Have one sent again."""
    await visit.form()
    number = read_number(visit.request.path_params["message"])
    assert visit.principal is not None
    actor = actor_of(visit.principal, visit.request)
    if number is None or not await mail.resend(visit.services, actor, number):
        raise Refused(404)
    return visit.go("/operations/mail/", notice="resent")


async def previews(visit: Visit) -> Response:
    """All kinds."""
    return visit.page("mail/previews.html", kinds=KINDS)


async def preview(visit: Visit) -> Response:
    """One kind, with the values of its example."""
    kind, language = _asked(visit)
    response = visit.page(
        "mail/preview.html",
        kind=kind,
        rule=KINDS[kind],
        rendered=mail.preview(visit.services, kind, language),
        language=language,
        languages=mail.choices(),
    )
    return with_frames(visit.services, response)


async def preview_html(visit: Visit) -> Response:
    """The HTML form alone, for the frame."""
    kind, language = _asked(visit)
    return framed(mail.preview(visit.services, kind, language).html)


def _asked(visit: Visit) -> tuple[Kind, str]:
    name = visit.request.path_params["kind"]
    language = visit.query.get("language", LANGUAGE)
    if name not in KINDS or language not in mail.choices():
        raise Refused(404)
    return Kind(name), language

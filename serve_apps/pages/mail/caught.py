"""``/dev/mail``: the mails that development's mail server has caught. In development only."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from serve_apps import caughtmail
from serve_apps.caughtmail import Caught
from serve_apps.pages.mail.frames import framed, with_frames
from serve_apps.pages.visit import Refused, Visit


async def show(visit: Visit) -> Response:
    """The latest mails."""
    folder, to = visit.services.config.mail_dir, visit.query.get("to", "")[:254]
    mails = await asyncio.to_thread(caughtmail.latest, folder, to)
    return visit.page("mail/caught.html", mails=mails, to=to)


async def mail(visit: Visit) -> Response:
    """One mail: both forms, and its headers."""
    response = visit.page("mail/caught_mail.html", mail=await _find(visit))
    return with_frames(visit.services, response)


async def html(visit: Visit) -> Response:
    """The HTML form alone, for the frame."""
    return framed((await _find(visit)).html)


async def _find(visit: Visit) -> Caught:
    name = visit.request.path_params["mail"]
    found = await asyncio.to_thread(caughtmail.find, visit.services.config.mail_dir, name)
    if found is None:
        raise Refused(404)
    return found

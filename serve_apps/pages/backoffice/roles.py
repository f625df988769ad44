"""Who holds which role; giving and taking them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from domain.durable import Rejection
from domain.identity.permissions import GIVEN, ROLES
from persistence import roles as store
from serve_apps import backoffice
from serve_apps.pages.visit import Visit
from serve_apps.problems import sentence, status_of

PLACE: Final = "/office/roles/"


async def show(visit: Visit) -> Response:
    """All roles, what they permit and who holds them."""
    return await _page(visit, "", {}, 200)


async def give(visit: Visit) -> Response:
    """Give somebody a role."""
    form = await visit.form()
    user, role = form.get("user", ""), form.get("role", "")
    reply = await backoffice.give_role(visit.services, visit.staff(form), user, role)
    return await _done(visit, form, reply, "role-given")


async def take(visit: Visit) -> Response:
    """Take a role from somebody."""
    form = await visit.form()
    user, role = form.get("user", ""), form.get("role", "")
    reply = await backoffice.take_role(visit.services, visit.actor, user, role)
    return await _done(visit, form, reply, "role-taken")


async def _done(
    visit: Visit, form: Mapping[str, str], reply: int | Rejection, notice: str
) -> Response:
    if isinstance(reply, Rejection):
        return await _page(visit, sentence(reply.code), form, status_of(reply.code))
    return visit.go(PLACE, notice=notice)


async def _page(visit: Visit, error: str, form: Mapping[str, str], status: int) -> Response:
    return visit.page(
        "backoffice/roles.html",
        status,
        roles=[(role, sorted(ROLES[role])) for role in GIVEN],
        held=await store.held(visit.services.pool),
        error=error,
        form=form,
    )

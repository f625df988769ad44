"""A customer's webhook endpoints: made, shown with what was sent, tested, rotated, deleted."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from domain.durable import Rejection
from domain.notifications import KINDS
from serve_apps import webhooks
from serve_apps.api.webhooks import state_of
from serve_apps.pages.visit import Refused, Visit
from serve_apps.paths import read_number
from serve_apps.problems import sentence
from serve_apps.webhooks import MadeEndpoint

_FIELD_OF: Final = {"label_invalid": "label", "url_invalid": "url", "kinds_invalid": "kinds"}


async def show(visit: Visit) -> Response:
    """The endpoints there are, and the form for a new one."""
    return await _list(visit, {}, {}, 200)


async def make(visit: Visit) -> Response:
    """Make an endpoint; its secret is on this answer and nowhere else."""
    form = await visit.form()
    kinds = [kind.value for kind in webhooks.OFFERED if form.get(f"kind-{kind.value}")]
    label, url = form.get("label", ""), form.get("url", "")
    made = await webhooks.add(visit.services, visit.actor, label, url, kinds)
    if isinstance(made, Rejection):
        why = made.fields.get("reason", "")
        text = f"{why}." if why else sentence(made.code)
        return await _list(visit, form, {_FIELD_OF.get(made.code, ""): text}, 422)
    return await _detail(visit, made.endpoint.id, made)


async def detail(visit: Visit) -> Response:
    """One endpoint, and what was sent there lately."""
    return await _detail(visit, _number(visit), None)


async def change(visit: Visit) -> Response:
    """Rotate, test, switch on again or delete: as the button says."""
    form, number = await visit.form(), _number(visit)
    services, actor, wanted = visit.services, visit.actor, form.get("do", "")
    here = f"{visit.home}webhooks/{number}/"
    if wanted == "rotate":
        made = await webhooks.rotate(services, actor, number)
        if made is None:
            raise Refused(404)
        return await _detail(visit, number, made)
    if wanted == "delete":
        if not await webhooks.delete(services, actor, number):
            raise Refused(404)
        return visit.go(f"{visit.home}webhooks/", notice="webhook-deleted")
    if wanted == "ping":
        refused = await webhooks.ping(services, actor, number)
        notice = "webhook-pinged"
    elif wanted == "enable":
        refused = await webhooks.enable(services, actor, number) or 0
        notice = "webhook-enabled"
    else:
        raise Refused(400)
    if isinstance(refused, Rejection):
        raise Refused(404 if refused.code == "not_found" else 422, sentence(refused.code))
    return visit.go(here, notice=notice)


async def _list(
    visit: Visit, form: dict[str, str], errors: dict[str, str], status: int
) -> Response:
    values: dict[str, Any] = {
        "endpoints": await webhooks.endpoints(visit.services, visit.user),
        "state_of": state_of,
        "offered": [(kind.value, KINDS[kind].label) for kind in webhooks.OFFERED],
        "form": form,
        "errors": errors,
        "private": visit.services.config.private_webhooks,
    }
    return visit.page("mail/webhooks.html", status, **values)


async def _detail(visit: Visit, number: int, made: MadeEndpoint | None) -> Response:
    found = await webhooks.look(visit.services, visit.user, number)
    if found is None:
        raise Refused(404)
    endpoint, messages = found
    return visit.page(
        "mail/webhook.html",
        endpoint=endpoint,
        state=state_of(endpoint),
        messages=messages,
        labels={kind.value: rule.label for kind, rule in KINDS.items()},
        made=made,
    )


def _number(visit: Visit) -> int:
    number = read_number(visit.request.path_params["webhook"])
    if number is None:
        raise Refused(404)
    return number

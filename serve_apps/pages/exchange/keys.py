"""API keys of a customer: made, shown once, revoked."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from domain.durable import Rejection
from serve_apps import apikeys
from serve_apps.exchange.keys import SCOPES, MadeKey
from serve_apps.identity import client_of
from serve_apps.pages.visit import Visit
from serve_apps.paths import read_number

_FIELD_OF: Final = {
    "label_invalid": "label",
    "scopes_invalid": "scopes",
    "networks_invalid": "networks",
    "public_key_invalid": "public_key",
}
_SENTENCES: Final = {
    "label_invalid": "A name has 1 to 80 characters.",
    "scopes_invalid": "Choose at least one permission.",
    "networks_invalid": "Write addresses like 203.0.113.7 or networks like 198.51.100.0/24.",
    "public_key_invalid": "This is no Ed25519 public key in PEM.",
    "too_many_keys": "You have as many keys as one may. Revoke one first.",
}


async def show(visit: Visit) -> Response:
    """The keys there are, and the form for a new one."""
    return await _page(visit, {"read": "1"}, {}, None, 200)


async def make(visit: Visit) -> Response:
    """Make a key; its secret is on this answer and nowhere else."""
    form = await visit.form()
    scopes = [scope for scope in SCOPES if form.get(scope)]
    result = await apikeys.make(
        visit.services,
        visit.owner,
        client_of(visit.request),
        form.get("label", ""),
        scopes,
        form.get("networks", ""),
        form.get("public_key", ""),
    )
    if isinstance(result, Rejection):
        field = _FIELD_OF.get(result.code, "")
        return await _page(
            visit, form, {field: _SENTENCES.get(result.code, result.code)}, None, 422
        )
    return await _page(visit, {"read": "1"}, {}, result, 200)


async def revoke(visit: Visit) -> Response:
    """End a key, everywhere and at once."""
    form = await visit.form()
    number = read_number(form.get("id", ""))
    if number is not None:
        await apikeys.revoke(visit.services, visit.owner, client_of(visit.request), number)
    return visit.go(f"{visit.home}keys/", notice="key-revoked")


async def _page(
    visit: Visit, form: dict[str, str], errors: dict[str, str], made: MadeKey | None, status: int
) -> Response:
    values: dict[str, Any] = {
        "form": form,
        "errors": errors,
        "made": made,
        "keys": await apikeys.list_keys(visit.services, visit.user),
    }
    return visit.page("exchange/keys.html", status, **values)

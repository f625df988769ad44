"""Finding a customer, and what can be done to one: freeze, limit, propose an adjustment."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from domain.accounts.commands import AccountView, CustomerView
from domain.accounts.numbers import customer_of, parse_account, parse_customer
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES
from persistence import backoffice as store
from persistence.accounts import AdjustmentRow, pending_adjustments
from serve_apps import adjustments, backoffice
from serve_apps.pages.visit import Refused, Visit
from serve_apps.problems import sentence, status_of

TRANSFERS_SHOWN: Final = 20
_NOBODY: Final[Mapping[str, str]] = {}


async def search(visit: Visit) -> Response:
    """Customers and transfers that fit what is looked for."""
    text = visit.query.get("q", "").replace("\u00a0", " ").strip()
    if len(text) > backoffice.SEARCH_MAX or not text.isprintable():
        raise Refused(400)
    pool = visit.services.pool
    found = await store.search_customers(pool, text)
    transfers = await store.search_transfers(pool, text) if text else []
    return visit.page(
        "backoffice/search.html",
        q=text,
        customers=found,
        transfers=transfers,
        pending=await pending_adjustments(pool) if visit.may("adjustments.read") else 0,
    )


async def show(visit: Visit) -> Response:
    """One customer."""
    return await _page(visit, "", _NOBODY, 200)


async def freeze(visit: Visit) -> Response:
    """Freeze one of the customer's accounts, or take the freeze off."""
    form = await visit.form()
    number, what = form.get("account", ""), form.get("what", "")
    account = parse_account(number)
    if what not in ("freeze", "unfreeze") or account is None or not _theirs(visit, account):
        raise Refused(400)
    reply = await backoffice.freeze(
        visit.services,
        visit.actor,
        number,
        form.get("reason", ""),
        frozen=what == "freeze",
    )
    if isinstance(reply, AccountView):
        return visit.go(_place(visit), notice="frozen" if what == "freeze" else "unfrozen")
    return await _refused(visit, reply, form)


async def set_limit(visit: Visit) -> Response:
    """Give the customer a limit of the day."""
    form = await visit.form()
    reply = await backoffice.set_limit(
        visit.services,
        visit.actor,
        visit.request.path_params["customer"],
        form.get("currency", ""),
        form.get("amount", ""),
    )
    if isinstance(reply, CustomerView):
        return visit.go(_place(visit), notice="limit-set")
    return await _refused(visit, reply, form)


async def adjust(visit: Visit) -> Response:
    """Propose an adjustment of one of the customer's accounts."""
    form = await visit.form()
    number = form.get("account", "")
    account = parse_account(number)
    if account is None or not _theirs(visit, account):
        raise Refused(400)
    reply = await adjustments.propose(
        visit.services,
        visit.staff(form),
        number,
        form.get("amount", ""),
        form.get("reason", ""),
        form.get("key", "")[:64] or secrets.token_hex(16),
    )
    if isinstance(reply, AdjustmentRow):
        return visit.go("/office/adjustments/", notice="proposed")
    return await _refused(visit, reply, form)


def _theirs(visit: Visit, account: int) -> bool:
    customer: str = visit.request.path_params["customer"]
    return str(customer_of(account)) == customer


def _place(visit: Visit) -> str:
    customer = parse_customer(visit.request.path_params["customer"])
    if customer is None:
        raise Refused(404)
    return f"/office/customer/{customer}/"


async def _refused(
    visit: Visit, reply: Rejection | Unavailable, form: Mapping[str, str]
) -> Response:
    if isinstance(reply, Unavailable):
        # Under the same key, so that what was done is not done again.
        return await _page(visit, sentence("outcome_unknown"), form, 503)
    kept = {name: text for name, text in form.items() if name != "key"}
    return await _page(visit, sentence(reply.code), kept, status_of(reply.code))


async def _page(visit: Visit, error: str, form: Mapping[str, str], status: int) -> Response:
    number = visit.request.path_params["customer"]
    found = await backoffice.look(visit.services, visit.actor, number)
    if found is None:
        raise Refused(404)
    return visit.page(
        "backoffice/customer.html",
        status,
        found=found,
        row=found.row,
        transfers=await store.search_transfers(
            visit.services.pool, str(found.row.id), TRANSFERS_SHOWN
        ),
        error=error,
        form=form,
        key=form.get("key") or secrets.token_hex(16),
        currencies=list(CURRENCIES),
        own=found.row.id == visit.user,
    )

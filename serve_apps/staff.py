"""Somebody who works here, about to do what needs more than a permission.

What moves a customer's money, or makes somebody staff, is confirmed with a code of the second
factor by whoever has one, bound to exactly that; in production whoever has none cannot do it.
May use Postgres.
"""

from __future__ import annotations

import msgspec
from starlette.requests import HTTPConnection

from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from persistence.audit import Actor
from serve_apps.confirmation import Intent, Proof, demand, give_back
from serve_apps.gateway.front import request_id
from serve_apps.identity import Client, client_of
from serve_apps.services import Services
from serve_apps.sessions import Principal


class Staff(msgspec.Struct, frozen=True):
    """Who does it, from where, as the audit log names them, and what shows that it is they."""

    principal: Principal
    client: Client
    actor: Actor
    proof: Proof = Proof()


def actor_of(principal: Principal, request: HTTPConnection) -> Actor:
    """Whoever makes a request, as the audit log names them."""
    client = client_of(request)
    return Actor(
        principal.user,
        principal.email,
        client.origin,
        client.ip,
        principal.session_id,
        request_id() or client.request,
    )


def staff_of(
    principal: Principal, request: HTTPConnection, code: str = "", confirmation: str = ""
) -> Staff:
    """Whoever makes a request, with a code or a confirmation that has one."""
    proof = Proof(code, confirmation)
    return Staff(principal, client_of(request), actor_of(principal, request), proof)


async def confirmed(
    services: Services, staff: Staff, intent: Intent, *, use: bytes = b""
) -> Rejection | None:
    """Whether it may be done now; ``use`` is the id of the command that does it."""
    if services.config.staff_factor and not staff.principal.second_factor:
        return Rejection(IdentityCode.SECOND_FACTOR_MISSING)
    return await demand(services, staff.principal, intent, staff.proof, staff.client, use=use)


async def not_done(services: Services, staff: Staff, use: bytes) -> None:
    """Let a confirmation count again, because the command was refused for another reason."""
    if staff.proof.confirmation:
        await give_back(services, staff.principal, staff.proof.confirmation, use)

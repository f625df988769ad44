"""Who holds which role, and giving and taking them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from domain.durable import Rejection
from domain.identity.permissions import GIVEN, ROLES, Permission, RoleCode
from persistence import roles as store
from persistence.roles import HeldRole
from serve_apps import backoffice
from serve_apps.api.bodies import DoneBody, moment_text
from serve_apps.api.forms import ProofForm
from serve_apps.api.identity.links import STAFF_CODES
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.staff import staff_of


class RoleForm(ProofForm):
    """A role to be given, and a proof where there is a second factor."""

    user: Annotated[str, Field(max_length=300, description="Customer number or e-mail address")]
    role: Annotated[str, Field(max_length=40, description=f"One of {', '.join(GIVEN)}")]


class RoleBody(msgspec.Struct):
    """A role, and what it permits."""

    name: str
    permissions: list[str]


class HeldRoleBody(msgspec.Struct):
    """A role that somebody holds."""

    user: str
    email: str
    role: str
    given_at: str
    given_by: str


class RolesBody(msgspec.Struct):
    """The roles that can be given, and who holds them."""

    roles: list[RoleBody]
    held: list[HeldRoleBody]


async def listing(call: Call) -> Outcome:
    """All roles."""
    held = await store.held(call.services.pool)
    roles = [RoleBody(role, sorted(ROLES[role])) for role in GIVEN]
    return Answer(RolesBody(roles, [_body(row) for row in held]))


async def give(call: Call) -> Outcome:
    """Give a role."""
    form: RoleForm = call.body
    staff = staff_of(call.principal, call.request, form.code, form.confirmation)
    user = await backoffice.give_role(call.services, staff, form.user, form.role)
    if isinstance(user, Rejection):
        return user
    for row in await store.held(call.services.pool, user):
        if row.role == form.role:
            return Answer(_body(row), 201)
    return Rejection(RoleCode.ROLE_NOT_HELD)  # somebody took it meanwhile


async def take(call: Call) -> Outcome:
    """Take a role."""
    user = await backoffice.take_role(
        call.services, call.actor, call.params["customer"], call.params["role"]
    )
    return user if isinstance(user, Rejection) else Answer(DoneBody())


def _body(row: HeldRole) -> HeldRoleBody:
    return HeldRoleBody(
        str(row.user), row.email, row.role, moment_text(row.granted_at), row.granted_by
    )


_HELD: Final[dict[str, Any]] = {
    "user": "4820193756",
    "email": "ann@example.com",
    "role": "support",
    "given_at": "2026-11-20T09:30:00.125000Z",
    "given_by": "olga@example.com",
}
_TAG: Final = "Back office"

OPERATIONS: Final = (
    Operation(
        name="list_roles",
        method="GET",
        path="/api/office/role/",
        handler=listing,
        summary="Roles, and who holds them",
        tag=_TAG,
        access="user",
        permission=Permission.ROLES_READ,
        answer=RolesBody,
        answer_example={
            "roles": [{"name": "support", "permissions": ["accounts.freeze", "customers.read"]}],
            "held": [_HELD],
        },
    ),
    Operation(
        name="give_role",
        method="POST",
        path="/api/office/role/",
        handler=give,
        summary="Give a role",
        description="Nobody gives a role to themselves. It counts within seconds. With a second"
        " factor its `code` is needed, or a `confirmation`; in production nobody does it without.",
        tag=_TAG,
        access="user",
        permission=Permission.ROLES_GRANT,
        body=RoleForm,
        body_example={"user": "ann@example.com", "role": "support"},
        status=201,
        answer=HeldRoleBody,
        answer_example=_HELD,
        codes=(
            RoleCode.ROLE_UNKNOWN,
            RoleCode.USER_UNKNOWN,
            RoleCode.ROLE_OWN,
            RoleCode.ROLE_HELD,
            RoleCode.ROLE_NOT_HELD,
            *STAFF_CODES,
        ),
    ),
    Operation(
        name="take_role",
        method="DELETE",
        path="/api/office/role/{customer}/{role}/",
        handler=take,
        summary="Take a role",
        description="There is always an administrator left.",
        tag=_TAG,
        access="user",
        permission=Permission.ROLES_GRANT,
        answer=DoneBody,
        answer_example={"done": True},
        codes=(
            RoleCode.ROLE_UNKNOWN,
            RoleCode.USER_UNKNOWN,
            RoleCode.ROLE_NOT_HELD,
            RoleCode.LAST_ADMINISTRATOR,
        ),
    ),
)

"""``kontor role``: who may do more than look after their own accounts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar, cast

import msgspec
import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import As, actor_for
from domain.durable import Rejection
from domain.identity.permissions import Permission, RoleCode
from persistence import identity, roles
from persistence.database import Connection, Pool
from persistence.roles import HeldRole

app = typer.Typer(help="Give users roles, take them back, and see who holds which.")

Result = TypeVar("Result")

Email = Annotated[str, typer.Argument(help="E-mail address that the user signed up with.")]
Role = Annotated[str, typer.Argument(help="The role.")]


@app.command()
def grant(
    email: Email, role: Role = "operator", as_email: As = None, as_json: Json = False
) -> None:
    """Give a user a role; it counts within seconds."""
    _change(email, role, as_email, as_json, give=True)


@app.command()
def revoke(
    email: Email, role: Role = "operator", as_email: As = None, as_json: Json = False
) -> None:
    """Take a role back; it counts within seconds."""
    _change(email, role, as_email, as_json, give=False)


@app.command("list")
def list_roles(
    email: Annotated[str | None, typer.Argument(help="One user (default: all).")] = None,
    as_json: Json = False,
) -> None:
    """Show who holds which role, since when, and who gave it."""

    async def work(pool: Pool) -> list[HeldRole]:
        return await roles.held(pool, None if email is None else await _user(pool, email))

    held = _ask(work)
    if as_json:
        show(msgspec.to_builtins(held))
        return
    for row in held:
        since = f"since {row.granted_at:%Y-%m-%d %H:%M}, by {row.granted_by}"
        typer.echo(f"{row.email}  {row.role}  {since}")
    if not held:
        typer.echo("Nobody holds a role.")


def _ask(question: Callable[[Pool], Awaitable[Result]]) -> Result:
    return ask(settings(), question)


async def _user(pool: Pool, email: str) -> int:
    found = await identity.user_by_email(pool, email)
    if found is None:
        refuse(f"Nobody has signed up as {email}.")
    return found.id


def _change(email: str, role: str, as_email: str | None, as_json: bool, *, give: bool) -> None:
    from serve_apps.problems import sentence

    async def work(pool: Pool) -> Rejection | None:
        actor = await actor_for(pool, Permission.ROLES_GRANT, as_email)
        user = await _user(pool, email)
        async with pool.acquire() as proxy:
            change = roles.give if give else roles.take
            return await change(cast(Connection, proxy), actor, user, role)

    refused = _ask(work)
    changed = refused is None
    if refused is not None and refused.code == RoleCode.ROLE_UNKNOWN:
        refuse(f"There is no role {role}.")
    if refused is not None and refused.code not in (RoleCode.ROLE_HELD, RoleCode.ROLE_NOT_HELD):
        refuse(sentence(refused.code))
    if not changed and not give:
        refuse(f"{email} does not hold the role {role}.")
    if as_json:
        show({"email": email, "role": role, "held": give, "changed": changed})
    elif give:
        typer.echo(f"{email} holds the role {role}{'' if changed else ' already'}.")
    else:
        typer.echo(f"{email} does not hold the role {role} any more.")

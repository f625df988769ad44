"""``kontor admin``: the first administrator, who gives all other roles in the back office."""

from __future__ import annotations

import secrets
import sys
from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import actor_for
from domain.durable import Rejection
from domain.identity.permissions import Permission
from domain.identity.rules import check_email, check_sign_up
from persistence import identity, roles
from persistence.database import Connection, Pool

app = typer.Typer(help="The first administrator.")


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="Address to log in with.")],
    name: Annotated[str, typer.Option(help="Name of somebody who has not signed up yet.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the first administrator: somebody who has signed up, or a new user with a password.

    When there is one, they give the role to others; it cannot be made here again.
    """
    if check_email(email) is None:
        refuse(f"{email} is not an e-mail address.")
    chosen = settings()
    known = ask(chosen, lambda pool: identity.user_by_email(pool, email))
    password = ""
    if known is None:
        if not name:
            refuse(f"Nobody has signed up as {email}: give a --name to sign them up.")
        password = _password(password_stdin)
        form = check_sign_up(email, name, password)
        if isinstance(form, Rejection):
            from serve_apps.problems import sentence

            refuse(sentence(form.code))
    user, refused = ask(chosen, lambda pool: _create(pool, email, name, password))
    if refused is not None:
        from serve_apps.problems import sentence

        refuse(sentence(refused.code))
    if as_json:
        show({"user": str(user), "email": email, "signed_up": known is None})
    else:
        typer.echo(f"{email} is the first administrator.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    given: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return given


async def _create(pool: Pool, email: str, name: str, password: str) -> tuple[int, Rejection | None]:
    """Sign up and give the role in one transaction, so that a refusal leaves nobody behind."""
    actor = await actor_for(pool, Permission.ROLES_GRANT, None)
    hashed = await _hashed(password) if password else ""
    async with pool.acquire() as proxy:
        connection = cast(Connection, proxy)
        transaction = connection.transaction()
        await transaction.start()
        found = await identity.user_by_email(connection, email)
        user = found.id if found else await _sign_up(connection, email, name, hashed)
        refused = await roles.give_first(connection, actor, user)
        if refused is None:
            await transaction.commit()
        else:
            await transaction.rollback()
    return user, refused


async def _hashed(password: str) -> str:
    from serve_apps.security import Passwords

    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


async def _sign_up(connection: Connection, email: str, name: str, hashed: str) -> int:
    """A user whose accounts are opened by the platform, as those of a sign-up cut short are."""
    from serve_apps.identity.entry import USER_MAX, USER_MIN

    while True:
        user = USER_MIN + secrets.randbelow(USER_MAX - USER_MIN + 1)
        if await identity.add_user(
            connection, user=user, email=email, name=name, password_hash=hashed,
            now=datetime.now(UTC),
        ):  # fmt: skip
            return user

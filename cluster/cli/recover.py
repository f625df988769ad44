"""``kontor recover``: let a customer in again who has lost the second factor."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import As, actor_for
from domain.identity.permissions import Permission
from persistence import identity
from persistence.database import Connection, Pool
from persistence.identity.recovery import without_factor

app = typer.Typer(help="Let customers in again who cannot come in by themselves.")


@app.command("second-factor")
def second_factor(
    email: Annotated[str, typer.Argument(help="E-mail address of the customer.")],
    reason: Annotated[
        str, typer.Option(help="How it is known that it is the customer; kept in the audit log.")
    ],
    as_email: As = None,
    as_json: Json = False,
) -> None:
    """Switch off the second factor of somebody who has lost device and recovery codes.

    All sessions and tokens end; the password stays, and the customer is told by e-mail.
    """
    if not reason.strip():
        refuse("Say how it is known that it is the customer.")

    async def work(pool: Pool) -> int | None:
        actor = await actor_for(pool, Permission.CUSTOMERS_RECOVER, as_email)
        found = await identity.user_by_email(pool, email)
        if found is None:
            refuse(f"Nobody has signed up as {email}.")
        async with pool.acquire() as proxy:
            return await without_factor(
                cast(Connection, proxy), actor, found.id, reason.strip(), datetime.now(UTC)
            )

    ended = ask(settings(), work)
    if ended is None:
        refuse(f"{email} has no second factor.")
    if as_json:
        show({"email": email, "sessions_ended": ended})
    else:
        typer.echo(f"{email} logs in with the password alone; sessions ended: {ended}.")

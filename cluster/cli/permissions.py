"""What each command needs, by the same table of permissions that pages and API are asked by.

Whoever runs a command is the role ``console``. A command that acts on customers takes ``--as``:
then it is that person who acts, with what their roles permit, and the audit log says so.
"""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import wraps
from typing import Annotated, Any, Final

import typer

from cluster.errors import Exit, StartError
from domain.identity.permissions import CONSOLE, CUSTOMER, Permission, granted
from persistence import audit, identity, roles
from persistence.audit import Actor
from persistence.database import OUTAGES, Pool

As = Annotated[
    str | None,
    typer.Option("--as", help="E-mail address of the person who acts (default: the console)."),
]

COMMANDS: Final[Mapping[str, Permission]] = {
    "up": Permission.PLATFORM_RUN,
    "node": Permission.PLATFORM_RUN,
    "migrate": Permission.PLATFORM_RUN,
    "compile": Permission.PLATFORM_RUN,
    "assets": Permission.PLATFORM_RUN,
    "scale": Permission.PLATFORM_RUN,
    "pin": Permission.PLATFORM_RUN,
    "unpin": Permission.PLATFORM_RUN,
    "rebalance": Permission.PLATFORM_RUN,
    "drain": Permission.PLATFORM_RUN,
    "undrain": Permission.PLATFORM_RUN,
    "chaos": Permission.PLATFORM_RUN,
    "backup": Permission.PLATFORM_RUN,
    "restore": Permission.PLATFORM_RUN,
    "simulate": Permission.PLATFORM_RUN,
    "bench": Permission.PLATFORM_RUN,
    "journal rebuild": Permission.PLATFORM_RUN,
    "history rebuild": Permission.PLATFORM_RUN,
    "status": Permission.OPERATIONS_SEE,
    "placement": Permission.OPERATIONS_SEE,
    "check": Permission.OPERATIONS_SEE,
    "journal": Permission.OPERATIONS_SEE,
    "history": Permission.OPERATIONS_SEE,
    "canary": Permission.CANARY_RUN,
    "instrument": Permission.MARKET_ADMINISTER,
    "mail": Permission.MAIL_RESEND,
    "mail list": Permission.MAIL_READ,
    "accounts show": Permission.CUSTOMERS_READ,
    "accounts freeze": Permission.ACCOUNTS_FREEZE,
    "accounts unfreeze": Permission.ACCOUNTS_FREEZE,
    "accounts limit": Permission.LIMITS_SET,
    "recover": Permission.CUSTOMERS_RECOVER,
    "role list": Permission.ROLES_READ,
    "role grant": Permission.ROLES_GRANT,
    "role revoke": Permission.ROLES_GRANT,
    "admin create": Permission.ROLES_GRANT,
    "audit search": Permission.AUDIT_READ,
    "audit verify": Permission.AUDIT_READ,
    "audit export": Permission.AUDIT_EXPORT,
}
"""By the command's words, or those that its group begins with. What is not here does not run."""


def needed(path: str) -> Permission | None:
    """What the command with these words needs."""
    return COMMANDS.get(path) or COMMANDS.get(path.partition(" ")[0])


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each command that does something, with its words; ``command`` is one of click's."""
    members = getattr(command, "commands", None)
    if members is None or (getattr(command, "invoke_without_command", False) and path):
        yield path, command
    for name, member in (members or {}).items():
        yield from leaves(member, f"{path} {name}".strip())


def guard(command: Any) -> Any:
    """Ask the table before each command runs."""
    for path, leaf in leaves(command):
        if leaf.callback is not None:
            leaf.callback = _checked(leaf.callback, path)
    return command


def _checked(run: Callable[..., Any], path: str) -> Callable[..., Any]:
    @wraps(run)
    def checked(*arguments: Any, **options: Any) -> Any:
        permission = needed(path)
        # Of a person it is asked once the database is open; see ``actor_for``.
        if options.get("as_email") is None or permission is None:
            _require(permission, frozenset({CONSOLE}), "The command line")
        return run(*arguments, **options)

    return checked


def _require(permission: Permission | None, held: frozenset[str], who: str) -> None:
    if permission is None or permission not in granted(held):
        what = "this" if permission is None else permission.value
        raise StartError(f"{who} may not: {what} is not permitted", Exit.PERMISSION)


async def actor_for(pool: Pool, permission: Permission, as_email: str | None) -> Actor:
    """Who acts, for the audit log; refused where the person may not."""
    if as_email is None:
        _require(permission, frozenset({CONSOLE}), "The command line")
        return console()
    row = await identity.user_by_email(pool, as_email)
    if row is None:
        raise StartError(f"Nobody has signed up as {as_email}.", Exit.PERMISSION)
    held = {role.role for role in await roles.held(pool, row.id)}
    _require(permission, frozenset({CUSTOMER, *held}), row.email)
    return Actor(row.id, f"{row.email}, by {console().by}", "console")


def console() -> Actor:
    """Whoever is at the command line, for the audit log."""
    return Actor(None, f"{getpass.getuser()} on the command line", "console")


@asynccontextmanager
async def noted(pool: Pool, action: str, subject: str, **after: Any) -> AsyncIterator[None]:
    """Write down what the console is about to do, and that it was refused when it was."""
    actor = console()
    await audit.record(pool, actor.did(action, subject, after=after))
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        with suppress(*OUTAGES):
            await audit.record(
                pool, actor.did(f"{action}.refused", subject, after={"reason": reason})
            )
        raise

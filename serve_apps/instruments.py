"""What people do to instruments, written down: list, halt, resume, hold an auction, delist.

How it is done is ``serve_apps.listing``, which the platform itself uses, too. Who may was asked
before. For API, pages and command line.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from domain.durable import Rejection
from persistence.audit import Actor
from persistence.database import Pool
from persistence.trading.catalogue import instrument
from serve_apps import listing
from serve_apps.auditing import carry_out
from serve_apps.listing import Accounts, Books, Listing, Outcome

__all__ = ["Desk", "Listing", "Outcome", "change", "enlist"]


class Desk(Protocol):
    """What is needed for it: a replica's services, or what the command line has opened."""

    @property
    def pool(self) -> Pool:
        """The database."""

    @property
    def books(self) -> Books:
        """The order books."""

    @property
    def accounts(self) -> Accounts:
        """The customers' entities."""


async def enlist(desk: Desk, actor: Actor, wanted: Listing, command_id: bytes) -> Outcome:
    """List an instrument and issue its shares; asked again, it goes on where it was cut short."""
    terms = listing.terms_of(wanted)
    if isinstance(terms, Rejection):
        return terms
    said = {name: text for name in wanted.__struct_fields__ if (text := getattr(wanted, name))}
    return await carry_out(
        desk.pool,
        actor,
        "instruments.list",
        f"instrument:{terms[0].symbol}",
        {},
        said,
        lambda: listing.list_instrument(desk.books, desk.accounts, wanted, command_id),
    )


async def change(
    desk: Desk,
    actor: Actor,
    symbol: str,
    what: str,
    command_id: bytes,
    *,
    reason: str = "",
    until: datetime | None = None,
) -> Outcome:
    """``halt``, ``resume``, ``delist``, or hold an ``auction`` until a time."""
    found = await instrument(desk.pool, symbol)
    after = {"reason": reason} if reason else {}
    if until is not None:
        after["until"] = until.isoformat()
    return await carry_out(
        desk.pool,
        actor,
        f"instruments.{what}",
        f"instrument:{symbol}",
        {} if found is None else {"status": found.status},
        after,
        lambda: listing.change_status(
            desk.books, symbol, what, command_id, reason=reason, until=until
        ),
    )

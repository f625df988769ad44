"""``kontor instrument``: what is listed, and administrators' work on it while the platform runs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from cluster.cli.asking import ask
from cluster.cli.desk import Desk, at_desk
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import As, actor_for
from domain.identity.permissions import Permission
from domain.trading.commands import InstrumentReply
from domain.trading.rules import Rules
from persistence.database import Pool
from persistence.trading import catalogue
from persistence.trading.catalogue import LISTED, Instrument

app = typer.Typer(help="List instruments, halt, resume and delist them, and see what is listed.")

Symbol = Annotated[str, typer.Argument(help="Base and quote, such as BTCUSD.")]
Reason = Annotated[str, typer.Option(help="Why; everybody is told.")]
Result = TypeVar("Result")


def _tell(reply: Any, as_json: bool) -> None:
    assert isinstance(reply, InstrumentReply)
    status = reply.status.name.lower()
    if as_json:
        show({"symbol": reply.symbol, "status": status})
    else:
        typer.echo(f"{reply.symbol} is {status}.")


@app.command("list")
def list_instrument(
    base: Annotated[str, typer.Argument(help="What is traded, such as NORD.")],
    quote: Annotated[str, typer.Argument(help="What it is paid in, such as USD.")],
    name: Annotated[str, typer.Option(help="Its name.")],
    kind: Annotated[str, typer.Option("--type", help="stock, bond, fund or crypto.")],
    tick: Annotated[str, typer.Option(help="Step of prices, such as 0.01.")],
    lot: Annotated[str, typer.Option(help="Step of quantities, such as 1.")],
    description: Annotated[str, typer.Option(help="What people are told.")] = "",
    reference: Annotated[str, typer.Option(help="The price to begin with.")] = "",
    notional_min: Annotated[str, typer.Option(help="The least an order may be worth.")] = "",
    band: Annotated[str, typer.Option(help="Per cent that a price may be away, up or down.")] = "",
    maker: Annotated[str, typer.Option(help="Fee of makers in per cent.")] = "0.1",
    taker: Annotated[str, typer.Option(help="Fee of takers in per cent.")] = "0.1",
    issued: Annotated[str, typer.Option(help="How much of the base to bring into being.")] = "",
    issuer: Annotated[str, typer.Option(help="Customer number of whom it is issued to.")] = "",
    as_email: As = None,
    as_json: Json = False,
) -> None:
    """List an instrument; with --issued and --issuer its shares come into being, once."""
    from serve_apps.instruments import Listing, enlist
    from serve_apps.listing import listing_id

    listing = Listing(
        base=base, quote=quote, type=kind, name=name, tick=tick, lot=lot, description=description,
        reference=reference, notional_min=notional_min, band_up=band, band_down=band, maker=maker,
        taker=taker, issued=issued, issuer=issuer,
    )  # fmt: skip
    # The same listing again goes on where it was cut short.
    number = listing_id("command line", *msgspec.structs.astuple(listing))

    async def work(desk: Desk) -> Any:
        actor = await actor_for(desk.pool, Permission.MARKET_ADMINISTER, as_email)
        return await enlist(desk, actor, listing, number)

    _tell(at_desk(work), as_json)


def _change(symbol: str, what: str, as_email: str | None, as_json: bool, reason: str = "") -> None:
    from serve_apps.instruments import change

    async def work(desk: Desk) -> Any:
        actor = await actor_for(desk.pool, Permission.MARKET_ADMINISTER, as_email)
        return await change(desk, actor, symbol.upper(), what, os.urandom(16), reason=reason)

    _tell(at_desk(work), as_json)


@app.command()
def halt(
    symbol: Symbol, reason: Reason = "Halted", as_email: As = None, as_json: Json = False
) -> None:
    """Stop trading: orders stay and can be cancelled, no new ones are taken."""
    _change(symbol, "halt", as_email, as_json, reason)


@app.command()
def resume(symbol: Symbol, as_email: As = None, as_json: Json = False) -> None:
    """Trade again after a halt, or end an auction before its time."""
    _change(symbol, "resume", as_email, as_json)


@app.command()
def delist(
    symbol: Symbol, reason: Reason = "Delisted", as_email: As = None, as_json: Json = False
) -> None:
    """Cancel all orders and close the book for good."""
    _change(symbol, "delist", as_email, as_json, reason)


def _ask(question: Callable[[Pool], Awaitable[Result]]) -> Result:
    return ask(settings(), question)


def _plain(row: Instrument) -> dict[str, Any]:
    from serve_apps.api.instruments import percent_text
    from serve_apps.exchange.numbers import asset_text, shortest

    terms = Rules(row.base, row.quote, row.tick, row.lot)
    return {
        **{name: getattr(row, name) for name in ("symbol", "type", "name", "status", "reason")},
        "description": row.description,
        "tick": shortest(row.tick),
        "lot": shortest(row.lot),
        "notional_min": asset_text(row.notional_min * terms.unit),
        "maker": percent_text(row.maker),
        "taker": percent_text(row.taker),
        "issued": shortest(row.issued) if row.issued else None,
        "issuer": str(row.issuer) if row.issuer else None,
        "listed_at": row.listed_at,
        "changed_at": row.changed_at,
    }


@app.command("show")
def show_instrument(
    symbol: Annotated[
        str | None, typer.Argument(help="One (default: all, in a line each).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one instrument in full, or all that are listed."""
    if symbol is None:
        rows = _ask(catalogue.all_instruments)
        if as_json:
            show([_plain(row) for row in rows])
            return
        for row in rows:
            mark = "" if row.status in LISTED[:1] else f"  ({row.status}: {row.reason})"
            typer.echo(f"{row.symbol:<12} {row.type:<7} {row.name}{mark}")
        if not rows:
            typer.echo("Nothing is listed.")
        return
    found = _ask(lambda pool: catalogue.instrument(pool, symbol.upper()))
    if found is None:
        refuse(f"Nothing is listed as {symbol.upper()}.")
    plain = _plain(found)
    if as_json:
        show(plain)
        return
    for name, value in plain.items():
        if value not in (None, ""):
            typer.echo(f"{name:<14} {value}")

"""``kontor history``: what the projector has made of the journal, and how to have it made anew."""

from __future__ import annotations

import msgspec
import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.permissions import noted
from persistence.database import Pool
from persistence.following import Position
from persistence.trading.projector import CURSOR, start_over

app = typer.Typer(help="How far trading history is, and making it anew from the journal.")


def _show(found: list[Position], as_json: bool) -> None:
    if as_json:
        rows = [{**msgspec.to_builtins(place), "behind": place.behind} for place in found]
        show(rows)
        return
    for place in found:
        late = f", {place.behind_s:.1f} s" if place.behind else ""
        typer.echo(
            f"{place.stream:<14} {place.seq:>12,} of {place.head:,}  behind {place.behind:,}{late}"
        )


@app.command("show")
def show_positions(as_json: Json = False) -> None:
    """Show how far each stream of the journal has been read."""
    _show(ask(settings(), CURSOR.positions), as_json)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Forget trades, candles, orders and fills; the projector makes them anew from the journal."""
    chosen = settings()

    async def work(pool: Pool) -> None:
        async with noted(pool, "platform.rebuild", "history"):
            await start_over(pool)

    ask(chosen, work)
    _show(ask(chosen, CURSOR.positions), as_json)

"""``kontor canary``: a second version beside the first, with a share of the traffic.

The commands write what is wished for; ``kontor up`` carries it out (``cluster.canary``). So each
may be interrupted and asked again.
"""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.errors import Exit, StartError
from cluster.release import check_database, check_settings, environ_of, fingerprint, look_at
from persistence import releases
from persistence.audit import Actor
from persistence.database import Pool
from persistence.releases import New, Refused, Release, Side

app = typer.Typer(help="Try a version on a share of the clients; promote it or roll it back.")

Result = TypeVar("Result")

_LOOK_S: Final = 0.2
_TAKEN_UP_S: Final = 30.0
_PATIENCE_S: Final = 400.0

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done.")]
Weight = Annotated[int, typer.Option(min=0, max=100, help="Percent of the clients.")]


@app.command()
def start(
    weight: Weight = 10,
    path: Annotated[
        Path | None, typer.Option(help="Folder with that version's code (default: the same code).")
    ] = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of its own, as KONTOR_NAME=value; repeatable."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="How many replicas it gets.")] = 1,
    max_error_rate: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=99, help="Percent of errors beyond which it is rolled back by itself."
        ),
    ] = None,
    max_latency_ratio: Annotated[
        float | None,
        typer.Option(
            min=1.2,
            max=100,
            help="So many times the stable version's p95 may its own be; beyond, it is rolled back"
            " by itself.",
        ),
    ] = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Start a second version beside the first, check its health, and give it its share."""
    given = _variables(chosen or ())
    if path is None and not given:
        refuse("A canary differs by its code (--path) or by its settings (--set).")

    async def work(pool: Pool) -> Release:
        standing = await releases.promoted(pool)
        folder = str(path.resolve()) if path else standing.path if standing else ""
        wanted = {**(standing.settings if standing else {}), **given}
        description = look_at(folder, {**environ_of(settings()), **wanted})
        check_settings(description, given)
        await check_database(pool, description)
        new = New(
            folder, wanted, description.name, fingerprint(), weight, replicas,
            max_error_rate or settings().canary_max_error_rate,
            max_latency_ratio or settings().canary_max_latency_ratio,
        )  # fmt: skip
        release = await releases.begin(pool, new, _console())
        return release if no_wait else await _follow(pool, release, quiet=as_json)

    _show(_ask(work), as_json)


@app.command("weight")
def weigh(
    percent: Annotated[int, typer.Argument(min=0, max=100, help="Percent of the clients.")],
    as_json: Json = False,
) -> None:
    """Give the canary another share; whoever meets it goes on doing so when the share grows."""

    async def work(pool: Pool) -> Release:
        return await releases.steer(pool, _console(), weight=percent)

    _show(_ask(work), as_json)


@app.command()
def promote(no_wait: NoWait = False, as_json: Json = False) -> None:
    """Put the canary's version in the stable one's place, for all clients."""
    _steer(releases.PROMOTING, no_wait, as_json)


@app.command()
def rollback(no_wait: NoWait = False, as_json: Json = False) -> None:
    """Send all clients to the stable version again, and end the canary."""
    _steer(releases.ROLLING_BACK, no_wait, as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Compare the canary, or the last one, with the stable version."""

    async def work(pool: Pool) -> Release | None:
        return await releases.latest(pool)

    release = _ask(work)
    if release is not None:
        _show(release, as_json)
    elif as_json:
        show({"canary": None})
    else:
        typer.echo("There has been no canary yet.")


def _steer(state: str, no_wait: bool, as_json: bool) -> None:
    async def work(pool: Pool) -> Release:
        release = await releases.steer(pool, _console(), state=state)
        return release if no_wait else await _follow(pool, release, quiet=as_json)

    _show(_ask(work), as_json)


def _variables(chosen: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in chosen:
        name, equals, value = text.partition("=")
        if not equals:
            refuse(f"{text} is not of the form KONTOR_NAME=value.")
        found[name.strip().upper()] = value
    return found


def _console() -> Actor:
    return Actor(None, f"{getpass.getuser()} on the command line", "console")


def _ask(question: Callable[[Pool], Awaitable[Result]]) -> Result:
    try:
        return ask(settings(), question)
    except Refused as error:
        refuse(str(error))
    except KeyboardInterrupt:
        typer.echo("kontor: It goes on by itself; `kontor canary status` shows it.", err=True)
        raise typer.Exit(130) from None


async def _follow(pool: Pool, begun: Release, *, quiet: bool) -> Release:
    """Tell each step, until the release has arrived where it was to."""
    console = Console(stderr=True, highlight=False, quiet=quiet)
    started, said = time.monotonic(), ""
    while True:
        release = await releases.latest(pool)
        assert release is not None
        if release.id != begun.id or release.state != begun.state:
            return release
        if release.step != said:
            said = release.step
            console.print(f"  {said}", style="dim")
        waited = time.monotonic() - started
        if (not said and waited > _TAKEN_UP_S) or waited > _PATIENCE_S:
            raise StartError(
                "No platform carries it out: is `kontor up` running? The wish stands",
                Exit.NOT_RUNNING,
            )
        await asyncio.sleep(_LOOK_S)


def _show(release: Release, as_json: bool) -> None:
    if as_json:
        show({"canary": as_plain(release)})
    else:
        _tell(release)
    if release.state == releases.FAILED:
        raise typer.Exit(1)


def as_plain(release: Release) -> dict[str, object]:
    """A release as JSON: as it is, with rates of errors worked out."""
    found: dict[str, object] = msgspec.to_builtins(release)
    sides = {"stable": release.comparison.stable, "canary": release.comparison.canary}
    found["comparison"] = {
        name: {**msgspec.to_builtins(side), "error_rate": round(side.error_rate, 3)}
        for name, side in sides.items()
    }
    return found


def _tell(release: Release) -> None:
    console = Console(highlight=False)
    what = release.path or "the same code"
    chosen = "".join(f" {name}={value}" for name, value in sorted(release.settings.items()))
    console.print(f"Canary {release.id} is {release.state.replace('_', ' ')}: {release.version}")
    console.print(f"  {what}{chosen}, {release.weight} % of the clients", style="dim")
    if release.bounds:
        console.print(f"  rolled back by itself {' or '.join(release.bounds)}", style="dim")
    if release.reason:
        console.print(f"  {release.reason}")
    if release.comparison.stable.requests or release.comparison.canary.requests:
        console.print(_table(release))


def _table(release: Release) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("Version", no_wrap=True)
    for column in ("Requests", "Errors", "Errors %", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="right", no_wrap=True)

    def row(name: str, side: Side) -> None:
        table.add_row(
            name, f"{side.requests:,}", f"{side.errors:,}", f"{side.error_rate:.2f}",
            f"{side.p50_s * 1_000:.1f}", f"{side.p95_s * 1_000:.1f}", f"{side.p99_s * 1_000:.1f}",
        )  # fmt: skip

    row("stable", release.comparison.stable)
    row("canary", release.comparison.canary)
    return table

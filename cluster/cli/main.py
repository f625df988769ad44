"""Commands and their options; each hands over to the code that does the work."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Annotated, Any

import msgspec
import typer
from pydantic import ValidationError
from rich.console import Console

from cluster.errors import Exit, StartError
from cluster.settings import Settings

app = typer.Typer(
    name="kontor",
    help="Kontor: accounts and payments on durable actors.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code."""
    try:
        app()
    except StartError as error:
        typer.echo(f"kontor: {error}", err=True)
        sys.exit(error.code)


def settings() -> Settings:
    """Read the settings, or end with one line for each value that cannot be."""
    try:
        return Settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            text = problem["msg"].removeprefix("Value error, ")
            lines.append(f"KONTOR_{name}: {text}" if name else text)
        raise StartError("; ".join(lines), Exit.SETTINGS) from None


def show(value: Any) -> None:
    """Print a result as JSON."""
    typer.echo(json.dumps(value, indent=2, default=str))


@app.callback()
def version(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of the command itself."""
    if show_version:
        typer.echo(f"kontor {importlib.metadata.version('kontor')}")
        raise typer.Exit


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Demo customers, in development mode.")
    ] = True,
) -> None:
    """Start the platform here and run it until Ctrl-C or SIGTERM."""
    from cluster.cli.up import up as run

    run(settings(), with_demo=demo)


@app.command()
def status(as_json: Json = False) -> None:
    """Show each Ray actor: kind, state, what it hosts, journal position, lag, restarts, memory."""
    from cluster import addresses
    from cluster.cli.tables import status_table
    from cluster.datafolder import DataFolder
    from cluster.status import read

    chosen = settings()
    platform = addresses.read(chosen)
    actors = read(platform, DataFolder(chosen.data_dir))
    if as_json:
        show({"platform": msgspec.to_builtins(platform), "actors": msgspec.to_builtins(actors)})
    else:
        Console().print(status_table(platform, actors))


@app.command()
def migrate(as_json: Json = False) -> None:
    """Bring the database schema up to date."""
    from cluster.servers import bring_up_to_date, database

    with database(settings()) as url:
        applied = [f"{item.version:04d}_{item.name}" for item in bring_up_to_date(url)]
    if as_json:
        show({"applied": applied})
    else:
        typer.echo("\n".join(applied) or "The schema is up to date.")


@app.command()
def assets(
    force: Annotated[bool, typer.Option("--force", help="Build even if nothing changed.")] = False,
) -> None:
    """Build the front-end assets: npm packages, scripts, the style sheet."""
    from cluster.assets import build

    if not build(lambda text: typer.echo(f"assets: {text}"), force=force):
        typer.echo("assets: up to date")

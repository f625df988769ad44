"""Commands and their options; each hands over to the code that does the work."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Annotated, Any

import typer
from pydantic import ValidationError

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
            lines.append(f"{f'KONTOR_{name}: ' if name else ''}{problem['msg']}")
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
def assets(
    force: Annotated[bool, typer.Option("--force", help="Build even if nothing changed.")] = False,
) -> None:
    """Build the front-end assets: npm packages, scripts, the style sheet."""
    from cluster.assets import build

    if not build(lambda text: typer.echo(f"assets: {text}"), force=force):
        typer.echo("assets: up to date")

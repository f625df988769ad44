"""Commands and their options; each hands over to the code that does the work."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from cluster import runtime
from cluster.errors import Exit, StartError
from cluster.settings import Settings
from persistence.database import Pool

app = typer.Typer(
    name="kontor",
    help="Kontor: accounts and payments on durable actors.",
    no_args_is_help=True,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
journal = typer.Typer(help="Read and verify the journal.", no_args_is_help=True)
app.add_typer(journal, name="journal")
Stream = Annotated[str | None, typer.Option(help="One stream, such as accounts/0 (default: all).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def main() -> None:
    """Run the command line; an expected failure is one line on stderr and an exit code."""
    runtime.apply(runtime.FLAGS)  # before anything imports Ray, which reads them but once
    from cluster.cli.permissions import guard

    try:
        guard(typer.main.get_command(app))()
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
    except SettingsError as error:
        found = re.search(r'field "(\w+)"', str(error))
        name = f"KONTOR_{found.group(1).upper()}" if found else "A setting"
        raise StartError(f"{name} is not valid JSON", Exit.SETTINGS) from None


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
def node(
    join: Annotated[
        str | None, typer.Option(help="HOST:PORT of the head; without it this is the head.")
    ] = None,
) -> None:
    """Make this machine a node of a Ray cluster, with the flags that Kontor needs."""
    from cluster import logs, split
    from cluster.platform import DASHBOARD_PORT, METRICS_PORT
    from serve_apps.gateway.front import via_header

    chosen = settings()
    folder = chosen.data_dir.resolve()
    runtime.apply(runtime.CLUSTER_FLAGS)
    runtime.apply({logs.FOLDER_VARIABLE: str(folder / "log")})
    split.put_before_haproxy(folder, chosen.forwarded_hops)
    if chosen.secret_key is not None:
        key = chosen.secret_key.get_secret_value().encode()
        runtime.apply(runtime.address_header(via_header(key)))
    if join is None:
        runtime.keep_control_store(folder / "ray-control")
    command = runtime.node_command(
        join,
        dashboard_host=chosen.dashboard_host,
        dashboard_port=chosen.dashboard_port or DASHBOARD_PORT,
        metrics_port=chosen.metrics_port or METRICS_PORT,
    )
    os.execv(command[0], command)


@app.command()
def status(as_json: Json = False) -> None:
    """Show each Ray actor with its condition, the nodes, and what the supervisor did last."""
    from cluster import addresses
    from cluster.cli.tables import incidents_table, nodes_table, status_table
    from cluster.datafolder import DataFolder
    from cluster.status import read, supervision

    chosen = settings()
    platform = addresses.read(chosen)
    actors = read(platform, DataFolder(chosen.data_dir))
    known = supervision(chosen)
    if as_json:
        parts = {"platform": platform, "actors": actors, **msgspec.structs.asdict(known)}
        show(msgspec.to_builtins(parts))
    else:
        console = Console()
        console.print(status_table(platform, actors))
        if sum(node.alive for node in known.nodes) > 1:
            console.print(nodes_table(known.nodes))
        console.print(incidents_table(known.incidents))


@app.command()
def check(as_json: Json = False) -> None:
    """Prove the books from the database: sums are zero, balances equal replay, nothing is lost."""
    from cluster.cli.asking import ask
    from cluster.cli.books import prove, show_report

    report = ask(settings(), prove)
    if as_json:
        show(msgspec.to_builtins(report))
    else:
        show_report(Console(highlight=False), report)
    if not report.ok:
        raise typer.Exit(Exit.PROOF_FAILED)


@journal.command("show")
def journal_show(
    stream: Stream = None,
    first: Annotated[int, typer.Option(help="First row to show.", min=1)] = 1,
    limit: Annotated[int, typer.Option(help="How many rows of each stream.", min=1)] = 20,
    as_json: Json = False,
) -> None:
    """Show rows of the journal, decoded."""
    from cluster import books
    from cluster.cli.asking import ask
    from cluster.cli.books import show_rows

    def question(pool: Pool) -> Awaitable[list[dict[str, Any]]]:
        return books.journal(pool, stream=stream, first=first, limit=limit)

    rows = ask(settings(), question)
    if as_json:
        show(rows)
    else:
        show_rows(Console(highlight=False), rows)


@journal.command("verify")
def journal_verify(stream: Stream = None, as_json: Json = False) -> None:
    """Follow the hash chain of each stream and name the first broken link."""
    from cluster import books
    from cluster.cli.asking import ask
    from cluster.cli.books import show_chains

    chains = ask(settings(), lambda pool: books.verify(pool, stream=stream))
    if as_json:
        show(msgspec.to_builtins(chains))
    else:
        show_chains(Console(highlight=False), chains)
    if not all(chain.ok for chain in chains):
        raise typer.Exit(Exit.PROOF_FAILED)


@journal.command("rebuild")
def journal_rebuild(as_json: Json = False) -> None:
    """Make snapshots, checkpoints and lost slots anew from the journals of a platform at rest."""
    from cluster.cli.asking import ask
    from cluster.cli.books import made_anew

    done = ask(settings(), made_anew)
    if as_json:
        show(msgspec.to_builtins(done))
        return
    for one in done:
        slots = f", {one.slots:,} lost slots are its own again" if one.slots else ""
        typer.echo(f"{one.stream}: {one.entities:,} entities as of row {one.rows:,}{slots}")
    typer.echo("Prove it with `kontor check`.")


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


@app.command("compile")
def compile_engine(
    into: Annotated[
        Path | None, typer.Option(help="Folder of installed packages (default: this one's).")
    ] = None,
) -> None:
    """Compile the matching engine, where there is a C compiler; it runs without, slower."""
    from cluster.compiling import compile_engine

    compile_engine(lambda text: typer.echo(f"engine: {text}"), into)


@app.command()
def assets(
    force: Annotated[bool, typer.Option("--force", help="Build even if nothing changed.")] = False,
) -> None:
    """Build the front-end assets: npm packages, scripts, the style sheet."""
    from cluster.assets import build

    if not build(lambda text: typer.echo(f"assets: {text}"), force=force):
        typer.echo("assets: up to date")

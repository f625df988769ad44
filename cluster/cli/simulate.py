"""``kontor simulate``: the platform in simulated worlds, each from one seed."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.cli.main import Json, show
from cluster.errors import Exit


def simulate(
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 100,
    ops: Annotated[int, typer.Option(help="Operations of each seed.", min=1)] = 2_000,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes that work at it.", min=1)] = 2,
    trading: Annotated[
        bool, typer.Option("--trading", help="Customers trade instead of paying each other.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the platform in simulated worlds full of faults and hold it against a model.

    A failing seed is printed with a plan made smaller that fails, too; the same seed, number of
    operations and commit give the same run. Ends with 1 when a promise was broken.
    """
    from cluster.simulation.runner import Summary, simulate

    console = Console(stderr=True, highlight=False)
    started = time.monotonic()
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=as_json) as bar:
        task = bar.add_task("simulate", total=seeds, note="")

        def progress(summary: Summary) -> None:
            bar.update(task, advance=1, note=f"{summary.turns} turns, {summary.faults} faults")

        summary = simulate(
            seeds, ops, first=seed, workers=workers, progress=progress, trading=trading
        )
    took = time.monotonic() - started
    if as_json:
        show({**msgspec.to_builtins(summary), "seconds": round(took, 2)})
    else:
        _tell(summary, took)
    if summary.failures:
        raise typer.Exit(Exit.PROOF_FAILED)


def _tell(summary: object, took: float) -> None:
    from cluster.simulation.runner import Summary

    assert isinstance(summary, Summary)
    for failure in summary.failures:
        outcome = failure.outcome
        typer.echo(
            f"seed {outcome.seed} of {summary.ops_each} operations at commit"
            f" {summary.commit or 'unknown'} breaks promise {outcome.check}: {outcome.violation}"
        )
        typer.echo(f"made smaller in {failure.runs} runs:")
        for line in failure.trace:
            typer.echo(f"  {line}")
    typer.echo(
        f"{summary.ops} operations, {summary.turns} turns, {summary.faults} faults,"
        f" {summary.recoveries} incarnations and {summary.virtual_seconds / 60:.0f} virtual minutes"
        f" in {took:.1f} s; {len(summary.failures)} seeds failed"
    )

"""``kontor chaos``: break a platform under load, and prove that nothing was lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from cluster.cli.main import Json, show
from cluster.errors import Exit

if TYPE_CHECKING:
    from cluster.chaos.run import Report


def chaos(
    seconds: Annotated[float, typer.Option(help="How long faults strike.", min=1)] = 600,
    every: Annotated[float, typer.Option(help="Seconds from fault to fault.", min=0)] = 5,
    seed: Annotated[
        int | None, typer.Option(help="Which faults, in which order (default: another each time).")
    ] = None,
    faults: Annotated[
        str | None, typer.Option(help="Only these, with commas between; `--faults ?` lists them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Break a platform of its own under load for a while, then prove that nothing was lost."""
    from cluster.chaos.faults import FAULTS
    from cluster.chaos.run import Options, plain, run

    chosen = tuple(FAULTS)
    if faults is not None:
        chosen = tuple(name.strip() for name in faults.split(","))
        if not set(chosen) <= FAULTS.keys():
            raise typer.BadParameter(f"choose among: {', '.join(FAULTS)}", param_hint="--faults")
    options = Options(
        seconds=seconds,
        every=every,
        seed=random.randrange(1_000_000) if seed is None else seed,
        faults=chosen,
    )
    with Progress(
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True, highlight=False),
    ) as bar:
        task = bar.add_task("", total=seconds)

        def progress(done: float, what: str) -> None:
            bar.update(task, completed=min(done, seconds), description=what)
            if not bar.console.is_terminal:
                typer.echo(f"chaos: {done:6.1f} s  {what}", err=True)

        report = run(options, progress)
    if as_json:
        show(plain(report))
    else:
        show_report(Console(highlight=False), report)
    if not report.ok:
        raise typer.Exit(Exit.PROOF_FAILED)


def show_report(console: Console, report: Report) -> None:
    """The report for people."""
    table = Table("Fault", "Count", "Pause, median", "Pause, longest")
    for kind in report.kinds:
        table.add_row(
            kind.fault, f"{kind.count}", f"{kind.pause_s_median:.2f} s", f"{kind.pause_s_max:.2f} s"
        )
    console.print(table)
    console.print(
        f"  {report.faults} faults in {report.seconds:,.0f} s, seed {report.seed}\n"
        f"  {report.acknowledged:,} transfers acknowledged ({report.per_second:,.0f}/s),"
        f" {report.refused:,} refused, {report.repeated:,} requests repeated\n"
        f"  {report.verdict.stored:,} transfers in the database, sums {report.verdict.sums}\n"
        f"  {report.orders:,} orders and {report.cancels:,} cancels acknowledged,"
        f" {report.orders_repeated:,} batches repeated, {report.trades:,} trades"
    )
    for finding in report.verdict.findings:
        console.print(f"  [red]✗[/] {finding}")
    if report.kept is not None:
        console.print(f"  Database and logs are kept in {report.kept}")
    verdict = "[green]Nothing was lost.[/]" if report.ok else "[red]Something is wrong.[/]"
    console.print(verdict)

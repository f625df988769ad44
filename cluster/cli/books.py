"""``kontor check`` and ``kontor journal``: the proof that the books are right, and the journal."""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import typer
from rich.console import Console
from rich.pretty import pprint
from rich.table import Table

from actors.durable.memory import Imbalance
from cluster import books
from cluster.cli.permissions import noted
from cluster.errors import Exit, StartError
from cluster.rebuild import Rebuilt, rebuild
from domain.durable import Diverged
from persistence import proofs
from persistence.database import Pool
from persistence.journal import Corrupt, Fenced


async def prove(pool: Pool) -> books.Report:
    """Prove the books, and keep the result for the operations page."""
    started = time.monotonic()
    report = await books.check(pool)
    seconds = time.monotonic() - started
    try:
        await proofs.record(pool, ok=report.ok, findings=len(report.findings), seconds=seconds)
    except asyncpg.PostgresError as error:
        # A schema of before, a full disk, a database that is only read: the report counts.
        typer.echo(f"kontor: The result is not kept: {error}", err=True)
    return report


async def made_anew(pool: Pool) -> list[Rebuilt]:
    """Snapshots and checkpoints from the journals; what stands against it is one line."""
    try:
        async with noted(pool, "platform.rebuild", "snapshots"):
            return await rebuild(pool)
    except (Corrupt, Imbalance, Diverged) as error:
        raise StartError(str(error), Exit.PROOF_FAILED) from None
    except Fenced:
        raise StartError(
            "The platform is running: stop it, then rebuild", Exit.DATA_LOCKED
        ) from None


def show_report(console: Console, report: books.Report) -> None:
    """The result of ``kontor check`` for people."""
    for name, count in report.counts.items():
        console.print(f"  {name.replace('_', ' ')}: {count:,}")
    table = Table("Asset", "Sum of all accounts", "In transit")
    for asset in sorted({*report.sums, *report.in_transit}):
        in_transit = report.in_transit.get(asset, 0)
        table.add_row(asset, f"{report.sums.get(asset, 0):,}", f"{in_transit:,}")
    console.print(table)
    for finding in report.findings:
        console.print(f"  [red]✗[/] {finding}")
    console.print("[green]The books are right.[/]" if report.ok else "[red]The books are wrong.[/]")


def show_chains(console: Console, chains: list[books.Chain]) -> None:
    """The result of ``kontor journal verify`` for people."""
    for chain in chains:
        mark = "[green]✓[/]" if chain.ok else "[red]✗[/]"
        detail = "" if chain.ok else f": first broken link at {chain.broken_at}: {chain.reason}"
        console.print(f"  {mark} {chain.stream}: {chain.rows:,} rows{detail}")


def show_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    """Journal rows for people."""
    for row in rows:
        pprint(row, console=console, expand_all=True)

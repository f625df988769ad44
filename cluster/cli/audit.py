"""``kontor audit``: search, verify and export the log of who did what."""

from __future__ import annotations

import csv
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, TypeVar

import msgspec
import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import actor_for
from cluster.errors import Exit
from domain.identity.permissions import Permission
from persistence import audit
from persistence.audit import COLUMNS, Filter, Row, Verdict
from persistence.database import Pool

app = typer.Typer(help="The audit log: search, verify, export.")

Result = TypeVar("Result")

Text = Annotated[str, typer.Option(help="Text in any column.")]
Action = Annotated[str, typer.Option(help="What was done, such as roles.give.")]
Subject = Annotated[str, typer.Option(help="To what, such as customer:1234567890.")]
By = Annotated[int | None, typer.Option(help="Customer number of who did it.")]
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (UTC).")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day after the last.")]


def _ask(question: Callable[[Pool], Awaitable[Result]]) -> Result:
    return ask(settings(), question)


def _filter(
    text: str, action: str, subject: str, by: int | None, since: datetime | None,
    until: datetime | None,
) -> Filter:  # fmt: skip
    return Filter(
        text,
        action,
        subject,
        by,
        None if since is None else since.replace(tzinfo=UTC),
        None if until is None else until.replace(tzinfo=UTC),
    )


@app.command()
def search(
    text: Text = "", action: Action = "", subject: Subject = "", by: By = None,
    since: Since = None, until: Until = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show entries, newest first."""
    flt = _filter(text, action, subject, by, since, until)
    rows = _ask(lambda pool: audit.search(pool, flt, limit))
    if as_json:
        show([_plain(row) for row in rows])
        return
    for row in rows:
        where = f" from {row.ip}" if row.ip else ""
        typer.echo(
            f"{row.seq:>8}  {row.at:%Y-%m-%d %H:%M:%S}  {row.action}  {row.subject}"
            f"  by {row.by} ({row.origin}{where})  {row.before} -> {row.after}"
        )
    if not rows:
        typer.echo("No entry fits.")


@app.command()
def verify(
    known: Annotated[
        list[str] | None,
        typer.Option(help="NUMBER:HASH that was noted before, to hold the chain against."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow the chain from the first entry to its head, and name the first that does not fit."""
    noted = dict(_noted(text) for text in known or ())
    verdict: Verdict = _ask(lambda pool: audit.verify(pool, noted))
    if as_json:
        show({"ok": verdict.ok, **msgspec.to_builtins(verdict)})
    elif verdict.ok:
        typer.echo(f"{verdict.rows:,} entries, none changed. Head: {verdict.rows}:{verdict.head}")
    else:
        typer.echo(f"Broken at entry {verdict.broken_at}: {verdict.reason}.")
    if not verdict.ok:
        raise typer.Exit(Exit.PROOF_FAILED)


def _noted(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not (number.isdigit() and len(digest) == 64):
        refuse(f"{text} is not NUMBER:HASH, as `kontor audit verify` shows.")
    return int(number), digest


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="File (default: standard output).")] = None,
    json_lines: Annotated[bool, typer.Option("--json-lines", help="Instead of CSV.")] = False,
    text: Text = "", action: Action = "", subject: Subject = "", by: By = None,
    since: Since = None, until: Until = None,
) -> None:  # fmt: skip
    """Write all entries that fit, newest first, as CSV. That it was done is an entry, too."""
    flt = _filter(text, action, subject, by, since, until)

    async def work(pool: Pool) -> int:
        actor = await actor_for(pool, Permission.AUDIT_EXPORT, None)
        asked = {name: str(value) for name, value in msgspec.structs.asdict(flt).items() if value}
        await audit.record(pool, actor.did("audit.export", "audit", {}, asked))
        if out is None:
            return await _write(pool, flt, sys.stdout, json_lines)
        with out.open("w", encoding="utf-8", newline="") as file:
            return await _write(pool, flt, file, json_lines)

    count = _ask(work)
    if out is not None:
        typer.echo(f"{count:,} entries are in {out}.")


async def _write(pool: Pool, flt: Filter, file: TextIO, json_lines: bool) -> int:
    writer = csv.writer(file)
    if not json_lines:
        writer.writerow(COLUMNS)
    count = 0
    async for row in audit.export(pool, flt):
        plain = _plain(row)
        if json_lines:
            file.write(msgspec.json.encode(plain).decode() + "\n")
        else:
            writer.writerow(plain.values())
        count += 1
    return count


def _plain(row: Row) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in COLUMNS}
    values.update(at=row.at.isoformat(), previous_hash=row.previous_hash.hex(), hash=row.hash.hex())
    return values

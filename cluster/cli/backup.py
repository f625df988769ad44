"""``kontor backup`` and ``kontor restore``: copies of the database, and the way back."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

from cluster.cli.main import Json, settings, show
from cluster.cli.permissions import console
from cluster.errors import Exit, StartError
from persistence import audit
from persistence.database import open_pool

if TYPE_CHECKING:
    from cluster.backup import Follower, Source, Tell
    from cluster.backup_folder import Backup, BackupFolder
    from cluster.settings import Settings

_LOOK_S = 0.5
_LINE_EVERY = 120

Folder = Annotated[Path, typer.Argument(help="The folder of backups.", show_default=False)]


def backup(
    folder: Folder,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on receiving the write-ahead log until Ctrl-C.")
    ] = False,
    synchronous: Annotated[
        bool,
        typer.Option(
            "--synchronous",
            help="With --follow: nothing is acknowledged that the folder does not have, too.",
        ),
    ] = False,
    release: Annotated[
        bool,
        typer.Option("--release", help="Only let go commits that wait for a follower that died."),
    ] = False,
    keep: Annotated[
        int | None, typer.Option(help="Keep so many backups and remove older ones.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a verified backup of the database, whether or not the platform runs."""
    from cluster import backup as work
    from cluster.backup_folder import BackupFolder

    if synchronous and not follow:
        raise typer.BadParameter("--synchronous needs --follow")
    place = BackupFolder(folder)
    chosen = settings()
    with _source(chosen, must_run=follow or release) as source:
        asyncio.run(_note(source.url, folder.resolve(), "release" if release else "make"))
        if release:
            work.release(source)
            _say("Commits wait for nobody.", as_json)
            return
        if not follow:
            with _progress() as tell:
                made = work.make(source, place, tell)
            _finish(place, made, keep, as_json)
            return
        run = place.wal / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        with work.following(source, run, synchronous=synchronous) as follower:
            try:
                with _progress() as tell:
                    made = work.make(source, place, tell)
            except BaseException:
                follower.discard()
                raise
            _finish(place, made, keep, as_json)
            follower.hold_commits()
            _follow(follower, as_json)


def restore(
    folder: Annotated[
        Path, typer.Argument(help="The folder of backups, or one of them.", show_default=False)
    ],
    data_dir: Annotated[
        Path | None, typer.Option(help="The new data folder (default: KONTOR_DATA_DIR).")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            help="Go no further than this moment, UTC.",
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"],
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Prove the books afterwards.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Make a new data folder from a backup, as far as its log goes or to a moment before."""
    from cluster.backup_folder import BackupFolder
    from cluster.backup_restore import restore as work

    chosen = settings()
    if data_dir is None and chosen.database_url is not None:
        raise StartError(
            "KONTOR_DATABASE_URL is set: a restore is into a data folder, name it with --data-dir",
            Exit.SETTINGS,
        )
    with _progress() as tell:
        done = work(
            BackupFolder(folder),
            data_dir or chosen.data_dir,
            tell,
            until=None if until is None else until.replace(tzinfo=UTC),
            check=check,
        )
    if as_json:
        show(msgspec.to_builtins(done))
    else:
        _show_restored(done)
    if done.report is not None and not done.report.ok:
        raise typer.Exit(Exit.PROOF_FAILED)


def _show_restored(done: Any) -> None:
    from cluster.cli.books import show_report

    console = Console(highlight=False)
    for stream, seq in sorted(done.journal.items()):
        console.print(f"  {stream}: {seq:,} turns")
    if done.reaches is not None:
        console.print(f"  the last of {done.reaches:%Y-%m-%d %H:%M:%S.%f} UTC")
    if done.report is not None:
        show_report(console, done.report)
    console.print(f"Restored into {done.data_dir}", soft_wrap=True)
    console.print("The secret is not in a backup: forms that are open become invalid.")


async def _note(url: str, folder: Path, what: str) -> None:
    """Write down that all that there is about everybody is copied, and where to."""
    pool = await open_pool(url, name="kontor backup", size_max=1)
    try:
        with suppress(asyncpg.UndefinedTableError):  # no schema yet, so nothing about anybody
            done = console().did(f"platform.backup.{what}", str(folder))
            await audit.record(pool, done)
    finally:
        await pool.close()


@contextmanager
def _source(chosen: Settings, *, must_run: bool) -> Iterator[Source]:
    from cluster import addresses
    from cluster.backup import Source
    from cluster.servers import database

    if must_run and chosen.database_url is None:
        addresses.read(chosen)
    with database(chosen) as url:
        yield Source(url, chosen.database_url is None)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True, highlight=False)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        yield tell


def _say(text: str, as_json: bool) -> None:
    typer.echo(text, err=as_json)


def _finish(place: BackupFolder, made: Backup, keep: int | None, as_json: bool) -> None:
    removed = place.prune(keep) if keep is not None else []
    if as_json:
        show(
            {
                "path": str(made.path),
                **msgspec.to_builtins(made.manifest),
                "removed": [str(path) for path in removed],
            }
        )
        return
    seconds = (made.manifest.ended - made.manifest.started).total_seconds()
    megabytes = made.manifest.bytes / 1_000_000
    typer.echo(f"{made.path}: {megabytes:,.1f} MB, verified, {seconds:.1f} s")
    for path in removed:
        typer.echo(f"removed {path}")


def _follow(follower: Follower, as_json: bool) -> None:
    """Say now and then how far the folder is, until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    _say("Following the log. Ctrl-C stops it.", as_json)
    console = Console(stderr=True, highlight=False)
    looks = 0
    connected = True
    with console.status("") as status:
        while not stop.wait(_LOOK_S):
            follower.check()
            lag = follower.lag()
            text = (
                f"at {lag.position}, {lag.behind_bytes / 1024:,.0f} kB behind"
                if lag.connected
                else "waiting for Postgres"
            )
            status.update(text)
            looks += 1
            if not console.is_terminal and (connected != lag.connected or looks % _LINE_EVERY == 1):
                typer.echo(f"backup: {text}", err=True)
            connected = lag.connected
    _say("Stopped. What was received is in the folder.", as_json)

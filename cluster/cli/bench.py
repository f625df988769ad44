"""``kontor bench``: a platform, or a part of one, of its own in a temporary folder, put under load
and taken away."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.pretty import pprint
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.cli.main import Json
from cluster.cli.main import show as show_json
from cluster.datafolder import DataFolder

if TYPE_CHECKING:
    from benchmarks.payments import Target
    from cluster.chaos.running import Running

app = typer.Typer(no_args_is_help=True)

_SETTINGS = {"KONTOR_LOG_LEVEL": "warning", "KONTOR_DAILY_LIMITS": "{}"}

_NO_LIMITS = {
    f"KONTOR_EXCHANGE_{name}": str(10**9)
    for name in ("ORDERS_10S", "ORDERS_1D", "REQUESTS_1M", "WEIGHT_1M")
}

Seconds = Annotated[float, typer.Option(help="Length of each scenario.", min=1)]
Connections = Annotated[int, typer.Option(help="HTTP connections.", min=1)]
Customers = Annotated[int, typer.Option(help="Customers that pay each other.", min=100)]


@app.callback()
def bench() -> None:
    """Measure the platform on this machine."""
    # Clients of actors and partitions that run in this process have something to say, too.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


@app.command("payments")
def payments(
    seconds: Seconds = 10,
    connections: Connections = 64,
    customers: Customers = 10_000,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="pgbench and plain SQL in the same run.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Durable transfers a second: over HTTP, in the cluster, in batches, and beside peers."""
    from benchmarks.payments import Options, run

    options = Options(seconds=seconds, connections=connections, customers=customers, peers=peers)
    with _platform(**_SETTINGS) as running:
        result = run(_target(running), options, _tell)
    _show(result, as_json=as_json)


@app.command("trading")
def trading(
    seconds: Seconds = 10,
    traders: Annotated[int, typer.Option(help="Customers that trade.", min=2)] = 16,
    batch: Annotated[int, typer.Option(help="Orders in a batch.", min=1, max=1_000)] = 200,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="A database transaction an order.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Durable orders a second: in batches, one by one, over websockets, and beside plain SQL."""
    from benchmarks.trading import Options, run

    options = Options(seconds=seconds, traders=traders, batch=batch, peers=peers)
    with _platform(**_SETTINGS, **_NO_LIMITS) as running:
        result = run(_target(running), options, _tell)
    _show(result, as_json=as_json)


@app.command("engine")
def engine(
    messages: Annotated[int, typer.Option(help="Messages of each flow.", min=10_000)] = 500_000,
    seconds: Annotated[float, typer.Option(help="Of each flow for each peer.", min=0.1)] = 1,
    peers: Annotated[
        str, typer.Option(help="Python of the environment where engines of others are installed.")
    ] = sys.executable,
    plain: Annotated[
        bool, typer.Option("--plain/--no-plain", help="The plain form beside the compiled one.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Messages a second through the matching engine, in five flows, beside engines of others."""
    from benchmarks.engine import Options, run

    options = Options(messages=messages, seconds=seconds, peers=peers, plain=plain)
    _show(run(options, _tell), as_json=as_json)


@app.command("recovery")
def recovery(
    customers: Annotated[
        int, typer.Option(help="Customers changed since the last checkpoint.", min=1_000)
    ] = 100_000,
    segments: Annotated[
        int, typer.Option(help="Pairs of half a minute with and without checkpoints.", min=1)
    ] = 2,
    kills: Annotated[int, typer.Option(help="Actors killed, idle and under load.", min=1)] = 5,
    as_json: Json = False,
) -> None:
    """Seconds to recover a partition, until callers are served again, and what checkpoints cost."""
    from benchmarks import kills as killing
    from benchmarks import local, recovery

    alone = recovery.Options(customers=customers, segments=segments)
    with _folder() as folder, local.postgres(folder) as server:
        result = recovery.run(server.url(), alone, _tell)
    with _platform(**_SETTINGS) as running:
        options = killing.Options(kills=kills)
        result["kills"] = killing.run(running.database_url(), options, _tell)
    _show(result, as_json=as_json)


@app.command("customers")
def customers(
    customers: Annotated[
        int, typer.Option(help="Customers, with three accounts each.", min=100_000)
    ] = 1_000_000,
    as_json: Json = False,
) -> None:
    """Many customers: memory for each, first touch, checkpoint, recovery, start, and disk."""
    from benchmarks import local
    from benchmarks.customers import Options, run

    options = Options(customers=customers)
    with _folder() as folder, local.postgres(folder) as server, _bar(customers) as advance:
        result = run(server.url(), folder, options, _tell, advance)
    _show(result, as_json=as_json)


@app.command("partitions")
def partitions(
    seconds: Seconds = 6,
    customers: Customers = 10_000,
    as_json: Json = False,
) -> None:
    """The load of `payments` with 1, 2 and 4 partitions, and the memory of each."""
    from benchmarks.partitions import Options, measure
    from benchmarks.partitions import result as together

    options = Options(seconds=seconds, customers=customers)
    measured = []
    for count in options.counts:
        _tell(f"{count} partitions")
        settings = {**_SETTINGS, "KONTOR_PARTITIONS": str(count)}
        with _platform(**settings) as running:
            measured.append((count, measure(_target(running), options, _tell)))
    _show(together(options, measured), as_json=as_json)


@app.command("moves")
def moves(
    callers: Annotated[int, typer.Option(help="Customers that pay all the time.", min=1)] = 64,
    rounds: Annotated[int, typer.Option(help="Times from 2 to 4 and back.", min=1)] = 2,
    as_json: Json = False,
) -> None:
    """From 2 partitions to 4 and back under load: the pause of who moves, and how long it takes."""
    from benchmarks.moves import Options, run

    options = Options(callers=callers, rounds=rounds)
    with _platform(**_SETTINGS) as running:
        result = run(running.database_url(), options, _tell)
    _show(result, as_json=as_json)


@app.command("sockets")
def sockets(
    clients: Annotated[int, typer.Option(help="People with an open page.", min=2)] = 2_000,
    rounds: Annotated[int, typer.Option(help="Times that all are told something.", min=1)] = 10,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill a replica while all are told.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Live connections: memory of each, time from commit to page, and what is lost in a break."""
    from benchmarks.sockets import Options, run
    from cluster.servers import embedded_redis

    options = Options(clients=clients, rounds=rounds, kill=kill)
    with _platform(**_SETTINGS) as running:
        redis_url = embedded_redis(DataFolder(running.data_dir)).url()
        result = run(
            running.database_url(),
            redis_url,
            running.url,
            lambda: running.children("ServeReplica"),
            options,
            _tell,
        )
    _show(result, as_json=as_json)


def _tell(text: str) -> None:
    typer.echo(f"bench: {text}", err=True)


def _show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        pprint(result, console=Console(highlight=False), expand_all=True)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kontor-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _platform(**settings: str) -> Iterator[Running]:
    """A platform of its own, in a folder that is not kept."""
    from cluster.chaos.running import a_platform

    with _folder() as folder, a_platform(folder, **settings) as running:
        yield running


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on stderr; call it with how much is done, and of what."""
    columns = BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, what: bar.update(task, completed=done, description=what)


def _target(running: Running) -> Target:
    from benchmarks.payments import Target
    from cluster.servers import embedded_postgres

    data = DataFolder(running.data_dir)
    return Target(
        pid=running.pid,
        secret=data.secret(),
        url=running.url,
        database_url=running.database_url(),
        postgres_binaries=str(embedded_postgres(data).binaries),
    )

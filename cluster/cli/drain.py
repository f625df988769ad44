"""``kontor drain`` and ``kontor undrain``: empty a Ray node of partitions before it leaves.

The wish is written by ``cluster.nodes``, and the supervisor in ``kontor up`` follows it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster import addresses, nodes, runtime
from cluster.cli import moves
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import NoWait
from cluster.cli.permissions import noted
from cluster.datafolder import DataFolder
from cluster.errors import Exit, StartError
from cluster.nodes import CannotDrain
from persistence.database import Pool
from persistence.supervision import NodeRow, UnknownNode

_PATIENCE_S: Final = 600.0

Node = Annotated[str, typer.Argument(help="Name, address, or the first digits of its id.")]


def drain(
    node: Node,
    keep: Annotated[
        bool, typer.Option("--keep", help="Only its partitions leave; Ray is not told.")
    ] = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Move all partitions off a node and let it have no more; then tell Ray that it leaves."""
    again = f"kontor drain {node}"

    async def work(pool: Pool) -> NodeRow:
        async with noted(pool, "platform.drain", f"node:{node}", leaves=not keep and not no_wait):
            found = await nodes.drain(pool, node)
        return found if no_wait else await _follow(pool, found, again, quiet=as_json)

    row = _carry_out(work, again)
    empty = row.partitions == 0
    told = empty and not keep and not no_wait
    if told:
        _leave(row)
    if as_json:
        show({**msgspec.to_builtins(row), "draining": True, "done": empty, "left": told})
    elif not empty:
        typer.echo(f"{row.name} is being emptied; `{again}` goes on watching.")
    elif told:
        typer.echo(f"{row.name} has no partitions and gets no more work; it may be stopped.")
    else:
        typer.echo(f"{row.name} has no partitions; `kontor undrain {node}` takes it back.")


def undrain(node: Node, as_json: Json = False) -> None:
    """Let a node have partitions again, unless Ray was told that it leaves."""

    async def work(pool: Pool) -> NodeRow:
        async with noted(pool, "platform.undrain", f"node:{node}"):
            return await nodes.undrain(pool, node)

    row = _carry_out(work, f"kontor undrain {node}")
    if as_json:
        show({**msgspec.to_builtins(row), "draining": False})
    else:
        typer.echo(f"{row.name} may have partitions again.")


def _carry_out(work: moves.Question[NodeRow], again: str) -> NodeRow:
    try:
        return moves.carry_out(work, again=again, what="The supervisor goes on emptying it")
    except (UnknownNode, CannotDrain) as error:
        moves.refuse(str(error))


async def _follow(pool: Pool, row: NodeRow, again: str, *, quiet: bool) -> NodeRow:
    """Wait until the supervisor has moved all partitions off the node, or the node is gone."""
    console = Console(stderr=True, highlight=False, quiet=quiet or not sys.stderr.isatty())
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("partitions"), TimeElapsedColumn(),
    )  # fmt: skip
    total = row.partitions
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(row.name, total=total)
        try:
            async for now in nodes.progress(pool, row.node, _PATIENCE_S):
                left = 0 if now.empty else now.partitions
                row = msgspec.structs.replace(row, partitions=left, alive=now.alive)
                bar.update(task, completed=max(0, total - left))
        except TimeoutError:
            raise StartError(
                f"{row.name} still has {row.partitions} partitions: is the platform up?"
                f" The wish stands; `{again}` goes on watching",
                Exit.NOT_RUNNING,
            ) from None
    return row


def _leave(row: NodeRow) -> None:
    """Ray's own part: Serve moves its replicas, and nothing more is started there."""
    if not row.alive:
        return
    chosen = settings()
    platform = addresses.read(chosen)
    token = DataFolder(chosen.data_dir).path / "ray-token"
    if token.exists():
        runtime.apply({"RAY_AUTH_TOKEN_PATH": str(token)})
    try:
        nodes.leave(platform.ray, row.node)
    except CannotDrain as error:
        raise StartError(str(error), Exit.RAY) from None

"""``kontor bench``: a platform of its own in a temporary folder, put under load and taken away."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.pretty import pprint

from cluster import ports
from cluster.cli.up import interruptible
from cluster.platform import Platform
from cluster.settings import Settings


def payments(*, seconds: float, connections: int, customers: int, peers: bool) -> dict[str, Any]:
    """Measure payments on this machine; progress is told on stderr."""
    from benchmarks.payments import Options, Target, run

    options = Options(seconds=seconds, connections=connections, customers=customers, peers=peers)

    def tell(text: str) -> None:
        typer.echo(f"bench: {text}", err=True)

    with tempfile.TemporaryDirectory(prefix="kontor-bench-", ignore_cleanup_errors=True) as folder:
        platform = Platform(
            _settings(Path(folder)), lambda step, took: tell(f"{step} {took:.1f} s")
        )
        with interruptible(platform):
            platform.start()
            assert platform.addresses is not None
            assert platform.config is not None
            assert platform.postgres is not None
            target = Target(
                pid=platform.addresses.pid,
                url=platform.addresses.url,
                database_url=platform.config.database_url,
                redis_url=platform.config.redis_url,
                ray_address=platform.addresses.ray,
                postgres_binaries=str(platform.postgres.binaries),
            )
            return run(target, options, tell)
    raise typer.Exit(130)


def show(console: Console, result: dict[str, Any]) -> None:
    """The result for people."""
    pprint(result, console=console, expand_all=True)


def _settings(folder: Path) -> Settings:
    """Embedded servers whatever the environment says: a benchmark must never meet real data."""
    return Settings(
        mode="development",
        host="127.0.0.1",
        port=ports.choose(8090, "127.0.0.1"),
        public_url="",
        data_dir=folder / "var",
        database_url=None,
        redis_url=None,
        ray_address=None,
        dashboard_port=None,
        metrics_port=None,
        secret_key=None,
        daily_limits={},
    )

"""``kontor up``: start, show where everything is, watch, stop on a signal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
from rich.console import Console

from cluster import assets, demo
from cluster.errors import Exit, StartError
from cluster.platform import Platform
from cluster.settings import Settings
from persistence.tasks import end_tasks

log = structlog.get_logger("kontor.up")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _StopRequested(BaseException):
    """A signal came while the platform was still starting."""


def up(settings: Settings, *, with_demo: bool = True) -> None:
    """Run a platform in the foreground until SIGINT or SIGTERM."""
    console = Console(highlight=False)
    started = time.monotonic()
    if not assets.present():
        raise StartError("The pages have no assets yet: run `kontor assets`", Exit.ASSETS)

    def report(step: str, seconds: float) -> None:
        console.print(f"  [green]✓[/] {step} [dim]{seconds:.1f} s[/]")

    platform = Platform(settings, report)
    console.print(f"[bold]Kontor[/] is starting in {platform.data.path}")
    with interruptible(platform, console):
        platform.start()
        _on_signals(_raise_stop)  # Ray puts a handler of its own in place
        with_demo = with_demo and settings.development
        people = _people(platform) if with_demo else []
        _show(console, platform, people, time.monotonic() - started)
        asyncio.run(_run(platform, with_market=with_demo))


@contextmanager
def interruptible(platform: Platform, console: Console | None = None) -> Iterator[None]:
    """Stop ``platform`` at the end of the block, however that comes; a signal ends the block."""
    _on_signals(_raise_stop)
    try:
        yield
    except _StopRequested:
        pass
    finally:
        _on_signals(lambda number, frame: None)
        if platform.claimed:
            if console is not None:
                console.print("Kontor is stopping")
            platform.stop()
            if console is not None:
                console.print("Kontor has stopped")


def _on_signals(handler: object) -> None:
    for number in _SIGNALS:
        signal.signal(number, handler)  # type: ignore[arg-type]


def _raise_stop(number: int, frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)
    raise _StopRequested


async def _run(platform: Platform, *, with_market: bool) -> None:
    """Watch over the platform, and keep the demo's market alive, until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    watching = asyncio.create_task(platform.watch())
    stopping = asyncio.create_task(stop.wait())
    trading = asyncio.create_task(_trade(platform)) if with_market else None
    await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
    tasks = [task for task in (watching, stopping, trading) if task is not None]
    if watching.done():
        stopping.cancel()
        await watching
    await end_tasks(tasks)


def _people(platform: Platform) -> list[demo.Person]:
    """Who can log in, in development mode."""
    assert platform.config is not None
    return asyncio.run(demo.sign_up(platform.config))


async def _trade(platform: Platform) -> None:
    """Open the demo's market, and let a bot trade in it; whoever waits for pages need not wait."""
    from cluster import demo_market  # brings an HTTP client along

    assert platform.config is not None
    try:
        dealers = await demo_market.open_market(platform.config)
    except Exception:
        log.exception("demo_market_not_opened")
        return
    if dealers is not None:
        await demo_market.make_bot(dealers, platform.settings).run()


def _show(console: Console, platform: Platform, people: list[demo.Person], seconds: float) -> None:
    url = platform.settings.url
    assert platform.addresses is not None
    console.print(f"\n[bold green]Kontor is up[/] after {seconds:.1f} s\n")
    console.print(f"  Pages          {url}")
    console.print(f"  API            {url}/api/docs")
    if platform.settings.catches_mail:
        console.print(f"  Caught mail    {url}/dev/mail")
    console.print(f"  Ray dashboard  {platform.addresses.dashboard}")
    if platform.settings.ray_address is None:
        console.print(f"    its token is in {platform.data.path / 'ray-token'}", style="dim")
    console.print(f"  Metrics        {platform.addresses.metrics}")
    console.print(f"  Logs           {platform.data.logs}")
    if people:
        console.print("\n  Demo logins (development mode only)")
        for person in people:
            held = f"   ({', '.join(person.roles)})" if person.roles else ""
            console.print(f"    {person.email}   {person.password}{held}")
    console.print("\nCtrl-C stops it.")

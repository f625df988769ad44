"""Fixtures that every layer's tests share: a real Postgres, a real Redis, fresh databases.

The servers live as long as the test session, in a folder of their own, beside any platform that
runs on the machine. Each test that asks for ``database_url`` gets a migrated database of its own.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from cluster.embedded import EmbeddedPostgres, EmbeddedRedis
from cluster.processes import instance_of, runtime_folder
from persistence.database import Pool, open_pool
from tests.databases import Databases

ROOT = Path(__file__).resolve().parents[1]

# How long an example takes says something of the machine only.
hypothesis.settings.register_profile("kontor", deadline=None)
hypothesis.settings.load_profile("kontor")


@cache
def marked(path: str, mark: str) -> bool:
    """Whether tests of a file have a mark."""
    return f"pytest.mark.{mark}" in (ROOT / path).read_text(encoding="utf-8")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Tests of one file share a worker, and all that start platforms or nodes do: two at a time
    would each take the processors that the other's times rest on."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "platforms" if marked(path, "cluster") or marked(path, "nodes") else path


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers what takes longest begins first: one starts platforms, then nodes, and
    the others do the rest meanwhile, the simulator's minute before the many short files, of which
    all can take some in the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid.partition("::")[0]))


def _turn(path: str) -> int:
    if marked(path, "cluster"):
        return 0
    if marked(path, "nodes"):
        return 1
    return 2 if path.startswith("tests/simulation/") else 3


def pytest_unconfigure(config: pytest.Config) -> None:
    """What failed once more as the last words: of a long output often only its end is kept."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    for report in [*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())]:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message.partition("\n")[0][:160] if crash else ""
        reporter.write_line(f"{report.when}: {report.nodeid} ({report.duration:.1f} s) {said}")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How workers get their tests. xdist's own groups are lost on this pytest's node ids."""
    config.option.loadscopereorder = False  # the order of the collection: see below
    return ByFile(config, log)


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the session's servers; its sockets are in a short folder beside it."""
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    shutil.rmtree(runtime_folder(instance_of(folder)), ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_folder: Path) -> Iterator[EmbeddedPostgres]:
    """One embedded Postgres for the session."""
    instance = instance_of(server_folder)
    server = EmbeddedPostgres(
        server_folder / "postgres",
        runtime_folder(instance),
        server_folder / "postgres.log",
        instance=instance,
        fsync=False,
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres) -> Databases:
    """Migrated databases for the session."""
    found = Databases(postgres)
    asyncio.run(found.open())
    return found


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    async with databases.lend() as url:
        yield url


@pytest.fixture(scope="module")
async def shared_database_url(databases: Databases) -> AsyncIterator[str]:
    """A database of all tests of a module."""
    async with databases.lend() as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A connection pool on the test's own database."""
    pool: asyncpg.Pool[asyncpg.Record] = await open_pool(database_url, name="tests")
    yield pool
    await pool.close()


@pytest.fixture(scope="session")
def redis_url(server_folder: Path) -> Iterator[str]:
    """One embedded Redis for the session; tests keep to keys and channels of their own."""
    instance = instance_of(server_folder)
    server = EmbeddedRedis(
        server_folder / "redis",
        runtime_folder(instance),
        server_folder / "redis.log",
        instance=instance,
    )
    server.start()
    yield server.url()
    server.stop()

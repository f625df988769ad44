"""Postgres and Redis as the platform uses them: its own ones, or those that it is pointed at."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.datafolder import DataFolder
from cluster.embedded import EmbeddedPostgres, EmbeddedRedis
from cluster.errors import Exit, StartError
from cluster.processes import instance_of, runtime_folder, runtime_path
from cluster.settings import Settings
from persistence.database import DatabaseUnavailable, connection, place
from persistence.migrate import Migration, MigrationError, migrate

_REDIS_TIMEOUT_S = 5.0


def embedded_postgres(data: DataFolder) -> EmbeddedPostgres:
    """The Postgres of a data folder, not yet started."""
    instance = instance_of(data.path)
    log = data.logs / "postgres.log"
    return EmbeddedPostgres(data.postgres, runtime_path(instance), log, instance=instance)


def embedded_redis(data: DataFolder) -> EmbeddedRedis:
    """The Redis of a data folder, not yet started."""
    instance = instance_of(data.path)
    log = data.logs / "redis.log"
    return EmbeddedRedis(data.redis, runtime_path(instance), log, instance=instance)


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The platform's database for a short errand, whether or not the platform runs.

    Yields its URL. An embedded Postgres that is not running is started and stopped again.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    data = DataFolder(settings.data_dir)
    server = embedded_postgres(data)
    try:
        data.claim()
    except StartError as error:
        if error.code is not Exit.DATA_LOCKED:
            raise
        yield server.url()
        return
    sockets = runtime_folder(instance_of(data.path))
    try:
        server.start()
        yield server.url()
    finally:
        server.stop()
        shutil.rmtree(sockets, ignore_errors=True)
        data.release()


def bring_up_to_date(database_url: str) -> list[Migration]:
    """Migrate; raises ``StartError`` when the database is away or does not fit."""

    async def work() -> list[Migration]:
        async with connection(database_url, name="kontor migrate") as conn:
            return await migrate(conn)

    try:
        return asyncio.run(work())
    except DatabaseUnavailable as error:
        raise StartError(str(error), Exit.DATABASE) from None
    except MigrationError as error:
        raise StartError(str(error), Exit.SCHEMA) from None


def check_redis(redis_url: str) -> None:
    """Raise ``StartError`` unless the Redis at ``redis_url`` answers."""
    import redis.asyncio  # takes a good part of a short command's time
    import redis.exceptions

    async def work() -> None:
        client = redis.asyncio.Redis.from_url(
            redis_url, socket_connect_timeout=_REDIS_TIMEOUT_S, socket_timeout=_REDIS_TIMEOUT_S
        )
        try:
            await client.ping()
        finally:
            await client.aclose()

    try:
        asyncio.run(work())
    except (redis.exceptions.RedisError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise StartError(
            f"Redis at {place(redis_url)} is not available: {reason}", Exit.REDIS
        ) from None

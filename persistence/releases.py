"""Canary releases: versions that run beside the stable one, or were put in its place.

A row is a wish and what came of it. Commands and pages begin and steer; ``cluster.canary`` carries
out. There is at most one under way, and at most one promoted. Whoever changes something here
appends to the audit log in the same transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, cast

import asyncpg
import msgspec

from persistence import audit
from persistence.audit import Actor
from persistence.database import Connection, Pool

STARTING: Final = "starting"
RUNNING: Final = "running"
PROMOTING: Final = "promoting"
PROMOTED: Final = "promoted"
ROLLING_BACK: Final = "rolling_back"
ROLLED_BACK: Final = "rolled_back"
FAILED: Final = "failed"
REPLACED: Final = "replaced"
UNDER_WAY: Final = (STARTING, RUNNING, PROMOTING, ROLLING_BACK)
REASON_MAX: Final = 500


class Side(msgspec.Struct, frozen=True):
    """What the replicas of one version have measured; times in seconds."""

    requests: int = 0
    errors: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    p95_s: float = 0.0

    @property
    def error_rate(self) -> float:
        """Answers from 500 on, in percent of all."""
        return 100 * self.errors / self.requests if self.requests else 0.0


class Comparison(msgspec.Struct, frozen=True):
    """Both versions since the canary began."""

    stable: Side = Side()
    canary: Side = Side()


class Release(msgspec.Struct, frozen=True):
    """A version. ``path`` is empty for the code that runs already, with other ``settings``.

    ``weight`` is the percentage of clients that are to meet it. It is rolled back by itself beyond
    ``bound`` percent of errors, and when its requests take more than ``latency_ratio`` times as
    long as the stable version's. ``step`` says what is being done.
    """

    id: int
    state: str
    path: str
    settings: dict[str, str]
    version: str
    base: str
    weight: int
    replicas: int
    bound: float | None
    step: str
    reason: str
    comparison: Comparison
    started_by: str
    started_at: datetime
    changed_at: datetime
    latency_ratio: float | None

    @property
    def under_way(self) -> bool:
        """Whether it runs beside the stable version, or is about to begin or to end."""
        return self.state in UNDER_WAY

    @property
    def bounds(self) -> tuple[str, ...]:
        """Beyond what it is rolled back by itself, in words."""
        errors = () if self.bound is None else (f"beyond {self.bound:g} % errors",)
        ratio = self.latency_ratio
        slow = () if ratio is None else (f"beyond {ratio:g} times the stable version's p95",)
        return errors + slow


class Refused(Exception):
    """It cannot be done now. The text is one line for whoever asked."""


class New(msgspec.Struct, frozen=True):
    """A release that somebody wishes to begin."""

    path: str
    settings: Mapping[str, str]
    version: str
    base: str
    weight: int
    replicas: int = 1
    bound: float | None = None
    latency_ratio: float | None = None


_COLUMNS: Final = ", ".join(Release.__struct_fields__)
_encode: Final = msgspec.json.Encoder().encode


def _release(row: asyncpg.Record | None) -> Release | None:
    if row is None:
        return None
    values: dict[str, Any] = dict(row)
    values["settings"] = msgspec.json.decode(values["settings"], type=dict[str, str])
    comparison = values["comparison"]
    values["comparison"] = (
        Comparison() if comparison is None else msgspec.json.decode(comparison, type=Comparison)
    )
    return Release(**values)


async def latest(database: Pool | Connection) -> Release | None:
    """The one under way, or else the last one."""
    return _release(
        await database.fetchrow(f"SELECT {_COLUMNS} FROM releases ORDER BY id DESC LIMIT 1")
    )


async def under_way(database: Pool | Connection) -> Release | None:
    """The one that runs, begins or ends."""
    found = await latest(database)
    return found if found is not None and found.under_way else None


async def promoted(database: Pool | Connection) -> Release | None:
    """The one that runs in place of the platform's own code and settings."""
    return _release(
        await database.fetchrow(f"SELECT {_COLUMNS} FROM releases WHERE state = 'promoted'")
    )


@asynccontextmanager
async def _transaction(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as proxy, proxy.transaction():
        yield cast(Connection, proxy)


async def begin(pool: Pool, new: New, actor: Actor) -> Release:
    """Wish for a canary; raises ``Refused`` while another is under way."""
    async with _transaction(pool) as connection:
        try:
            row = await connection.fetchrow(
                f"""
                INSERT INTO releases (path, settings, version, base, weight, replicas, bound,
                    started_by, latency_ratio)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}""",
                new.path, _encode(new.settings).decode(), new.version, new.base, new.weight,
                new.replicas, new.bound, actor.by, new.latency_ratio,
            )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise Refused("A canary is under way: promote it or roll it back first.") from None
        release = _release(row)
        assert release is not None
        after = {
            "path": new.path, "settings": dict(new.settings), "version": new.version,
            "weight": new.weight, "bound": new.bound, "latency_ratio": new.latency_ratio,
        }  # fmt: skip
        await audit.append(connection, actor.did("canary.start", _subject(release), {}, after))
    return release


async def steer(pool: Pool, actor: Actor, *, state: str = RUNNING, weight: int = -1) -> Release:
    """Wish that the canary is promoted, rolled back, or gets another share.

    Raises ``Refused`` when it is not at the point where that can be done. To wish again for what
    is being done changes nothing.
    """
    async with _transaction(pool) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('releases'))")
        release = await under_way(connection)
        if release is None:
            raise Refused("No canary is under way.")
        if release.state == state != RUNNING:
            return release
        allowed = (STARTING, RUNNING) if state == ROLLING_BACK else (RUNNING,)
        if release.state not in allowed:
            raise Refused(f"The canary is {release.state.replace('_', ' ')}: wait until it is.")
        wanted = release.weight if weight < 0 else weight
        await _change(connection, release.id, state, wanted)
        action = {RUNNING: "weight", PROMOTING: "promote", ROLLING_BACK: "rollback"}[state]
        before = {"state": release.state, "weight": release.weight}
        after = {"state": state, "weight": wanted}
        entry = actor.did(f"canary.{action}", _subject(release), before, after)
        await audit.append(connection, entry)
    return msgspec.structs.replace(release, state=state, weight=wanted)


async def settle(
    pool: Pool, release: Release, state: str, actor: Actor, *, reason: str = ""
) -> None:
    """Note where a release has arrived; nothing happens if it was steered elsewhere meanwhile."""
    async with _transaction(pool) as connection:
        if state == PROMOTED:
            await connection.execute(
                "UPDATE releases SET state = 'replaced', changed_at = now()"
                " WHERE state = 'promoted'"
            )
        done = await connection.execute(
            """
            UPDATE releases SET state = $3, reason = CASE WHEN $4 = '' THEN reason ELSE $4 END,
                step = '', changed_at = now()
            WHERE id = $1 AND state = $2""",
            release.id, release.state, state, reason[:REASON_MAX],
        )  # fmt: skip
        if done.endswith("1"):
            before, after = {"state": release.state}, {"state": state, "reason": reason}
            entry = actor.did(f"canary.{state}", _subject(release), before, after)
            await audit.append(connection, entry)


async def note(pool: Pool, release: Release, step: str) -> None:
    """Say what is being done."""
    await pool.execute("UPDATE releases SET step = $2 WHERE id = $1", release.id, step)


async def compare(pool: Pool, release: Release, comparison: Comparison) -> None:
    """Keep what the replicas have measured by now."""
    await pool.execute(
        "UPDATE releases SET comparison = $2 WHERE id = $1",
        release.id, _encode(comparison).decode(),
    )  # fmt: skip


async def _change(connection: Connection, release: int, state: str, weight: int) -> None:
    await connection.execute(
        "UPDATE releases SET state = $2, weight = $3, changed_at = now() WHERE id = $1",
        release, state, weight,
    )  # fmt: skip


def _subject(release: Release) -> str:
    return f"canary:{release.id}"

"""Backup and restore: to the last acknowledged turn, to a moment, and never from what is broken."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.backup import Source, following, make, release
from cluster.backup_folder import SEGMENT_BYTES, BackupFolder
from cluster.backup_restore import Restored, restore
from cluster.chaos.running import kontor
from cluster.errors import Exit, StartError
from cluster.processes import wait_until
from cluster.servers import database
from cluster.settings import Settings
from persistence.database import connection
from persistence.journal import GENESIS, row_hash


def settings(data_dir: Path) -> Settings:
    """A platform's settings with embedded servers."""
    return Settings(data_dir=data_dir, database_url=None, redis_url=None)


def query(url: str, sql: str, *arguments: Any) -> list[Any]:
    """Ask a database."""

    async def work() -> list[Any]:
        async with connection(url, name="tests") as conn:
            return list(await conn.fetch(sql, *arguments))

    return asyncio.run(work())


# -- a database without a platform --------------------------------------------------------


def add_turn(url: str, seq: int) -> datetime:
    """A row in the journal, as a partition writes it; when it was committed."""

    async def work() -> datetime:
        async with connection(url, name="tests") as conn:
            await conn.execute(
                "INSERT INTO streams (stream, kind) VALUES ('tests/0', 'tests')"
                " ON CONFLICT DO NOTHING"
            )
            previous = await conn.fetchval("SELECT hash FROM journal WHERE seq = $1", seq - 1)
            at, before = datetime.now(UTC), previous or GENESIS
            digest = row_hash(before, "tests/0", seq, 1, int(at.timestamp() * 1_000_000), b"\x90")
            await conn.execute(
                "INSERT INTO journal VALUES ('tests/0', $1, 1, $2, $3, $4, $5)",
                seq, at, b"\x90", before, digest,
            )  # fmt: skip
            return datetime.now(UTC)

    return asyncio.run(work())


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data folder with one turn, and beside it ``backups`` with one backup of it."""
    base = tmp_path_factory.mktemp("backup")
    data = base / "var"
    assert kontor("migrate", data_dir=data).returncode == 0
    with database(settings(data)) as url:
        add_turn(url, 1)
        done = kontor("backup", "backups", data_dir=data)
        assert done.returncode == 0, done.stderr
    yield base
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Path:
    """The backups, to be broken."""
    return Path(shutil.copytree(original / "backups", tmp_path / "backups"))


def bring_back(folder: Path, data_dir: Path, until: datetime | None = None) -> Restored:
    """What ``kontor restore`` does."""
    return restore(BackupFolder(folder), data_dir, quietly, until=until, check=False)


def quietly(what: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def only(folder: Path) -> Path:
    """The one backup in a folder."""
    (path,) = BackupFolder(folder).paths()
    return path


def change_manifest(folder: Path, **fields: Any) -> None:
    """Have a backup say something else of itself."""
    file = only(folder) / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def flip_byte(path: Path) -> None:
    """Damage a file without changing its size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def break_off(folder: Path) -> None:
    """As a killed run leaves it."""
    path = only(folder)
    path.rename(path.with_name(path.name + ".partial"))


BROKEN: dict[str, tuple[Callable[[Path], Any], int, str]] = {
    "a changed file": (
        lambda folder: flip_byte(only(folder) / "data" / "global" / "pg_control"),
        76,
        "pg_control was changed",
    ),
    "a shorter file": (
        lambda folder: (only(folder) / "data" / "PG_VERSION").write_bytes(b"1"),
        76,
        "PG_VERSION has 1 bytes and not 3",
    ),
    "a missing file": (
        lambda folder: (only(folder) / "data" / "PG_VERSION").unlink(),
        76,
        "PG_VERSION is missing",
    ),
    "a file more": (
        lambda folder: (only(folder) / "data" / "global" / "more").touch(),
        76,
        "global/more does not belong to it",
    ),
    "changed checksums": (
        lambda folder: flip_byte(only(folder) / "data" / "backup_manifest"),
        76,
        "backup_manifest",
    ),
    "a damaged log": (
        lambda folder: [
            path.write_bytes(bytes(SEGMENT_BYTES))
            for path in (only(folder) / "data" / "pg_wal").glob("0*")
        ],
        76,
        "is damaged",
    ),
    "half a backup": (break_off, 76, "holds no complete backup, only 1 that was broken off"),
    "no backup": (lambda folder: shutil.rmtree(only(folder)), 76, "holds no complete backup"),
    "no folder": (shutil.rmtree, 76, "There is no folder"),
    "no manifest": (
        lambda folder: (only(folder) / "manifest.json").unlink(),
        76,
        "manifest.json cannot be read",
    ),
    "a newer layout": (lambda folder: change_manifest(folder, format=99), 65, "newer version"),
    "a newer schema": (lambda folder: change_manifest(folder, schema=9999), 72, "newer version"),
    "another Postgres": (
        lambda folder: change_manifest(folder, postgres="17.2"),
        76,
        "is of Postgres 17.2",
    ),
    "a Postgres of one's own": (
        lambda folder: change_manifest(folder, embedded=False),
        76,
        "an ordinary data directory",
    ),
    "more than is there": (
        lambda folder: change_manifest(folder, journal={"tests/0": 2}),
        76,
        "tests/0 ends at 1, but the backup had it at 2",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_not_restored(case: str, copied: Path, tmp_path: Path) -> None:
    """One line, an exit code, and nothing left behind."""
    damage, code, text = BROKEN[case]
    damage(copied)
    with pytest.raises(StartError) as refused:
        bring_back(copied, tmp_path / "new")
    assert refused.value.code == code
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("new*"))


def test_a_restore_never_overwrites(original: Path, tmp_path: Path) -> None:
    data = tmp_path / "new"
    data.mkdir()
    (data / "precious").touch()
    done = kontor("restore", str(original / "backups"), data_dir=data)
    assert (done.returncode, done.stdout) == (76, "")
    assert "is not empty: restore into a new folder" in done.stderr
    assert [path.name for path in data.iterdir()] == ["precious"]


def test_a_restored_database_is_the_same(original: Path, tmp_path: Path) -> None:
    data = tmp_path / "new"
    assert bring_back(original / "backups", data).journal == {"tests/0": 1}
    with database(settings(data)) as url:
        rows = query(url, "SELECT stream, seq FROM journal")
        assert [(row["stream"], row["seq"]) for row in rows] == [("tests/0", 1)]
        # Its log branches off, so that what it writes is never taken for the original's.
        assert query(url, "SELECT timeline_id FROM pg_control_checkpoint()")[0][0] == 2
    assert not (data / "secret").exists()


def test_back_to_a_moment(original: Path, tmp_path: Path) -> None:
    """The log goes on after the backup; a restore stops where it is told to."""
    folder = BackupFolder(tmp_path / "backups")
    with database(settings(original / "var")) as url:
        source = Source(url, embedded=True)
        with following(source, folder.wal / "20260101T000000Z", synchronous=False) as receiver:
            assert make(source, folder, quietly).manifest.journal == {"tests/0": 1}
            moments = [add_turn(url, seq) for seq in (2, 3, 4)]
            assert wait_until(lambda: receiver.lag().behind_bytes == 0, timeout_s=60)
    assert bring_back(folder.path, tmp_path / "all").journal == {"tests/0": 4}
    assert bring_back(folder.path, tmp_path / "some", moments[1]).journal == {"tests/0": 3}
    for year, text in ((2999, "has no transaction of 2999"), (2001, "ended at")):
        with pytest.raises(StartError, match=text) as refused:
            bring_back(folder.path, tmp_path / "never", datetime(year, 1, 1, tzinfo=UTC))
        assert refused.value.code == Exit.BACKUP
    assert not list(tmp_path.glob("never*"))


def test_one_backup_at_a_time_and_one_database_a_folder(original: Path, copied: Path) -> None:
    folder = BackupFolder(copied)
    with database(settings(original / "var")) as url:
        source = Source(url, embedded=True)
        with folder.making(), pytest.raises(StartError, match="is being made") as refused:
            make(source, folder, quietly)
        assert refused.value.code == Exit.DATA_LOCKED
        change_manifest(copied, system="1")
        with pytest.raises(StartError, match="backups of another database"):
            make(source, folder, quietly)
    assert not list(copied.glob("*.partial"))


def test_nothing_to_follow(original: Path, tmp_path: Path) -> None:
    done = kontor("backup", str(tmp_path / "b"), "--follow", data_dir=original / "var")
    assert done.returncode == 74
    assert not (tmp_path / "b").exists()


def test_old_backups_are_removed_with_their_log(original: Path, copied: Path) -> None:
    old = only(copied)
    run = copied / "wal" / "20260101T000000Z"
    run.mkdir(parents=True)
    (run / "000000010000000000000001").touch()
    done = kontor("backup", str(copied), "--keep", "1", "--json", data_dir=original / "var")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["removed"] == [str(old)]
    assert only(copied) != old
    assert not run.exists()


def test_a_whole_segment_counts_before_a_begun_one(tmp_path: Path) -> None:
    """Whichever run has it; one that is too short was never written to."""
    names = {
        "20260101T000000Z": ["0" * 23 + "1", "0" * 23 + "2.partial"],
        "20260102T000000Z": ["0" * 23 + "2", "0" * 23 + "3.partial"],
        "20260103T000000Z": ["0" * 23 + "3.partial", "00000002.history"],
    }
    for run, files in names.items():
        (tmp_path / "wal" / run).mkdir(parents=True)
        for name in files:
            with (tmp_path / "wal" / run / name).open("wb") as file:
                file.truncate(SEGMENT_BYTES)
    short = tmp_path / "wal" / "20260103T000000Z" / ("0" * 23 + "4.partial")
    short.touch()
    found = BackupFolder(tmp_path).segments()
    assert {
        name: path.relative_to(tmp_path / "wal").as_posix() for name, path in found.items()
    } == {
        "0" * 23 + "1": "20260101T000000Z/" + "0" * 23 + "1",
        "0" * 23 + "2": "20260102T000000Z/" + "0" * 23 + "2",
        "0" * 23 + "3": "20260103T000000Z/" + "0" * 23 + "3.partial",
        "00000002.history": "20260103T000000Z/00000002.history",
    }


def test_commits_wait_for_the_folder_and_can_be_let_go(original: Path, tmp_path: Path) -> None:
    """Without its receiver a synchronous backup stops all writing; ``--release`` ends that."""
    with database(settings(original / "var")) as url:
        source = Source(url, embedded=True)
        with following(source, tmp_path / "wal" / "run", synchronous=True) as receiver:
            receiver.hold_commits()
            add_turn(url, 100)
            make(source, BackupFolder(tmp_path), quietly)
            process = receiver._process
            assert process is not None
            os.kill(process.pid, signal.SIGSTOP)
            waiting = asyncio.run(_commit_waits(url))
            release(source)
            os.kill(process.pid, signal.SIGCONT)
        assert waiting
        add_turn(url, 101)
    # What is restored waits for nobody, whatever the original did.
    assert bring_back(tmp_path, tmp_path / "new").journal["tests/0"] >= 100
    with database(settings(tmp_path / "new")) as url:
        assert not asyncio.run(_commit_waits(url))


async def _commit_waits(url: str) -> bool:
    async with connection(url, name="tests") as conn:
        try:
            await asyncio.wait_for(conn.execute(f"CREATE TABLE w{os.urandom(4).hex()} ()"), 1)
        except TimeoutError:
            return True
    return False

"""What stops a platform from starting: one clear line and an exit code of its own."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from cluster.datafolder import VERSION
from cluster.embedded import EmbeddedPostgres
from cluster.errors import Exit
from tests.cluster.running import free_port, kontor


def refused(done: subprocess.CompletedProcess[str], code: Exit) -> str:
    """Check that ``done`` failed as it should, and return its one line."""
    assert done.returncode == code, done.stderr + done.stdout
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("kontor: ")
    return lines[0]


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = kontor("up", data_dir=tmp_path / "var", variables={"KONTOR_PORT": str(port)})
    assert str(port) in refused(done, Exit.PORT)


def test_a_data_folder_of_a_newer_version(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    (folder / "KONTOR_VERSION").write_text(f"{VERSION + 1}\n")
    done = kontor("up", data_dir=folder, variables={"KONTOR_PORT": str(free_port())})
    assert "newer" in refused(done, Exit.DATA_NEWER)
    assert not (folder / "postgres").exists()


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    done = kontor(
        "up",
        data_dir=tmp_path / "var",
        variables={
            "KONTOR_PORT": str(free_port()),
            "KONTOR_DATABASE_URL": f"postgresql://someone:hidden@127.0.0.1:{free_port()}/kontor",
        },
    )
    line = refused(done, Exit.DATABASE)
    assert "127.0.0.1" in line
    assert "hidden" not in line


def test_a_redis_that_cannot_be_reached(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    done = kontor(
        "up",
        data_dir=tmp_path / "var",
        variables={
            "KONTOR_PORT": str(free_port()),
            "KONTOR_DATABASE_URL": postgres.url("postgres"),
            "KONTOR_REDIS_URL": f"redis://:hidden@127.0.0.1:{free_port()}/0",
        },
    )
    assert "hidden" not in refused(done, Exit.REDIS)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KONTOR_PORT", "many", "KONTOR_PORT"),
        ("KONTOR_FEES", '{"XXX": {"basis_points": 1}}', "XXX"),
        ("KONTOR_FEES", "none", "KONTOR_FEES"),
        ("KONTOR_DAILY_LIMITS", '{"USD": "1.234"}', "decimals"),
        ("KONTOR_MODE", "production", "KONTOR_SECRET_KEY"),
        ("KONTOR_SECRET_KEY", "short", "32"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, name: str, value: str, said: str) -> None:
    done = kontor("up", data_dir=tmp_path / "var", variables={name: value})
    assert said in refused(done, Exit.SETTINGS)


def test_no_platform_to_ask(tmp_path: Path) -> None:
    done = kontor("status", data_dir=tmp_path / "var")
    assert "No platform" in refused(done, Exit.NOT_RUNNING)

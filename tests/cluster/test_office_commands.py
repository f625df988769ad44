"""The back office from the command line: its permissions, administrators, the audit log."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import argon2
import pytest
import typer

import cluster.cli  # noqa: F401  # joins all commands together
from cluster.cli import permissions
from cluster.cli.main import app as kontor_app
from cluster.cli.permissions import COMMANDS, guard, leaves, needed
from cluster.errors import Exit, StartError
from domain.identity.permissions import CONSOLE, ROLES, Permission
from persistence import audit, identity, roles
from persistence.audit import Actor, Filter
from persistence.database import Pool
from tests.persistence.test_identity import add, session

ANN, BEN = 1_000_000_001, 1_000_000_002
Run = Callable[..., Awaitable[tuple[int, str]]]
ALL = list(leaves(typer.main.get_command(kontor_app)))


@pytest.fixture
def run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in a thread; its exit code and what it said."""
    monkeypatch.setenv("KONTOR_DATABASE_URL", database_url)

    def work(*words: str) -> int:
        try:
            command = guard(typer.main.get_command(kontor_app))
            code: Any = command.main(list(words), standalone_mode=False)
        except StartError as error:
            typer.echo(str(error))
            return int(error.code)
        except typer.Exit as ended:
            return ended.exit_code
        return int(code or 0)

    async def in_thread(*words: str, stdin: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = await asyncio.to_thread(work, *words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return in_thread


# -- the table ------------------------------------------------------------------------------


def test_every_command_is_in_the_table_and_the_console_may_run_it() -> None:
    unlisted = [path for path, _ in ALL if needed(path) is None]
    assert unlisted == []
    used = {path for path, _ in ALL} | {path.partition(" ")[0] for path, _ in ALL}
    assert set(COMMANDS) <= used, "the table has commands that there are not"
    assert {needed(path) for path, _ in ALL} <= ROLES[CONSOLE]
    assert Permission.ADJUSTMENTS_APPROVE not in ROLES[CONSOLE], "a machine is no checker"


@pytest.mark.parametrize("path", [path for path, _ in ALL])
def test_no_command_runs_without_its_permission(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    command = permissions._checked(lambda: ran.append(path), path)
    command()
    assert ran == [path]
    left = ROLES[CONSOLE] - {needed(path)}
    monkeypatch.setattr(permissions, "granted", lambda held: left)
    with pytest.raises(StartError) as refused:
        command()
    assert refused.value.code == Exit.PERMISSION
    assert ran == [path]


def test_a_command_that_is_not_in_the_table_does_not_run() -> None:
    with pytest.raises(StartError):
        permissions._checked(lambda: None, "payout everything")()


# -- administrators and roles ---------------------------------------------------------------


async def test_the_first_administrator(pool: Pool, run: Run) -> None:
    code, said = await run("admin", "create", "ann@example.com")
    assert code == 2, said
    assert "give a --name" in said
    code, said = await run(
        "admin", "create", "ann@example.com", "--name", "Ann", "--password-stdin",
        stdin="short\n",
    )  # fmt: skip
    assert code == 2, said
    code, said = await run(
        "admin", "create", "ann@example.com", "--name", "Ann", "--password-stdin",
        stdin="a long enough password\n",
    )  # fmt: skip
    assert (code, said) == (0, "ann@example.com is the first administrator.\n")
    ann = await identity.user_by_email(pool, "ann@example.com")
    assert ann is not None
    argon2.PasswordHasher().verify(ann.password_hash, "a long enough password")
    assert ann.opened_at is None, "the platform opens the accounts when it is up"
    assert [row.role for row in await roles.held(pool, ann.id)] == ["administrator"]
    code, said = await run(
        "admin", "create", "ben@example.com", "--name", "Ben", "--password-stdin",
        stdin="a long enough password\n",
    )  # fmt: skip
    assert code == 2
    assert "There is an administrator already" in said
    assert await identity.user_by_email(pool, "ben@example.com") is None, "nobody is left behind"
    (entry,) = await audit.search(pool, Filter())
    assert (entry.actor, entry.origin, entry.action) == (None, "console", "roles.give")
    assert entry.by.endswith(" on the command line")


async def test_somebody_who_has_signed_up_becomes_the_first(pool: Pool, run: Run) -> None:
    await add(pool, ANN, "ann@example.com")
    code, said = await run("admin", "create", "ANN@example.com", "--json")
    assert (code, json.loads(said)["signed_up"]) == (0, False)


async def test_who_acts_for_the_console_needs_the_permission(pool: Pool, run: Run) -> None:
    for number, name in ((ANN, "ann"), (BEN, "ben")):
        await add(pool, number, f"{name}@example.com")
    await roles.grant(pool, ANN, "administrator", "a test")
    grant = ("role", "grant", "ben@example.com", "support", "--as")
    code, said = await run(*grant, "ben@example.com")
    assert (code, said) == (
        Exit.PERMISSION, "ben@example.com may not: roles.grant is not permitted\n",
    )  # fmt: skip
    code, said = await run(*grant, "nobody@example.com")
    assert (code, said) == (Exit.PERMISSION, "Nobody has signed up as nobody@example.com.\n")
    code, said = await run(*grant, "ann@example.com")
    assert (code, said) == (0, "ben@example.com holds the role support.\n")
    (entry, *_) = await audit.search(pool, Filter())
    assert (entry.actor, entry.origin) == (ANN, "console")
    assert entry.by.startswith("ann@example.com, by ")
    own = ("role", "grant", "ann@example.com", "auditor", "--as", "ann@example.com")
    code, said = await run(*own)
    assert code == 2
    assert "Nobody gives a role to themselves" in said
    code, said = await run("role", "revoke", "ann@example.com", "administrator")
    assert code == 2
    assert "There would be no administrator left" in said
    code, said = await run("role", "list", "--json")
    assert [(row["email"], row["role"]) for row in json.loads(said)] == [
        ("ann@example.com", "administrator"), ("ben@example.com", "support"),
    ]  # fmt: skip


# -- the audit log --------------------------------------------------------------------------


async def test_the_audit_log_is_searched_exported_and_verified(
    pool: Pool, run: Run, tmp_path: Path
) -> None:
    for index in range(3):
        who = Actor(ANN, "ann@example.com", "page", "192.0.2.7")
        await audit.record(pool, who.did("accounts.freeze", f"account:{index}"))
    code, said = await run("audit", "search", "--subject", "account:1", "--json")
    (found,) = json.loads(said)
    assert (code, found["seq"], found["by"]) == (0, 2, "ann@example.com")
    assert "No entry fits." in (await run("audit", "search", "--until", "2020-01-01"))[1]
    code, said = await run("audit", "verify", "--json")
    assert (code, json.loads(said)["rows"]) == (0, 3)
    noted = f"3:{json.loads(said)['head']}"
    code, said = await run("audit", "export", "--action", "accounts.freeze")
    rows = list(csv.DictReader(io.StringIO(said)))
    assert [row["subject"] for row in rows] == ["account:2", "account:1", "account:0"]
    out = tmp_path / "audit.jsonl"
    assert (await run("audit", "export", "--json-lines", "--out", str(out)))[0] == 0
    assert len(out.read_text().splitlines()) == 5, "that it was exported is an entry, too"
    assert (await run("audit", "verify", "--known", noted))[0] == 0
    assert (await run("audit", "verify", "--known", "3:abc"))[0] == 2
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = replica")
        await connection.execute("update audit_log set ip = '192.0.2.8' where seq = 2")
    code, said = await run("audit", "verify")
    assert code == Exit.PROOF_FAILED
    assert said == "Broken at entry 2: it was changed after it was written.\n"


# -- somebody who cannot come in --------------------------------------------------------------


async def test_a_lost_second_factor_is_taken_away(pool: Pool, run: Run) -> None:
    await add(pool, ANN, "ann@example.com")
    words = ("recover", "second-factor", "ann@example.com", "--reason")
    code, said = await run(*words, "seen with her passport")
    assert (code, said.strip()) == (2, "kontor: ann@example.com has no second factor.")
    now = datetime.now(UTC)
    await identity.begin_factor(pool, ANN, b"sealed", now)
    await identity.confirm_factor(pool, ANN, b"sealed", 7, now)
    await identity.add_session(pool, session(b"s" * 32, user=ANN, created_at=now))
    code, said = await run(*words, " ")
    assert code == 2, said
    code, said = await run("recover", "second-factor", "nobody@example.com", "--reason", "x")
    assert code == 2, said
    code, said = await run(*words, "seen with her passport")
    assert (code, said) == (
        0,
        "ann@example.com logs in with the password alone; sessions ended: 1.\n",
    )
    row = await identity.user_by_id(pool, ANN)
    assert row is not None
    assert not row.second_factor
    (entry,) = await audit.search(pool, Filter())
    assert entry.action == "identity.second_factor_taken"
    assert "seen with her passport" in entry.after
    assert await pool.fetchval("select kind from notifications") == "second_factor_off"
    assert await pool.fetchval("select revoked_at is not null from sessions")

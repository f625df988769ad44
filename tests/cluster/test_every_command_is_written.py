"""Each command that changes something is in the audit log, with who was at the command line.

By the table of all commands: each is either tried here, or said to change nothing that anybody
must answer for. Accounts and books run inside the command's own process; nothing else is feigned
but what needs a whole platform: the load of partitions, and a copy of the database.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.durable.placement import Suggestion
from cluster.cli.rebalance import Advice
from cluster.errors import Exit, StartError
from cluster.release import FORMAT, Description
from domain.accounts.commands import OpenCustomer
from domain.notifications import Kind
from persistence import audit, identity, releases, supervision
from persistence.audit import Filter
from persistence.database import Pool
from persistence.identity import mark_opened
from persistence.migrate import available
from persistence.supervision import NodeRow
from serve_apps.services import utc_now
from tests.actors.post import tell
from tests.cluster.test_office_commands import ALL, ANN, Run, run
from tests.persistence.test_identity import add
from tests.serve_apps.inprocess import PartitionAccounts, PartitionBooks, make_config

__all__ = ["run"]

BY = " on the command line"
ANNS = "ann@example.com"
LISTED = (
    "--name", "Fjord Lines", "--type", "stock", "--tick", "0.01", "--lot", "1", "--reference", "42"
)  # fmt: skip

TRIED: dict[str, tuple[str, str]] = {
    "admin create": (f"{ANNS}", "roles.give"),
    "role grant": (f"{ANNS} auditor", "roles.give"),
    "role revoke": (f"{ANNS} auditor", "roles.take"),
    "recover second-factor": (f"{ANNS} --reason seen", "identity.second_factor_taken"),
    "mail resend": ("DEAD", "mail.resend"),
    "accounts show": (f"{ANN}", "customers.look"),
    "accounts freeze": ("ACCOUNT --reason stolen", "accounts.freeze"),
    "accounts unfreeze": ("ACCOUNT --reason found", "accounts.unfreeze"),
    "accounts limit": (f"{ANN} USD 9.00", "limits.set"),
    "instrument list": ("FJRD USD", "instruments.list"),
    "instrument halt": ("fjrdusd", "instruments.halt"),
    "instrument resume": ("fjrdusd", "instruments.resume"),
    "instrument delist": ("fjrdusd --reason over", "instruments.delist"),
    "canary start": ("--set KONTOR_QUOTE_SECONDS=45 --no-wait", "canary.start"),
    "canary weight": ("20", "canary.weight"),
    "canary promote": ("--no-wait", "canary.promote"),
    "canary rollback": ("--no-wait", "canary.rollback"),
    "journal rebuild": ("", "platform.rebuild"),
    "history rebuild": ("", "platform.rebuild"),
    "scale": ("accounts 2", "platform.scale"),
    "pin": (f"accounts {ANN}", "platform.pin"),
    "unpin": (f"accounts {ANN}", "platform.unpin"),
    "rebalance": ("accounts --apply --no-wait", "platform.rebalance"),
    "drain": ("beside --no-wait", "platform.drain"),
    "undrain": ("beside", "platform.undrain"),
    "audit export": ("", "audit.export"),
    "backup": ("FOLDER", "platform.backup.make"),
}
"""Words and what is written then, in the order in which they are tried."""

CHANGES_NOTHING = {
    "status", "check", "placement", "journal show", "journal verify", "history show",
    "audit search", "audit verify", "canary status", "instrument show", "mail list", "role list",
}  # fmt: skip
OF_THE_MACHINE = {"up", "node", "migrate", "compile", "assets", "mail test"}
"""Start and prepare the platform; ``migrate`` keeps its own list in the database."""
ELSEWHERE = {"chaos", "simulate", "restore", *(path for path, _ in ALL if path.startswith("bench"))}
"""Work on platforms and data folders of their own."""


def test_every_command_is_tried_or_changes_nothing() -> None:
    paths = {path for path, _ in ALL}
    sorted_out = (set(TRIED), CHANGES_NOTHING, OF_THE_MACHINE, ELSEWHERE)
    assert paths == set().union(*sorted_out)
    assert len(paths) == sum(map(len, sorted_out))


async def _advice(pool: Pool, kind: str) -> Advice:
    return Advice(Suggestion({7: f"{kind}/1"}, 1.5, 1.1), {7: f"{kind}/0"}, {7: 1.0})


def _no_copy(*_: Any) -> None:
    raise StartError("no copy is made here", Exit.DATABASE)


def _described(*_: Any) -> Description:
    known = {str(item.version): item.sha256 for item in available()}
    return Description(FORMAT, "0", "0" * 64, known, ["quote_seconds"], True)


@pytest.fixture
async def furnished(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Ann with her accounts, a dead letter, two nodes; and where the words stand for them."""
    config = make_config(database_url, "redis://nowhere")
    monkeypatch.setattr(
        "actors.accounts.AccountsClient.connect", lambda *_, **__: PartitionAccounts.connect(config)
    )
    monkeypatch.setattr(
        "actors.books.BooksClient.connect", lambda *_, **__: PartitionBooks.connect(config)
    )
    monkeypatch.setattr("cluster.cli.rebalance.advise", _advice)
    monkeypatch.setattr("cluster.backup.make", _no_copy)
    monkeypatch.setattr("cluster.cli.canary.look_at", _described)
    await add(pool, ANN, ANNS)
    accounts = await PartitionAccounts.connect(config)
    await accounts.call(OpenCustomer(b"o" * 16, b"open", ANN, ("USD",), "USD", 100_00))
    await accounts.close()
    now = utc_now()
    await mark_opened(pool, ANN, now)
    await identity.begin_factor(pool, ANN, b"sealed", now)
    await identity.confirm_factor(pool, ANN, b"sealed", 7, now)
    nodes = [("a" * 56, "head", True), ("b" * 56, "beside", False)]
    await supervision.see_nodes(
        pool, [NodeRow(node, "127.0.0.1", name, head, True) for node, name, head in nodes]
    )
    await tell(pool, ANN, Kind.PASSWORD_CHANGED, "dead")
    dead = await pool.fetchval(
        "update deliveries set state = 'dead', done_at = now(), last_error = '550'"
        " where channel = 'email' returning id"
    )
    return {"DEAD": str(dead), "ACCOUNT": str(await pool.fetchval("select id from accounts"))}


async def test_every_command_that_changes_something_is_in_the_audit_log(
    pool: Pool, run: Run, furnished: dict[str, str], tmp_path: Path
) -> None:
    words = {**furnished, "FOLDER": str(tmp_path / "backups")}
    for path, (rest, action) in TRIED.items():
        before = await pool.fetchval("select seq from audit_head")
        given = [words.get(word, word) for word in rest.split()]
        if path == "instrument list":
            given += LISTED
        code, said = await run(*path.split(), *given)
        assert code == (Exit.DATABASE if path == "backup" else 0), (path, said)
        entries = [row for row in await audit.search(pool, Filter()) if row.seq > before]
        assert [row.action for row in entries if row.action == action], (path, entries)
        assert not [row.action for row in entries if row.action.endswith(".refused")], path
        for entry in entries:
            assert entry.by.endswith(BY), path
            assert (entry.actor, entry.origin) == (None, "console"), path
        begun = await releases.under_way(pool)
        if begun is not None:
            await releases.settle(pool, begun, releases.RUNNING, audit.Actor(None, BY, "platform"))


async def test_what_is_refused_is_written_too(
    pool: Pool, run: Run, furnished: dict[str, str]
) -> None:
    code, said = await run("unpin", "accounts", str(ANN))
    assert code == 2
    assert f"{ANN} is not pinned." in said
    code, said = await run("instrument", "halt", "NONEUSD")
    assert code == 2
    rows = await audit.search(pool, Filter())
    assert [(row.action, row.subject) for row in rows] == [
        ("instruments.halt.refused", "instrument:NONEUSD"),
        ("instruments.halt", "instrument:NONEUSD"),
        ("platform.unpin.refused", f"accounts:{ANN}"),
        ("platform.unpin", f"accounts:{ANN}"),
    ]


async def test_a_person_for_whom_the_console_acts_is_named(
    pool: Pool, run: Run, furnished: dict[str, str]
) -> None:
    words = ("instrument", "list", "FJRD", "USD", *LISTED, "--as", ANNS)
    assert (await run(*words))[0] == Exit.PERMISSION
    assert await audit.search(pool, Filter()) == []
    assert (await run("admin", "create", ANNS))[0] == 0
    code, said = await run(*words)
    assert code == 0
    assert "FJRDUSD is trading." in said
    (row, *_) = await audit.search(pool, Filter())
    assert (row.actor, row.action) == (ANN, "instruments.list")
    assert row.by.startswith(f"{ANNS}, by ")

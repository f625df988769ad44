"""``kontor mail``: what was given up is listed and sent again; the mail server is tried."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from domain.notifications import Kind
from persistence.database import Pool
from tests.actors.post import ANN, add_people, at_work, make_courier, settled, tell
from tests.actors.postoffice import PostOffice


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KONTOR_DATABASE_URL", database_url)


async def run(*words: str) -> Result:
    """A command in a thread, as it has an event loop of its own."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, ["mail", *words]))


async def refused(*words: str) -> str:
    """Why a command was refused."""
    result = await run(*words)
    assert result.exit_code != 0
    return result.output


async def listed(*words: str) -> Any:
    """What ``list`` says."""
    return json.loads((await run("list", "--json", *words)).stdout)


async def test_what_was_given_up_is_listed_and_sent_again(pool: Pool) -> None:
    await add_people(pool)
    office = PostOffice()
    office.answers_to_recipients.append("550 Nobody here")
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await tell(pool, ANN, Kind.PASSWORD_CHANGED, "one")
        await settled(pool)
        (dead,) = await listed("--channel", "email")
        assert (dead["target"], dead["last_error"]) == ("ann@example.com", "550: Nobody here")
        assert "550: Nobody here" in (await run("list")).stdout
        assert await listed("--channel", "webhook") == []
        number = str(dead["id"])
        assert json.loads((await run("resend", number, "--json")).stdout)["resent"]
        await settled(pool)
        assert "No message" in await refused("resend", number)
    assert len(office.mails) == 1
    assert "Everything has been delivered" in (await run("list")).stdout
    entry = await pool.fetchrow("SELECT * FROM audit_log WHERE action = 'mail.resend'")
    assert entry is not None
    assert (entry["origin"], entry["subject"]) == ("console", f"delivery:{number}")


async def test_the_server_that_is_set_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    office = PostOffice()
    monkeypatch.setenv("KONTOR_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("KONTOR_SMTP_SECURITY", "none")
    async with office.open() as smtp:
        monkeypatch.setenv("KONTOR_SMTP_PORT", str(smtp.port))
        assert "has taken a mail" in (await run("test", "ann@example.com")).stdout
        office.answers_to_recipients.append("550 Nobody here")
        assert "550: Nobody here" in await refused("test", "ann@example.com")
    assert "no connection" in await refused("test", "ann@example.com")
    assert office.subjects() == ["A test of Kontor's mail"]

"""Transfers while Redis, the mail server and a replica die in turn: all arrive, and all mails."""

from __future__ import annotations

import email
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cluster.processes import wait_until
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster

PASSWORD = "correct horse battery"
_SERVER = """
import signal, sys
from pathlib import Path
from cluster.mailserver import DevelopmentMail
DevelopmentMail(Path(sys.argv[1]), int(sys.argv[2])).start()
signal.pause()
"""


class Post:
    """A mail server in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._command = [sys.executable, "-c", _SERVER, str(folder), str(port)]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it listens a moment later."""
        self._process = subprocess.Popen(self._command)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def references(self, to: str) -> dict[str, set[str]]:
        """By Message-ID, which payments the mails to somebody name."""
        found: dict[str, set[str]] = {}
        for path in self._folder.glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes())
            if to in str(mail["to"]) and "received" in str(mail["subject"]).lower():
                amounts = {word for word in AMOUNTS if word in _text(mail)}
                found.setdefault(str(mail["message-id"]), set()).update(amounts)
        return found


def _text(mail: email.message.Message) -> str:
    for part in mail.walk():
        if part.get_content_type() == "text/plain":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content.decode()
    return ""


AMOUNTS = ("11.01", "12.02", "13.03", "14.04")


@contextmanager
def signed_up(platform: Running, name: str) -> Iterator[tuple[httpx.Client, str, str]]:
    """Somebody's client, their path in the API, and their account in dollars."""
    with httpx.Client(base_url=platform.url, timeout=60) as client:
        form = {"email": f"{name}@example.com", "name": name.title(), "password": PASSWORD}
        answer = client.post("/api/signup/", json=form)
        assert answer.status_code == 201, answer.text
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        path = f"/api/user/{answer.json()['user']['id']}/"
        accounts = client.get(path).json()["accounts"]
        yield client, path, next(one["id"] for one in accounts if one["currency"] == "USD")


def send(client: httpx.Client, path: str, source: str, to: str, amount: str) -> None:
    """A transfer, asked for with the same key until there is an answer."""
    body = {"from": source, "to": to, "amount": amount}

    def answered() -> bool:
        try:
            headers = {"Idempotency-Key": f"payment {amount}"}
            answer = client.post(path + "transaction/", json=body, headers=headers)
        except httpx.TransportError:
            return False
        assert answer.status_code in (201, 429, 502, 503), answer.text
        return answer.status_code == 201

    wait_until(answered, timeout_s=90, pause_s=0.1)


def test_nothing_is_lost_when_servers_are_killed_in_turn(
    platform: Running, mail_port: int, tmp_path: Path
) -> None:
    post = Post(tmp_path / "mail", mail_port)
    with signed_up(platform, "nora") as (nora, path, source), signed_up(platform, "otto") as otto:
        client, otto_path, to = otto
        chosen = client.post(
            otto_path + "notification/preferences/",
            json={"kinds": {"transfer_received": {"email": True}}},
        )
        assert chosen.status_code == 200, chosen.text
        before = balance(client, otto_path)
        post.start()
        try:
            send(nora, path, source, to, AMOUNTS[0])
            wait_until(lambda: len(post.references("otto@")) == 1, timeout_s=90, pause_s=0.1)
            for victim, amount in zip(
                ("redis-server", "", "ServeReplica"), AMOUNTS[1:], strict=True
            ):
                if victim:
                    killed = platform.children(victim)
                    assert killed
                    killed[0].send_signal(signal.SIGKILL)
                else:
                    post.kill()
                send(nora, path, source, to, amount)
                if not victim:
                    assert len(post.references("otto@")) <= 2
                    post.start()
            wait_until(lambda: len(post.references("otto@")) == 4, timeout_s=90, pause_s=0.1)
        finally:
            post.kill()
        assert balance(client, otto_path) - before == 50_10
    told = sorted(amount for found in post.references("otto@").values() for amount in found)
    assert told == sorted(AMOUNTS)
    dead = kontor("mail", "list", "--json", data_dir=platform.data_dir)
    assert json.loads(dead.stdout) == []
    report = kontor("check", "--json", data_dir=platform.data_dir)
    assert json.loads(report.stdout)["findings"] == []


def balance(client: httpx.Client, path: str) -> int:
    """Cents on the account in dollars."""
    accounts = client.get(path).json()["accounts"]
    text = next(one["balance"] for one in accounts if one["currency"] == "USD")
    return int(text.replace(".", ""))

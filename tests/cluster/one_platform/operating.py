"""What tests of operators' commands do on a platform: ask it, and have customers who pay."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from typing import Any

import httpx

from persistence.journal import SLOTS
from tests.cluster.running import Running, kontor


class Payer:
    """A customer who pays another one, over the API."""

    def __init__(self, platform: Running, name: str) -> None:
        self.http = httpx.Client(base_url=platform.url, timeout=30)
        self.email = f"{name}@example.org"
        body = {"name": name, "password": "a long enough password", "email": self.email}
        found = self.http.post("/api/signup/", json=body).json()
        self.http.headers["Authorization"] = f"Bearer {found['token']}"
        self.number: str = found["user"]["id"]
        accounts = self.http.get(f"/api/user/{self.number}/").json()["accounts"]
        self.dollars: str = next(row["id"] for row in accounts if row["currency"] == "USD")

    def pay(self, other: Payer, amount: str = "0.01") -> str:
        answer = self.http.post(
            f"/api/user/{self.number}/transaction/",
            json={"from": self.dollars, "to": other.dollars, "amount": amount},
            headers={"Idempotency-Key": uuid.uuid4().hex},
        )
        said = answer.json()
        return str(said.get("code") or said["status"])


def command(platform: Running, *words: str) -> Any:
    """What a command answers with ``--json``."""
    done = kontor(*words, "--json", data_dir=platform.data_dir)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def shares(platform: Running) -> dict[str, int]:
    """Shared slots by partition, as ``kontor placement`` tells; those of one key are left out."""
    counted: Counter[str] = Counter()
    for run in command(platform, "placement", "accounts")["slots"]:
        if run["last"] < SLOTS:
            counted[run["stream"]] += run["last"] - run["first"] + 1
    return dict(counted)

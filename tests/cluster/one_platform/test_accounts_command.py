"""An operator's commands on accounts, against a running platform."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest

from cluster.errors import Exit
from tests.cluster.running import Running, kontor

pytestmark = pytest.mark.cluster


def test_freeze_limit_and_show(platform: Running) -> None:
    with httpx.Client(base_url=platform.url, timeout=30) as client:
        body = {"name": "Olga", "password": "a long enough password"}
        first = client.post("/api/signup/", json={**body, "email": "olga@example.org"}).json()
        second = client.post("/api/signup/", json={**body, "email": "piet@example.org"}).json()
        user = first["user"]["id"]
        client.headers["Authorization"] = f"Bearer {first['token']}"
        own = client.get(f"/api/user/{user}/").json()["accounts"]
        dollars = next(account["id"] for account in own if account["currency"] == "USD")
        other = client.get(
            f"/api/user/{second['user']['id']}/",
            headers={"Authorization": f"Bearer {second['token']}"},
        ).json()["accounts"][0]["id"]

        def pay(amount: str) -> str:
            answer = client.post(
                f"/api/user/{user}/transaction/",
                json={"from": dollars, "to": other, "amount": amount},
                headers={"Idempotency-Key": uuid.uuid4().hex},
            )
            said = answer.json()
            return str(said.get("code") or said["status"])

        def operator(*words: str) -> str:
            done = kontor("accounts", *words, "--json", data_dir=platform.data_dir)
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert pay("1.00") == "completed"
        assert json.loads(operator("freeze", dollars))["status"] == "frozen"
        assert pay("1.00") == "account_frozen"
        as_piet = ("unfreeze", dollars, "--as", "piet@example.org")
        barred = kontor("accounts", *as_piet, data_dir=platform.data_dir)
        assert barred.returncode == Exit.PERMISSION
        assert barred.stderr == (
            "kontor: piet@example.org may not: accounts.freeze is not permitted\n"
        )
        assert json.loads(operator("unfreeze", dollars))["status"] == "open"
        assert pay("1.00") == "completed"
        operator("limit", user, "USD", "2.50")
        assert pay("1.00") == "daily_limit_exceeded"
        shown = json.loads(operator("show", user))
        dollar_limit = next(row for row in shown["limits"] if row["currency"] == "USD")
        assert dollar_limit == {"currency": "USD", "limit": "2.50", "used_today": "2.00"}
        done = kontor("audit", "search", "--text", dollars, "--json", data_dir=platform.data_dir)
        actions = [entry["action"] for entry in json.loads(done.stdout)]
        assert actions == ["accounts.unfreeze", "accounts.freeze"]


def test_refusals_are_one_line(platform: Running) -> None:
    unknown = kontor("accounts", "show", "1234567890", data_dir=platform.data_dir)
    assert unknown.returncode == 2
    assert "unknown_customer" in unknown.stderr
    wrong = kontor("accounts", "freeze", "123", data_dir=platform.data_dir)
    assert wrong.returncode == 2
    assert "Traceback" not in unknown.stderr + wrong.stderr

"""Public answers are kept and asked for again; what belongs to somebody never is."""

from __future__ import annotations

import asyncio
import random

import httpx

from serve_apps.api.routes import OPERATIONS
from serve_apps.exchange import table
from serve_apps.gateway.caching import is_known, tag_of
from tests.serve_apps.conftest import User

PUBLIC = ("/api/openapi.json", "/api/docs", "/api/docs/init.js", "/api/v3/openapi.json",
          "/api/instrument/", "/api/v3/exchangeInfo", "/api/v3/ticker/24hr",
          "/api/v3/ticker/price")  # fmt: skip


async def test_what_is_known_is_not_sent_again(client: httpx.AsyncClient) -> None:
    for path in PUBLIC:
        first = await client.get(path)
        assert first.status_code == 200
        assert first.headers["cache-control"].startswith("public, max-age="), path
        await asyncio.sleep(0.002)  # another millisecond of the server's time
        again = await client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["cache-control"] == first.headers["cache-control"]
        other = await client.get(path, headers={"if-none-match": '"another"'})
        assert other.status_code == 200


def test_only_what_is_everybodys_is_kept() -> None:
    for operation in OPERATIONS:
        if operation.fresh_s:
            assert (operation.access, operation.method) == ("anyone", "GET"), operation.name
    for item in table.OPERATIONS:
        if item.fresh_s:
            assert (item.access, item.method) == ("anyone", "GET"), item.path


def test_tags_are_compared_weakly() -> None:
    tag = tag_of(b"x")
    assert tag != tag_of(b"y")
    assert all(is_known(tag, sent) for sent in (tag, b"W/" + tag, b'"a", ' + tag, b"*"))
    assert not any(is_known(tag, sent) for sent in (None, b"", b'"a"', tag[:-1]))


async def test_a_read_after_an_answer_sees_its_effect(ann: User) -> None:
    """Through every door, and for a client that tries its best to be given something old."""
    chance = random.Random(1)
    cents = {name: round(float(text) * 100) for name, text in (await ann.balances()).items()}
    doors = [ann.path, ann.path + "account/", *(f"{ann.path}account/{number}/"
             for number in ann.accounts.values())]  # fmt: skip
    kept: dict[str, str] = {}
    other = await _open_another(ann)
    for step in range(60):
        amount = chance.randint(1, 300)
        if chance.random() < 0.3:
            answer = await ann.http.post(ann.path + "hold/", json={
                "account": ann.accounts["USD"], "amount": f"{amount / 100:.2f}"
            }, headers={"idempotency-key": f"hold {step}"})  # fmt: skip
            assert answer.status_code in (201, 409), answer.text
        else:
            source, target = chance.sample([ann.accounts["USD"], other], 2)
            answer = await ann.send(source, target, f"{amount / 100:.2f}", f"send {step}")
            assert answer.status_code in (201, 409), answer.text
            if answer.status_code == 201:
                moved = amount if source == other else -amount
                cents["USD"] += moved
        for door in chance.sample(doors, 2):
            headers = {"if-none-match": kept.get(door, "*"), "cache-control": "max-stale"}
            read = await ann.http.get(door, headers=headers)
            assert read.status_code == 200
            assert read.headers["cache-control"] == "no-store"
            assert "etag" not in read.headers
            kept[door] = read.headers.get("etag", "*")
            told = read.json()
            shown = told.get("accounts", [told])
            for account in shown:
                if account["id"] == ann.accounts["USD"]:
                    assert round(float(account["balance"]) * 100) == cents["USD"]


async def _open_another(ann: User) -> str:
    answer = await ann.http.post(
        ann.path + "account/", json={"currency": "USD"}, headers={"idempotency-key": "another"}
    )
    assert answer.status_code == 201, answer.text
    opened: str = answer.json()["id"]
    return opened

"""What is kept in Redis is never older than what somebody was told: two replicas, Redis lost."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from domain.accounts.commands import ReadVersion
from domain.durable import Unavailable
from persistence.accounts import HistoryFilter, HistoryPage, history
from serve_apps import hot_reads
from serve_apps.application import AppConfig, Application, build
from serve_apps.hot_reads import ROWS_MAX
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.inprocess import http_client, lifespan, weaken_passwords

NOWHERE = "redis://127.0.0.1:1"
LIMITS = (8, 25, ROWS_MAX)


class _Shared:
    """The partition of another replica, which ends it."""

    def __init__(self, app: Application) -> None:
        self._client: Any = app.services.accounts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def close(self) -> None:
        """Leave it to the other."""


@pytest.fixture
async def second(app: Application, config: AppConfig) -> AsyncIterator[Application]:
    """Another replica of the same platform."""

    async def connect(_: AppConfig) -> Any:
        return _Shared(app)

    other = build(dataclasses.replace(config, connect_accounts=connect))
    weaken_passwords(other)
    async with lifespan(other):
        yield other


async def _truth(app: Application, user: User, limit: int) -> HistoryPage:
    return await history(app.services.pool, int(user.id), HistoryFilter(), limit=limit)


async def _read(app: Application, user: User, limit: int) -> HistoryPage:
    return await app.services.hot_reads.page(app.services, int(user.id), limit)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who has asked Postgres for a page."""
    asked: list[int] = []

    async def counted(pool: Any, user: int, flt: HistoryFilter, **more: Any) -> HistoryPage:
        asked.append(user)
        return await history(pool, user, flt, **more)

    monkeypatch.setattr(hot_reads, "history", counted)
    return asked


async def test_postgres_is_asked_once_for_what_does_not_change(
    app: Application, second: Application, make_user: MakeUser, questions: list[int]
) -> None:
    ann, ben = await make_user("ann"), await make_user("ben")
    for replica in (app, second, app):
        assert await _read(replica, ann, 25) == await _truth(app, ann, 25)
    assert questions == [int(ann.id)]
    await ann.send(ann.accounts["USD"], ben.accounts["USD"], "1.00")
    for replica in (second, app):
        assert await _read(replica, ann, 25) == await _truth(app, ann, 25)
    assert questions == [int(ann.id)] * 2


async def test_the_api_answers_the_same_from_both(
    app: Application, make_user: MakeUser, questions: list[int]
) -> None:
    ann, ben = await make_user("ann"), await make_user("ben")
    for _ in range(3):
        await ann.send(ann.accounts["USD"], ben.accounts["USD"], "1.00")
    path = ann.path + "transaction/?limit=2"
    first, again = [(await ann.http.get(path)).json() for _ in "ab"]
    assert len(questions) == 1
    assert first == again
    assert len(first["transactions"]) == 2
    following = await ann.http.get(f"{path}&cursor={first['next_cursor']}")
    assert len(following.json()["transactions"]) == 2
    assert (await ann.http.get(path + "&direction=in")).json() != first
    assert len(questions) == 1, "filters and further pages are Postgres's"


@pytest.mark.parametrize("seed", range(4))
async def test_a_read_after_an_answer_shows_what_was_answered(
    app: Application, second: Application, make_user: MakeUser, seed: int
) -> None:
    """Writes and reads at either replica in any order, while Redis comes and goes."""
    chance = random.Random(seed)
    people = [await make_user(f"person-{seed}-{number}") for number in range(3)]
    replicas = (app, second)
    clients = {(replica, user): http_client(replica) for replica in replicas for user in people}
    for (_, user), client in clients.items():
        client.headers.update(user.http.headers)
    connected = {replica: replica.services.redis for replica in replicas}
    for step in range(60):
        replica, (payer, payee) = chance.choice(replicas), chance.sample(people, 2)
        kind = chance.choices(("pay", "read", "redis"), (4, 6, 1))[0]
        if kind == "redis":
            lost = replica.services.redis is connected[replica]
            replica.services.redis = (
                redis.asyncio.Redis.from_url(NOWHERE) if lost else connected[replica]
            )
            replica.services.hot_reads._away_until = 0.0
        elif kind == "pay":
            body = {
                "from": payer.accounts["USD"], "to": payee.accounts["USD"],
                "amount": f"0.{chance.randint(10, 99)}", "reference": f"{step}",
            }  # fmt: skip
            path = payer.path + "transaction/"
            sent = await clients[replica, payer].post(path, json=body)
            assert sent.status_code == 201, sent.text
            for each in replicas:
                for party in (payer, payee):
                    found = await _read(each, party, chance.choice(LIMITS))
                    assert found.rows[0].reference == f"{step}"
        else:
            limit = chance.choice(LIMITS)
            assert await _read(replica, payer, limit) == await _truth(app, payer, limit)
    for replica, connection in connected.items():
        replica.services.redis = connection
    for client in clients.values():
        await client.aclose()


async def test_nothing_is_missed_while_others_write(
    app: Application, second: Application, make_user: MakeUser
) -> None:
    """Readers beside a writer: each sees at least what was answered when it asked."""
    ann, ben = await make_user("ann"), await make_user("ben")
    answered = 0
    writing = True

    async def write() -> None:
        nonlocal answered, writing
        for number in range(40):
            sent = await ann.send(
                ann.accounts["USD"], ben.accounts["USD"], "0.10", reference=str(number)
            )
            assert sent.status_code == 201, sent.text
            answered = number + 1
        writing = False

    async def read(replica: Application, who: User) -> int:
        count = 0
        while writing:
            known = answered
            page = await _read(replica, who, ROWS_MAX)
            assert sum(row.kind == "transfer" for row in page.rows) >= known
            count += 1
        return count

    counts = await asyncio.gather(
        write(), *(read(replica, who) for replica in (app, second) for who in (ann, ben))
    )
    assert all(count for count in counts[1:] if count is not None)


async def test_without_the_partition_postgres_answers(
    app: Application, make_user: MakeUser, questions: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await make_user("ann")
    call = app.services.accounts.call

    async def away(command: Any, **more: Any) -> Any:
        if isinstance(command, ReadVersion):
            return Unavailable("away")
        return await call(command, **more)

    monkeypatch.setattr(app.services.accounts, "call", away)
    for _ in range(2):
        assert await _read(app, ann, 25) == await _truth(app, ann, 25)
    assert len(questions) == 2

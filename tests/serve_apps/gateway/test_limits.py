"""How often one may ask: exact in one replica, shared between several, kept while Redis is away."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from serve_apps.application import AppConfig, Application, build
from serve_apps.gateway.counts import SharedCounts
from serve_apps.gateway.limits import (
    SHARED_FACTOR,
    UNKNOWN_SESSION_COST,
    Gate,
    RequestLimits,
    check,
    network_of,
)
from tests.serve_apps.conftest import User
from tests.serve_apps.exchange.test_limits import Clock
from tests.serve_apps.inprocess import PASSWORD, http_client, lifespan, weaken_passwords
from tests.serve_apps.test_api_transfers import refused

FEW = RequestLimits(
    address="10/minute",
    session="20/minute",
    customer="30/minute",
    login="6/minute",
    login_subject="3/minute;5/hour",
    sign_up="2/hour",
)


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A connection to a real Redis."""
    opened = redis.asyncio.Redis.from_url(redis_url)
    yield opened
    await opened.aclose()


def gate_of(connection: redis.asyncio.Redis, clock: Clock | None = None) -> Gate:
    """The gate of a replica, which shares counts when it is told to."""
    counts = SharedCounts(clock or Clock())
    counts.redis = connection
    gate = Gate(FEW, counts)
    gate.open(connection)
    return gate


def someone() -> str:
    """A name that no other test has."""
    return f"test {uuid.uuid4()}"


async def test_an_address_has_its_units(connection: redis.asyncio.Redis) -> None:
    clock = Clock()
    gate = gate_of(connection, clock)
    address = someone()
    told = gate.charge_address(address, 8)
    assert dict(told.headers) == {
        b"ratelimit-policy": b'"address";q=10;w=60',
        b"ratelimit": b'"address";r=2;t=60',
    }
    over = gate.charge_address(address, 3)
    assert over.refused is not None
    assert over.refused.code == "rate_limited"
    assert over.refused.fields == {"policy": "address", "retry_after": "60"}
    assert gate.charge_address(address, 2).refused is None  # what was refused does not count
    assert gate.exhausted(address)
    assert not gate.exhausted(someone())
    clock.now += 60
    assert not gate.exhausted(address)
    assert gate.charge_address(address, 10).refused is None


async def test_who_has_no_address_shares(connection: redis.asyncio.Redis) -> None:
    gate = gate_of(connection)
    told = [gate.charge_address("", 1) for _ in range(10 * SHARED_FACTOR + 1)]
    assert [each.refused for each in told[:-1]] == [None] * (10 * SHARED_FACTOR)
    assert told[-1].refused is not None
    assert dict(told[0].headers) == {
        b"ratelimit-policy": b'"address";q=%d;w=60' % (10 * SHARED_FACTOR),
        b"ratelimit": b'"address";r=%d;t=60' % (10 * SHARED_FACTOR - 1),
    }


async def test_sessions_and_the_customer_behind_them(connection: redis.asyncio.Redis) -> None:
    gate = gate_of(connection)
    told = gate.charge_member(1, 77, 20)
    assert dict(told.headers)[b"ratelimit"] == b'"session";r=0;t=60'
    assert dict(told.headers)[b"ratelimit-policy"] == b'"session";q=20;w=60, "customer";q=30;w=60'
    over = gate.charge_member(1, 77, 1)
    assert over.refused is not None
    assert over.refused.fields["policy"] == "session"
    assert gate.charge_member(2, 77, 10).refused is None
    over = gate.charge_member(3, 77, 1)
    assert over.refused is not None
    assert over.refused.fields["policy"] == "customer"
    assert dict(over.headers)[b"ratelimit"] == b'"customer";r=0;t=60'
    assert gate.charge_member(4, 78, 1).refused is None


async def test_replicas_share(connection: redis.asyncio.Redis) -> None:
    one, two = gate_of(connection), gate_of(connection)
    address = someone()
    one.charge_address(address, 6)
    await one._counts.sync()
    two.charge_address(address, 1)
    await two._counts.sync()
    assert two.charge_address(address, 4).refused is not None
    assert two.charge_address(address, 3).refused is None


def test_a_network_of_ipv6_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("192.0.2.1") == "192.0.2.1"


@pytest.mark.parametrize("strategy", ["fixed-window", "moving-window", "sliding-window-counter"])
async def test_attempts_are_exact_over_replicas(
    connection: redis.asyncio.Redis, strategy: str
) -> None:
    gates = []
    for _ in range(2):
        gate = Gate(RequestLimits(login="4/hour", strategy=strategy), SharedCounts())  # type: ignore[arg-type]
        gate.open(connection)
        gates.append(gate)
    address = someone()
    answers = [await gates[n % 2].admit("login", address, f"{n}@example.com") for n in range(5)]
    assert answers[:4] == [None] * 4
    assert answers[4] is not None
    assert answers[4].code == "rate_limited"
    assert answers[4].fields["policy"] == "login"
    assert 1 <= int(answers[4].fields["retry_after"]) <= 3_600


async def test_what_is_aimed_at_is_guarded_wherever_one_comes_from(
    connection: redis.asyncio.Redis,
) -> None:
    gate = gate_of(connection)
    target = someone()
    answers = [await gate.admit("login", someone(), target) for _ in range(4)]
    assert answers[:3] == [None] * 3
    assert answers[3] is not None
    assert await gate.admit("login", someone(), someone()) is None
    unknown = [await gate.admit("login", "", someone()) for _ in range(7)]
    assert unknown == [None] * 7  # they share twenty times as much


async def test_without_redis_logins_go_on_and_gifts_do_not() -> None:
    away = redis.asyncio.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    gate = gate_of(away)
    address = someone()
    answers = [await gate.admit("login", address, f"{n}@example.com") for n in range(7)]
    assert answers[:6] == [None] * 6
    assert answers[6] is not None  # by the replica's own count
    for name in ("sign_up", "password_reset"):
        refusal = await gate.admit(name, someone(), someone())
        assert refusal is not None
        assert refusal.code == "unavailable"
    assert await gate.admit("second_factor", someone(), someone()) is None
    gate.charge_address(address, 10)
    with pytest.raises(redis.exceptions.ConnectionError):
        await gate._counts.sync()
    assert gate.charge_address(address, 1).refused is not None
    await away.aclose()


@pytest.mark.parametrize("name", ["address", "login"])
def test_a_limit_that_cannot_be_read(name: str) -> None:
    value = {"address": "1/minute;2/hour", "login": "often"}[name]
    with pytest.raises(ValueError, match=r"limit|parse"):
        check(msgspec.structs.replace(RequestLimits(), **{name: value}))


# -- over HTTP ----------------------------------------------------------------------------


SOME = msgspec.structs.replace(FEW, address="16/minute")


@pytest.fixture
async def strict(
    own_config: AppConfig, connection: redis.asyncio.Redis
) -> AsyncIterator[Application]:
    """An application that allows little. Its sessions have the numbers of other tests'."""
    async for key in connection.scan_iter("kontor:count:session:*"):
        await connection.delete(key)
    app = build(dataclasses.replace(own_config, request_limits=SOME, forwarded_hops=1))
    weaken_passwords(app)
    now = time.time()
    app.services.counts.now = lambda: now  # no minute ends meanwhile
    async with lifespan(app):
        yield app


def from_somewhere() -> dict[str, str]:
    """The header of a proxy that tells an address, another each time."""
    return {"x-forwarded-for": f"2001:db8:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::1"}


async def signed_up(client: httpx.AsyncClient) -> User:
    """Somebody with a token."""
    name = uuid.uuid4().hex
    form = {"email": f"{name}@example.com", "name": "Ann", "password": PASSWORD}
    answer = await client.post("/api/signup/", json=form)
    assert answer.status_code == 201, answer.text
    return User(client, answer.json())


async def test_answers_tell_what_is_left(strict: Application) -> None:
    async with http_client(strict, headers=from_somewhere()) as client:
        user = await signed_up(client)
        wrong = await client.get(user.path, headers={"authorization": "Bearer kontor_x"})
        refused(wrong, "unauthenticated")
        assert wrong.headers["ratelimit"].startswith(f'"address";r={15 - UNKNOWN_SESSION_COST};')
        token = {"authorization": f"Bearer {(await _login(client, user)).json()['token']}"}
        answer = await client.get(user.path, headers=token)
        assert answer.headers["ratelimit"].startswith('"session";r=19;')
        for _ in range(19):
            assert (await client.get(user.path, headers=token)).status_code == 200
        answer = await client.get(user.path, headers=token)
        fields = {"policy": "session", "retry_after": answer.headers["retry-after"]}
        assert refused(answer, "rate_limited") == fields
        assert answer.headers["ratelimit"].startswith('"session";r=0;')


async def _login(client: httpx.AsyncClient, user: User) -> httpx.Response:
    form = {"email": user.email, "password": PASSWORD}
    return await client.post("/api/login/", json=form)


async def test_a_flood_of_tokens_does_not_shut_out_who_has_one(strict: Application) -> None:
    async with http_client(strict, headers=from_somewhere()) as client:
        user = await signed_up(client)
        token = {"authorization": f"Bearer {(await _login(client, user)).json()['token']}"}
        assert (await client.get(user.path, headers=token)).status_code == 200
        rubbish = {"authorization": "Bearer kontor_" + "x" * 43}
        statuses = [(await client.get(user.path, headers=rubbish)).status_code for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        assert (await client.get(user.path, headers=token)).status_code == 200


async def test_sign_ups_of_one_address(strict: Application) -> None:
    async with http_client(strict, headers=from_somewhere()) as client:
        await signed_up(client)
        await signed_up(client)
        form = {"email": "zoe@example.com", "name": "Zoe", "password": PASSWORD}
        answer = await client.post("/api/signup/", json=form)
        assert answer.status_code == 429
        assert answer.json()["code"] == "rate_limited"
        assert answer.json()["fields"]["policy"] == "sign_up"
        assert 1 <= int(answer.headers["retry-after"]) <= 3_600
        answer = await client.post("/api/signup/", json=form, headers=from_somewhere())
        assert answer.status_code == 201


async def test_pages_are_counted_too(strict: Application) -> None:
    async with http_client(strict, headers=from_somewhere()) as client:
        statuses = [(await client.get("/login")).status_code for _ in range(17)]
        assert statuses == [200] * 16 + [429]
        answer = await client.get("/login")
        assert "Wait as long as" in answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await client.get("/livez")).status_code == 200


async def test_what_is_used_while_counts_are_shared_is_shared_next(
    connection: redis.asyncio.Redis,
) -> None:
    one, two = gate_of(connection), gate_of(connection)
    session, customer = uuid.uuid4().int % 10**12, uuid.uuid4().int % 10**12
    one.charge_member(session, customer, 5)
    sharing = asyncio.create_task(one._counts.sync())
    await asyncio.sleep(0)  # it has asked, and not been answered
    one.charge_member(session, customer, 5)
    await sharing
    await one._counts.sync()
    one.charge_member(session, customer, 5)
    await one._counts.sync()
    two.charge_member(session, customer, 1)
    await two._counts.sync()
    left = two.charge_member(session, customer, 1).headers[1][1]
    assert left.startswith(b'"session";r=3;')


async def test_windows_that_were_swept_are_looked_up_again(connection: redis.asyncio.Redis) -> None:
    gate = gate_of(connection)
    session = uuid.uuid4().int % 10**12
    gate.charge_member(session, session, 5)
    gate._counts._sweep(gate._counts.now())
    gate.charge_member(session, session, 7)
    await gate._counts.sync()
    assert gate._members[session].session.known == 7

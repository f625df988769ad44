"""The courier between a real Postgres, a real SMTP server and a real receiver of webhooks."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import cast

import pytest

from actors.sending import JITTER, pause
from domain.notifications import Kind
from persistence import deliveries as store
from persistence.database import Connection, Pool
from tests.actors.post import (
    ANN,
    BEN,
    add_endpoint,
    add_people,
    at_work,
    make_courier,
    settled,
    states,
    tell,
    until,
)
from tests.actors.postoffice import PostOffice
from tests.actors.receiver import Receiver, verified

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
async def people(pool: Pool) -> None:
    """Ann and Ben are there."""
    await add_people(pool)


def test_pauses_grow_vary_and_end() -> None:
    chance = Random(7)
    found = [pause(1, (10.0, 60.0), chance) for _ in range(200)]
    values = [value for value in found if value is not None]
    assert len(values) == 200
    assert 10 * (1 - JITTER) <= min(values) < 9 < 11 < max(values) <= 10 * (1 + JITTER)
    assert (pause(2, (10.0, 60.0), chance) or 0) > 40
    assert pause(3, (10.0, 60.0), chance) is None


async def test_what_is_told_arrives_by_mail_and_its_secret_is_forgotten(pool: Pool) -> None:
    office = PostOffice()
    link = "https://bank.test/reset?token=sesame"
    async with office.open() as smtp, at_work(make_courier(pool, smtp, poll_s=60.0)):
        await asyncio.sleep(0.1)  # nothing to do: from now on it waits to be woken
        await tell(pool, ANN, Kind.PASSWORD_RESET, "one", link=link)
        (row,) = await settled(pool)
    (mail,) = office.mails
    assert mail["to"].addresses[0].addr_spec == "ann@example.com"
    for form in ("plain", "html"):
        body = mail.get_body((form,))
        assert body is not None
        assert "token=sesame" in body.get_content()
    assert mail["list-unsubscribe"] is None
    assert (row["state"], row["attempts"], row["last_status"]) == ("sent", 1, 250)
    assert row["secret"] is None
    assert row["done_at"] is not None


async def test_what_may_be_switched_off_says_how(pool: Pool) -> None:
    office = PostOffice()
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await tell(pool, ANN, Kind.TRANSFER_RETURNED, "one")
        await until(lambda: bool(office.mails))
    assert "https://bank.test/unsubscribe?user=1000000001" in office.mails[0]["list-unsubscribe"]


async def test_an_outage_of_the_server_costs_no_mail_and_no_attempt(pool: Pool) -> None:
    office = PostOffice()
    async with office.open() as smtp:
        pass
    for number in range(3):
        await tell(pool, ANN, Kind.PASSWORD_CHANGED, f"{number}")
    courier = make_courier(pool, smtp)
    async with at_work(courier):
        await until(lambda: courier.state["email"].startswith("away: There is no connection"))
        assert "email: away" in courier.describe()["state"]
        assert [(row["state"], row["attempts"]) for row in await states(pool)] == [
            ("pending", 0)
        ] * 3
        async with office.open(port=smtp.port):
            rows = await settled(pool)
        assert courier.describe()["state"] == "running"
    assert [(row["state"], row["attempts"]) for row in rows] == [("sent", 1)] * 3
    assert len(office.mails) == 3


async def test_greylisting_is_waited_out(pool: Pool) -> None:
    office = PostOffice()
    office.answers_to_recipients += ["450 Greylisted", "450 Greylisted"]
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await tell(pool, ANN, Kind.PASSWORD_CHANGED, "one")
        (row,) = await settled(pool)
    assert (row["state"], row["attempts"]) == ("sent", 3)
    assert len(office.mails) == 1


@pytest.mark.parametrize(
    ("answers", "attempts", "error"),
    [
        (["550 Nobody here"], 1, "550: Nobody here"),
        (["450 Not now", "450 Not now", "451 Nor now"], 3, "451: Nor now"),
    ],
)
async def test_what_is_given_up_can_be_sent_again(
    pool: Pool, answers: list[str], attempts: int, error: str
) -> None:
    office = PostOffice()
    office.answers_to_recipients += answers
    async with office.open() as smtp, at_work(make_courier(pool, smtp)):
        await tell(pool, ANN, Kind.PASSWORD_RESET, "one")
        await settled(pool)
        (dead,) = await store.dead(pool)
        assert (dead.attempts, dead.last_error, dead.kind) == (attempts, error, "password_reset")
        async with pool.acquire() as proxy, proxy.transaction():
            assert await store.resend(cast(Connection, proxy), dead.id)
            assert not await store.resend(cast(Connection, proxy), dead.id)
        (row,) = await settled(pool)
    assert (row["state"], row["attempts"]) == ("sent", 1)
    assert await store.dead(pool) == []
    assert "token=abc" in office.mails[0].as_string()


async def test_what_is_urgent_goes_first(pool: Pool) -> None:
    office = PostOffice()
    for number in range(20):  # more than are claimed at once
        await tell(pool, ANN, Kind.TRANSFER_RETURNED, f"{number}")
    await tell(pool, BEN, Kind.PASSWORD_CHANGED, "urgent")
    async with office.open() as smtp, at_work(make_courier(pool, smtp, connections=1)):
        await settled(pool)
    assert office.recipients == ["ben@example.com", *["ann@example.com"] * 20]
    assert office.connections == 1


async def test_two_couriers_send_each_mail_once(pool: Pool) -> None:
    office = PostOffice()
    for number in range(80):
        await tell(pool, ANN, Kind.TRANSFER_RETURNED, f"{number}")
    async with (
        office.open() as smtp,
        at_work(make_courier(pool, smtp), make_courier(pool, smtp)),
    ):
        rows = await settled(pool)
    assert {row["state"] for row in rows} == {"sent"}
    names = Counter(mail["message-id"] for mail in office.mails)
    assert len(names) == 80
    assert set(names.values()) == {1}
    assert office.connections <= 8


async def test_who_has_left_is_told_only_what_is_about_security(pool: Pool) -> None:
    receiver, office = Receiver(), PostOffice()
    async with receiver.open() as port, office.open() as smtp:
        await add_endpoint(pool, ANN, f"http://127.0.0.1:{port}/")
        await tell(pool, ANN, Kind.TRANSFER_RETURNED, "one")
        await tell(pool, ANN, Kind.ACCOUNT_CLOSED, "two")
        await pool.execute("UPDATE users SET closed_at = now() WHERE id = $1", ANN)
        async with at_work(make_courier(pool, smtp)):
            rows = await settled(pool)
    assert len(office.mails) == 1
    assert receiver.requests == []
    assert Counter(row["state"] for row in rows) == {"dead": 2, "sent": 1}


async def test_a_courier_killed_between_sending_and_noting_loses_nothing(
    pool: Pool, database_url: str
) -> None:
    """The mail comes twice, under one name; never not at all."""
    office = PostOffice()
    await tell(pool, ANN, Kind.PASSWORD_CHANGED, "one")
    async with office.open() as smtp:
        command = [sys.executable, "-m", "tests.actors.courier_process", database_url]
        process = await asyncio.create_subprocess_exec(*command, str(smtp.port), cwd=ROOT)
        office.on_mail = process.kill
        await asyncio.wait_for(process.wait(), 30)
        office.on_mail = lambda: None
        (row,) = await states(pool)
        assert (row["state"], row["attempts"]) == ("pending", 0)
        async with at_work(make_courier(pool, smtp)):
            (row,) = await settled(pool)
    assert (row["state"], row["attempts"]) == ("sent", 1)
    first, second = office.mails
    assert first["message-id"] == second["message-id"]


async def test_webhooks_arrive_signed_and_are_repeated_under_one_name(pool: Pool) -> None:
    receiver = Receiver()
    receiver.answers += ["500 Oh no", "302 Found\r\nLocation: /elsewhere"]
    async with receiver.open() as port:
        secret = await add_endpoint(pool, ANN, f"http://127.0.0.1:{port}/hooks")
        async with at_work(make_courier(pool)):
            await tell(pool, ANN, Kind.TRANSFER_RECEIVED, "one", amount="12.50")
            (row,) = await settled(pool)
    assert (row["state"], row["attempts"], row["last_status"]) == ("sent", 3, 204)
    assert len(receiver.requests) == 3
    assert {request.path for request in receiver.requests} == {"/hooks"}
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    for request in receiver.requests:
        now = float(request.headers["webhook-timestamp"])
        assert verified(secret, request, now)
    assert b'"type":"transfer_received"' in receiver.requests[0].body
    assert b'"amount":"12.50"' in receiver.requests[0].body
    assert b'"customer":"1000000001"' in receiver.requests[0].body
    assert await pool.fetchval("SELECT failing_since FROM webhook_endpoints") is None


async def test_a_slow_endpoint_does_not_hold_up_another(pool: Pool) -> None:
    slow, quick = Receiver(), Receiver()
    slow.slow = True
    async with slow.open() as first, quick.open() as second:
        await add_endpoint(pool, ANN, f"http://127.0.0.1:{first}/")
        await add_endpoint(pool, BEN, f"http://127.0.0.1:{second}/")
        for number in range(70):
            await tell(pool, ANN, Kind.TRANSFER_RECEIVED, f"{number}")
        async with at_work(make_courier(pool, webhook_timeout_s=30.0)):
            await asyncio.wait_for(slow.arrived.wait(), 10)
            await tell(pool, BEN, Kind.TRANSFER_RECEIVED, "one")
            await asyncio.wait_for(quick.arrived.wait(), 10)
            await until(lambda: len(slow.requests) == 2)
    assert len(slow.requests) == 2


@pytest.mark.parametrize("answer", ["410 Gone", "500 Oh no"])
async def test_an_endpoint_that_has_long_failed_is_switched_off_and_its_owner_told(
    pool: Pool, answer: str
) -> None:
    receiver, office = Receiver(), PostOffice()
    receiver.answers += [answer] * 10
    async with receiver.open() as port, office.open() as smtp:
        await add_endpoint(pool, ANN, f"http://127.0.0.1:{port}/")
        if answer == "500 Oh no":
            await pool.execute(
                "UPDATE webhook_endpoints SET failing_since = now() - '6 days'::interval"
            )
        await tell(pool, ANN, Kind.TRANSFER_RECEIVED, "one")
        async with at_work(make_courier(pool, smtp)):
            await until(lambda: bool(office.mails))
            rows = await settled(pool)
            await tell(pool, ANN, Kind.TRANSFER_RECEIVED, "two")
    assert len(receiver.requests) == 1
    assert [row["state"] for row in rows] == ["dead", "sent"]
    reason = await pool.fetchval("SELECT disabled_reason FROM webhook_endpoints")
    assert ("gone" if answer == "410 Gone" else "for 5 days") in reason
    assert await pool.fetchval("SELECT count(*) FROM deliveries") == 2


async def test_an_endpoint_that_fails_for_an_hour_is_left_on(pool: Pool) -> None:
    receiver = Receiver()
    receiver.answers += ["500 Oh no"] * 3
    async with receiver.open() as port:
        await add_endpoint(pool, ANN, f"http://127.0.0.1:{port}/")
        await pool.execute(
            "UPDATE webhook_endpoints SET failing_since = now() - '1 hour'::interval"
        )
        await tell(pool, ANN, Kind.TRANSFER_RECEIVED, "one")
        async with at_work(make_courier(pool)):
            (row,) = await settled(pool)
    assert (row["state"], row["attempts"], row["last_status"]) == ("dead", 3, 500)
    assert await pool.fetchval("SELECT disabled_at FROM webhook_endpoints") is None


async def test_what_nobody_could_send_for_a_week_is_given_up(pool: Pool) -> None:
    for key in ("old", "new"):
        await tell(pool, ANN, Kind.PASSWORD_CHANGED, key)
    await pool.execute("UPDATE deliveries SET next_at = now() - '8 days'::interval WHERE id = 1")
    await store.purge(pool)
    assert [row["state"] for row in await states(pool)] == ["dead", "pending"]
    await pool.execute("UPDATE deliveries SET done_at = now() - '91 days'::interval WHERE id = 1")
    assert await store.purge(pool) == 1
    assert [row["state"] for row in await states(pool)] == ["pending"]

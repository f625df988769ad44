"""Notifications in Postgres: each thing told once, numbers without gaps, choices respected."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from domain.notifications import KINDS, Channel, Kind
from persistence import notifications as store
from persistence.database import Connection, Pool, connection

ANN, BEN = 1_000_000_001, 1_000_000_002


async def people(pool: Pool) -> None:
    """Ann and Ben exist."""
    for user, name in ((ANN, "ann baker"), (BEN, "ben carter")):
        await pool.execute(
            "INSERT INTO users (id, email, name, password_hash) VALUES ($1, $2, $3, 'x')",
            user,
            f"{name.split()[0]}@example.com",
            name.title(),
        )


def notice(user: int, key: str, kind: Kind = Kind.WELCOME, **more: Any) -> store.Notice:
    """Something to tell, with values that fit."""
    rule = KINDS[kind]
    return store.Notice(user, kind, rule.example, key, rule.secret, **more)


async def tell(pool: Pool, *notices: store.Notice) -> dict[int, int]:
    """In a transaction of their own."""
    async with pool.acquire() as proxy, proxy.transaction():
        return await store.notify_many(cast(Connection, proxy), notices)


async def rows(pool: Pool, table: str = "notifications") -> list[dict[str, Any]]:
    """A whole table."""
    return [dict(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY id")]


async def test_numbers_are_per_person_and_without_gaps(pool: Pool) -> None:
    await people(pool)
    assert await tell(pool, notice(ANN, "a"), notice(BEN, "a"), notice(ANN, "b")) == {
        ANN: 2,
        BEN: 1,
    }
    assert await tell(pool, notice(ANN, "c")) == {ANN: 3}
    found = await store.after(pool, {ANN: 1, BEN: 0}, 100)
    assert [(row.user, row.seq) for row in found] == [(ANN, 2), (ANN, 3), (BEN, 1)]
    assert await store.standing(pool, ANN) == (3, 3)


async def test_what_is_told_twice_counts_once(pool: Pool) -> None:
    await people(pool)
    await tell(pool, notice(ANN, "a"))
    assert await tell(pool, notice(ANN, "a"), notice(ANN, "b"), notice(ANN, "b")) == {ANN: 2}
    assert [(row["seq"], row["key"]) for row in await rows(pool)] == [(1, "a"), (2, "b")]


async def test_nothing_is_told_of_what_did_not_happen(pool: Pool) -> None:
    await people(pool)
    async with pool.acquire() as proxy:
        turn = proxy.transaction()
        await turn.start()
        writing = cast(Connection, proxy)
        await store.notify(writing, ANN, Kind.WELCOME, {"name": "Ann"}, key="a")
        await turn.rollback()
    assert await rows(pool) == []
    assert await tell(pool, notice(ANN, "b")) == {ANN: 1}


async def test_who_is_not_a_user_is_told_nothing(pool: Pool) -> None:
    await people(pool)
    assert await tell(pool, notice(1_999_999_999, "a"), notice(ANN, "a")) == {ANN: 1}


async def test_many_at_once_give_no_number_twice_and_leave_none_out(pool: Pool) -> None:
    await people(pool)
    keys = [f"k{index}" for index in range(30)]
    await asyncio.gather(
        *(tell(pool, notice(ANN, key), notice(BEN, key)) for key in keys),
        *(tell(pool, notice(BEN, key), notice(ANN, key)) for key in keys),
    )
    for user in (ANN, BEN):
        found = await store.after(pool, {user: 0}, 100)
        assert [row.seq for row in found] == list(range(1, 31))


async def test_an_e_mail_alone_has_no_number_and_its_secret_stands_apart(pool: Pool) -> None:
    await people(pool)
    assert await tell(pool, notice(ANN, "reset", Kind.PASSWORD_RESET)) == {}
    (stored,) = await rows(pool)
    assert stored["seq"] is None
    assert "link" not in stored["details"]
    (delivery,) = await rows(pool, "deliveries")
    assert (delivery["channel"], delivery["target"]) == ("email", "ann@example.com")
    assert (delivery["state"], delivery["urgent"]) == ("pending", True)
    assert msgspec.json.decode(delivery["secret"]) == KINDS[Kind.PASSWORD_RESET].secret
    assert await store.standing(pool, ANN) == (0, 0)
    assert await store.page(pool, ANN) == []


async def test_an_e_mail_may_go_to_another_address(pool: Pool) -> None:
    await people(pool)
    await tell(pool, notice(ANN, "old", Kind.EMAIL_CHANGED, to="old@example.com"))
    assert [row["target"] for row in await rows(pool, "deliveries")] == ["old@example.com"]


async def test_choices_decide_and_what_is_fixed_cannot_be_chosen(pool: Pool) -> None:
    await people(pool)
    received = Kind.TRANSFER_RECEIVED
    await store.choose(pool, ANN, {(received, Channel.APP): False, (received, Channel.EMAIL): True})
    await tell(pool, notice(ANN, "a", received), notice(BEN, "a", received))
    assert [(row["user_id"], row["seq"]) for row in await rows(pool)] == [(ANN, None), (BEN, 1)]
    assert [row["user_id"] for row in await rows(pool, "deliveries")] == [ANN]
    for kind, channel in (
        (Kind.PASSWORD_CHANGED, Channel.EMAIL),
        (Kind.PASSWORD_CHANGED, Channel.APP),
        (Kind.WELCOME, Channel.WEBHOOK),
    ):
        with pytest.raises(ValueError, match="cannot be chosen"):
            await store.choose(pool, ANN, {(kind, channel): False})
    # Written past the rules, a choice still does not silence what is fixed.
    await pool.execute(
        "INSERT INTO notification_preferences VALUES ($1, 'password_changed', 'email', false)", ANN
    )
    await tell(pool, notice(ANN, "b", Kind.PASSWORD_CHANGED))
    assert len(await rows(pool, "deliveries")) == 2


async def test_what_nobody_wants_is_not_stored(pool: Pool) -> None:
    await people(pool)
    assert await tell(pool, notice(ANN, "a", Kind.ORDER_FILLED)) == {}
    assert await rows(pool) == []
    await store.choose(pool, ANN, {(Kind.ORDER_FILLED, Channel.APP): True})
    assert await tell(pool, notice(ANN, "b", Kind.ORDER_FILLED)) == {ANN: 1}


async def test_each_endpoint_that_wants_the_kind_gets_a_delivery(pool: Pool) -> None:
    await people(pool)
    for kinds, disabled in (
        ([], False),
        (["transfer_received"], False),
        (["welcome"], False),
        ([], True),
    ):
        await pool.execute(
            "INSERT INTO webhook_endpoints (user_id, url, kinds, secret, disabled_at)"
            " VALUES ($1, 'https://a.example', $2, 'x', $3)",
            ANN,
            kinds,
            datetime.now(UTC) if disabled else None,
        )
    await tell(pool, notice(ANN, "a", Kind.TRANSFER_RECEIVED))
    endpoints = [row["id"] for row in await rows(pool, "webhook_endpoints")]
    assert [row["target"] for row in await rows(pool, "deliveries")] == [
        str(endpoint) for endpoint in endpoints[:2]
    ]


async def test_listeners_are_woken_at_the_commit_and_not_before(
    pool: Pool, database_url: str
) -> None:
    await people(pool)
    heard: list[tuple[str, str]] = []

    def hear(connection: object, pid: int, channel: str, payload: object) -> None:
        heard.append((channel, str(payload)))

    async with connection(database_url, name="listener") as listening:
        for channel in (store.TOLD, store.TO_SEND):
            await listening.add_listener(channel, hear)
        async with pool.acquire() as proxy, proxy.transaction():
            rule = KINDS[Kind.PASSWORD_CHANGED]
            writing = cast(Connection, proxy)
            await store.notify(writing, ANN, Kind.PASSWORD_CHANGED, rule.example, key="a")
            await listening.execute("SELECT 1")
            before = list(heard)
        await listening.execute("SELECT 1")
        assert (before, sorted(heard)) == ([], [(store.TO_SEND, "email"), (store.TOLD, str(ANN))])


async def test_reading_marks_and_pages(pool: Pool) -> None:
    await people(pool)
    await tell(pool, *(notice(ANN, f"k{index}") for index in range(5)), notice(BEN, "other"))
    assert [row.seq for row in await store.page(pool, ANN, limit=2)] == [5, 4]
    assert [row.seq for row in await store.page(pool, ANN, before=4, limit=2)] == [3, 2]
    assert await store.mark_read(pool, ANN, 4)
    assert not await store.mark_read(pool, ANN, 6)
    assert await store.standing(pool, ANN) == (5, 4)
    assert [row.seq for row in await store.page(pool, ANN, unread=True)] == [5, 3, 2, 1]
    assert await store.mark_all_read(pool, ANN, 3) == 3
    assert await store.standing(pool, ANN) == (5, 1)
    assert await store.standing(pool, BEN) == (1, 1)
    assert await store.heads(pool, [ANN, BEN, 7]) == {ANN: 5, BEN: 1}


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_values_and_keys_that_do_not_fit_are_a_bug(pool: Pool, key: str) -> None:
    await people(pool)
    with pytest.raises(ValueError, match="characters"):
        await tell(pool, notice(ANN, key))
    with pytest.raises(ValueError, match="needs name"):
        await tell(pool, store.Notice(ANN, Kind.WELCOME, {"nam": "Ann"}, "a"))

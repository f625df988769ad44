"""Users, sessions and failed attempts against a real Postgres."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from domain.identity.rules import BackOff
from persistence import identity as store
from persistence.database import Pool

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
USER = 4820193756
RULE = BackOff(free=2, first_s=10, most_s=60, forget_s=600)


async def add(pool: Pool, user: int = USER, email: str = "ann@example.com") -> bool:
    return await store.add_user(
        pool, user=user, email=email, name="Ann", password_hash="$argon2id$", now=NOW
    )


def session(digest: bytes, **changes: object) -> store.NewSession:
    values: dict[str, object] = {
        "token_hash": digest,
        "kind": "api",
        "user": USER,
        "csrf": "c",
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=2),
        "idle_s": 600,
        "ip": "192.0.2.1",
        "user_agent": "tests",
    }
    return store.NewSession(**{**values, **changes})  # type: ignore[arg-type]


async def test_an_address_is_taken_in_whatever_case(pool: Pool) -> None:
    assert await add(pool)
    with pytest.raises(store.EmailTaken):
        await add(pool, USER + 1, "ANN@example.com")
    found = await store.user_by_email(pool, "Ann@Example.com")
    assert found is not None
    assert (found.id, found.opened_at) == (USER, None)
    assert await store.user_by_email(pool, "bob@example.com") is None


async def test_a_taken_number_is_drawn_again(pool: Pool) -> None:
    assert await add(pool)
    assert not await add(pool, USER, "bob@example.com")


async def test_unopened_users_are_found_until_opened(pool: Pool) -> None:
    await add(pool)
    assert await store.unopened_users(pool, NOW, 10) == []
    later = NOW + timedelta(seconds=1)
    assert await store.unopened_users(pool, later, 10) == [USER]
    await store.mark_opened(pool, USER, later)
    await store.mark_opened(pool, USER, later + timedelta(days=1))
    assert await store.unopened_users(pool, later, 10) == []
    row = await store.user_by_id(pool, USER)
    assert row is not None
    assert row.opened_at == later


async def test_a_renewed_hash_does_not_undo_a_change(pool: Pool) -> None:
    await add(pool)
    await store.replace_password_hash(pool, USER, "another", "new")
    row = await store.user_by_id(pool, USER)
    assert row is not None
    assert row.password_hash == "$argon2id$"


@pytest.mark.parametrize(
    ("at", "changes", "alive"),
    [
        (timedelta(seconds=599), {}, True),
        (timedelta(seconds=600), {}, False),
        (timedelta(hours=2), {"idle_s": 100_000}, False),
        (timedelta(minutes=119), {"idle_s": 100_000}, True),
    ],
)
async def test_a_session_ends_unused_or_at_its_end(
    pool: Pool, at: timedelta, changes: dict[str, object], alive: bool
) -> None:
    await add(pool)
    await store.add_session(pool, session(b"1" * 32, **changes))
    found = await store.live_sessions(pool, [b"1" * 32, b"2" * 32], NOW + at)
    assert [row.user for row in found] == ([USER] if alive else [])


async def test_use_keeps_a_session_alive_and_never_goes_back(pool: Pool) -> None:
    await add(pool)
    await store.add_session(pool, session(b"1" * 32))
    used = NOW + timedelta(seconds=500)
    await store.touch_sessions(pool, [(b"1" * 32, used)])
    await store.touch_sessions(pool, [(b"1" * 32, NOW)])
    (row,) = await store.live_sessions(pool, [b"1" * 32], NOW + timedelta(seconds=1_000))
    assert row.last_seen_at == used
    assert row.ends_at == used + timedelta(seconds=600)


async def test_only_the_owner_revokes_and_only_once(pool: Pool) -> None:
    await add(pool)
    number = await store.add_session(pool, session(b"1" * 32))
    assert await store.revoke_session(pool, USER + 1, number, NOW) is None
    ended = await store.revoke_session(pool, USER, number, NOW)
    assert ended is not None
    assert ended.token_hash == b"1" * 32
    assert await store.revoke_session(pool, USER, number, NOW) is None
    assert await store.live_sessions(pool, [b"1" * 32], NOW) == []
    assert await store.sessions_of(pool, USER, NOW) == []
    assert await store.revoked_since(pool, NOW) == [b"1" * 32]
    assert await store.revoked_since(pool, NOW + timedelta(seconds=1)) == []


async def test_attempts_are_counted_before_they_are_checked(pool: Pool) -> None:
    rules: list[tuple[store.FailureKind, str, BackOff]] = [
        ("account", "a", RULE),
        ("address", "192.0.2.1", BackOff(free=50, first_s=2, most_s=60, forget_s=600)),
    ]
    waits = await asyncio.gather(*(store.count_attempt(pool, rules, NOW) for _ in range(20)))
    assert sorted(waits) == [0, 0, 0] + [10] * 17
    address = await pool.fetchval("select failures from login_failures where kind = 'address'")
    assert address == 3, "what is refused by one rule is not counted by the other"
    await store.forgive(pool, "account", "a")
    assert await store.count_attempt(pool, rules, NOW) == 0
    await store.uncount(pool, "address", "192.0.2.1")
    address = await pool.fetchval("select failures from login_failures where kind = 'address'")
    assert address == 3


async def test_what_ended_long_ago_is_forgotten(pool: Pool) -> None:
    await add(pool)
    await store.add_session(pool, session(b"1" * 32))
    rules: list[tuple[store.FailureKind, str, BackOff]] = [("account", "a", RULE)]
    await store.count_attempt(pool, rules, NOW)
    await store.purge(pool, NOW + timedelta(hours=1))
    assert await pool.fetchval("select count(*) from sessions") == 1
    await store.purge(pool, NOW + timedelta(days=32))
    assert await pool.fetchval("select count(*) from sessions") == 0
    assert await pool.fetchval("select count(*) from login_failures") == 0


async def test_replicas_read_anew_what_changed_about_a_user(pool: Pool) -> None:
    await add(pool)
    await add(pool, USER + 1, "ben@example.com")
    for user, digest in ((USER, b"a" * 32), (USER + 1, b"b" * 32)):
        await store.add_session(pool, session(digest, user=user))
    assert await store.revoked_since(pool, NOW) == []
    await store.security_changed(pool, USER)
    assert await store.revoked_since(pool, NOW) == [b"a" * 32]
    (row,) = await store.live_sessions(pool, [b"b" * 32], NOW)
    assert (row.second_factor, row.verified) == (False, False)
    await store.begin_factor(pool, USER + 1, b"sealed", NOW)
    assert not (await store.live_sessions(pool, [b"b" * 32], NOW))[0].second_factor
    await store.confirm_factor(pool, USER + 1, b"sealed", 7, NOW)
    assert await store.mark_verified(pool, USER + 1, "ben@example.com", NOW)
    (row,) = await store.live_sessions(pool, [b"b" * 32], NOW)
    assert (row.second_factor, row.verified) == (True, True)
    assert await store.close_user(pool, USER + 1, NOW)
    assert await store.live_sessions(pool, [b"b" * 32], NOW) == []


async def test_a_step_counts_once_whoever_asks(pool: Pool) -> None:
    await add(pool)
    await store.begin_factor(pool, USER, b"sealed", NOW)
    assert not await store.take_step(pool, USER, 8)  # it is not in use yet
    await store.confirm_factor(pool, USER, b"sealed", 7, NOW)
    assert not await store.begin_factor(pool, USER, b"another", NOW)
    taken = await asyncio.gather(*(store.take_step(pool, USER, 8) for _ in range(5)))
    assert sorted(taken) == [False] * 4 + [True]
    assert not await store.take_step(pool, USER, 7)


async def test_a_request_is_looked_at_by_one(pool: Pool) -> None:
    for email in ("ann@example.com", "ben@example.com"):
        await store.ask_for_reset(pool, email, "", "", NOW)

    async def take() -> str:
        async with pool.acquire() as connection, connection.transaction():
            found = await store.take_reset(connection)  # type: ignore[arg-type]
            await connection.execute("select pg_sleep(0.05)")
            return found.email if found else ""

    taken = await asyncio.gather(*(take() for _ in range(3)))
    assert sorted(taken) == ["", "ann@example.com", "ben@example.com"]

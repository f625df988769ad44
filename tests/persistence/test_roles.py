"""Roles: granted once, taken back once, and what was stays written down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from domain.durable import Rejection
from domain.identity.permissions import CUSTOMER, GIVEN
from persistence import audit, roles
from persistence import identity as store
from persistence.audit import Actor, Filter
from persistence.database import Connection, Pool
from tests.persistence.test_identity import NOW, USER, add

Change = Callable[[Connection, Actor, int, str], Awaitable[Rejection | None]]


async def test_a_role_is_granted_once_and_taken_back_once(pool: Pool) -> None:
    await add(pool)
    assert await roles.grant(pool, USER, "operator", "ann")
    assert not await roles.grant(pool, USER, "operator", "ben")
    (held,) = await roles.held(pool)
    assert (held.user, held.role, held.granted_by) == (USER, "operator", "ann")
    assert await roles.revoke(pool, USER, "operator", "cyd")
    assert not await roles.revoke(pool, USER, "operator", "cyd")
    assert await roles.held(pool, USER) == []
    assert await roles.grant(pool, USER, "operator", "ben")
    rows = await pool.fetch("select granted_by, revoked_by from user_roles order by granted_at")
    assert [tuple(row) for row in rows] == [("ann", "cyd"), ("ben", None)]


ANN, BEN, CYD = 1_000_000_001, 1_000_000_002, 1_000_000_003


def acting(user: int | None) -> Actor:
    return Actor(user, "somebody@example.com", "api", "192.0.2.1")


async def office(pool: Pool) -> None:
    """Two administrators and somebody else."""
    for number, name in ((ANN, "ann"), (BEN, "ben"), (CYD, "cyd")):
        await add(pool, number, f"{name}@example.com")
    for number in (ANN, BEN):
        assert await roles.grant(pool, number, "administrator", "a test")


async def ask(pool: Pool, change: Change, actor: int | None, user: int, role: str) -> str:
    """The code of the refusal, or nothing."""
    async with pool.acquire() as proxy:
        refused = await change(cast(Connection, proxy), acting(actor), user, role)
    return "" if refused is None else refused.code


CASES: list[tuple[Change, int | None, int, str, str]] = [
    (roles.give, ANN, CYD, "emperor", "role_unknown"),
    (roles.give, ANN, CYD, "customer", "role_unknown"),
    (roles.give, ANN, CYD, "console", "role_unknown"),
    (roles.give, ANN, 1_000_000_009, "support", "user_unknown"),
    (roles.give, ANN, ANN, "auditor", "role_own"),
    (roles.give, CYD, CYD, "administrator", "role_own"),
    (roles.give, ANN, BEN, "administrator", "role_held"),
    (roles.take, ANN, CYD, "support", "role_not_held"),
    (roles.give, ANN, CYD, "support", ""),
    (roles.give, None, CYD, "auditor", ""),
    (roles.take, ANN, ANN, "administrator", ""),
]


@pytest.mark.parametrize(
    ("change", "actor", "user", "role", "code"),
    CASES,
    ids=[f"{change.__name__}-{role}-{code}" for change, _, _, role, code in CASES],
)
async def test_who_may_be_given_what(
    pool: Pool, change: Change, actor: int | None, user: int, role: str, code: str
) -> None:
    await office(pool)
    before = [(row.user, row.role) for row in await roles.held(pool)]
    written = len(await audit.search(pool, Filter()))
    assert await ask(pool, change, actor, user, role) == code
    after = [(row.user, row.role) for row in await roles.held(pool)]
    entries = await audit.search(pool, Filter())
    told = await pool.fetch("select kind from notifications where user_id = $1", user)
    if code:
        assert after == before
        assert len(entries) == written
        return
    assert after != before
    (entry,) = entries[: len(entries) - written]
    giving = change is roles.give
    assert (entry.action, entry.subject) == (
        "roles.give" if giving else "roles.take", f"customer:{user}",
    )  # fmt: skip
    assert role in (entry.after if giving else entry.before)
    assert ("role_given" if giving else "role_taken") in [row["kind"] for row in told]
    assert (await audit.verify(pool)).ok


async def test_the_last_administrator_stays(pool: Pool) -> None:
    await office(pool)
    assert await ask(pool, roles.take, ANN, BEN, "administrator") == ""
    for actor in (ANN, CYD, None):
        assert await ask(pool, roles.take, actor, ANN, "administrator") == "last_administrator"
    # Whose login is closed is no administrator that counts.
    await roles.grant(pool, BEN, "administrator", "a test")
    await pool.execute("update users set closed_at = now() where id = $1", BEN)
    assert await ask(pool, roles.take, None, ANN, "administrator") == "last_administrator"


async def test_two_at_once_do_not_take_it_from_each_other(pool: Pool) -> None:
    await office(pool)
    for _ in range(10):
        answers = await asyncio.gather(
            ask(pool, roles.take, ANN, BEN, "administrator"),
            ask(pool, roles.take, BEN, ANN, "administrator"),
        )
        assert sorted(answers) == ["", "last_administrator"]
        (left,) = await roles.held(pool)
        other = BEN if left.user == ANN else ANN
        assert await ask(pool, roles.give, left.user, other, "administrator") == ""
    assert (await audit.verify(pool)).ok


async def test_the_first_administrator_is_made_once(pool: Pool) -> None:
    for number, name in ((ANN, "ann"), (BEN, "ben")):
        await add(pool, number, f"{name}@example.com")

    async def first(user: int) -> str:
        async with pool.acquire() as proxy:
            refused = await roles.give_first(cast(Connection, proxy), acting(None), user)
        return "" if refused is None else refused.code

    answers = await asyncio.gather(first(ANN), first(BEN))
    assert sorted(answers) == ["", "administrator_exists"]
    assert len(await roles.held(pool)) == 1


async def test_only_roles_that_exist_are_granted(pool: Pool) -> None:
    await add(pool)
    with pytest.raises(roles.UnknownRole):
        await roles.grant(pool, USER, "emperor", "ann")
    assert set(await roles.role_names(pool)) == {CUSTOMER, *GIVEN}


async def test_a_session_tells_the_roles_of_its_user(pool: Pool) -> None:
    await add(pool)
    await store.add_session(
        pool,
        store.NewSession(b"1" * 32, "api", USER, "csrf", NOW, NOW.replace(year=2090), 600, "", ""),
    )

    async def of_session() -> list[str]:
        (row,) = await store.live_sessions(pool, [b"1" * 32], NOW)
        return row.roles

    assert await of_session() == []
    await roles.grant(pool, USER, "operator", "ann")
    assert await of_session() == ["operator"]
    assert await store.revoked_since(pool, NOW) == [b"1" * 32], "what is remembered is wrong now"
    await roles.revoke(pool, USER, "operator", "ann")
    assert await of_session() == []

"""Roles: granted once, taken back once, and what was stays written down."""

from __future__ import annotations

import pytest

from domain.identity.permissions import CUSTOMER, GIVEN
from persistence import identity as store
from persistence import roles
from persistence.database import Pool
from tests.persistence.test_identity import NOW, USER, add


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

"""Canary releases as replicas, operators and the API see them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from domain.identity.permissions import OPERATOR
from persistence import audit, releases, roles
from persistence.audit import Actor
from persistence.releases import Comparison, New, Refused, Side
from serve_apps import canary
from serve_apps.application import Application
from serve_apps.canary import CANARY, STABLE, Meter, counts_key, side_of
from tests.serve_apps.browser import Browser
from tests.serve_apps.conftest import User

TESTER = Actor(None, "a test", "console")
NEW = New("/srv/newer", {"KONTOR_QUOTE_SECONDS": "45"}, "0.2.0 (1f0c)", "base", 10, 1, 2.5, 1.5)
COMPARISON = Comparison(Side(1_000, 1, 0.002, 0.02, 0.01), Side(100, 5, 0.003, 0.03, 0.015))


@pytest.fixture
async def operator(app: Application) -> AsyncIterator[Browser]:
    """Somebody who may run canaries."""
    async with Browser(app) as browser:
        await browser.sign_up("Olga Operator")
        number = int(browser.home.strip("/").rpartition("/")[2])
        await roles.grant(app.services.pool, number, OPERATOR, "a test")
        await app.services.sessions.read_revocations()
        yield browser


async def _running(app: Application) -> releases.Release:
    pool = app.services.pool
    release = await releases.begin(pool, NEW, TESTER)
    await releases.settle(pool, release, releases.RUNNING, TESTER)
    await releases.compare(pool, release, COMPARISON)
    found = await releases.latest(pool)
    assert found is not None
    return found


# -- what replicas measure ----------------------------------------------------------------


async def test_a_replica_counts_only_while_a_canary_is_under_way(app: Application) -> None:
    redis = app.services.redis
    stable, beside = Meter(STABLE), Meter(CANARY)
    await stable.look(redis)
    assert not stable.release
    await canary.say_under_way(redis, "7")
    for meter in (stable, beside):
        await meter.look(redis)
        assert meter.release == "7"
    for milliseconds in range(1, 101):
        stable.count(200, milliseconds / 1_000)
    beside.count(200, 0.01)
    beside.count(503, 0.01)
    for meter in (stable, beside):
        await meter.look(redis)
    found = (await canary.measured(redis, "7")).comparison
    assert (found.stable.requests, found.stable.errors, found.stable.error_rate) == (100, 0, 0)
    assert 0.05 <= found.stable.p50_s <= 0.055
    assert 0.095 <= found.stable.p95_s <= 0.105
    assert 0.099 <= found.stable.p99_s <= 0.109
    assert (found.canary.requests, found.canary.errors, found.canary.error_rate) == (2, 1, 50)
    await canary.say_over(redis)
    await stable.look(redis)
    assert not stable.release
    assert await redis.ttl(counts_key("7", STABLE)) > 86_400
    await redis.delete(counts_key("7", STABLE), counts_key("7", CANARY))


async def test_requests_are_measured_where_they_are_answered(
    app: Application, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[int, float]] = []
    meter = app._meter
    monkeypatch.setattr(meter, "count", lambda status, seconds: counted.append((status, seconds)))
    await ann.http.get("/livez")
    assert not counted, "no canary is under way"
    monkeypatch.setattr(meter, "release", "7")
    await ann.http.get("/livez")
    await ann.http.get("/nowhere")
    assert [status for status, _ in counted] == [200, 404]
    assert all(0 < seconds < 30 for _, seconds in counted)


def test_what_is_longer_than_any_class_is_still_counted() -> None:
    meter = Meter(STABLE)
    meter.count(200, 10_000)
    meter.count(200, 0)
    found = side_of(meter._counts)
    assert found.requests == 2
    assert found.p99_s > 100
    assert side_of({}) == Side()


# -- what is wished for -------------------------------------------------------------------


async def test_there_is_one_canary_at_a_time_and_all_of_it_is_in_the_audit_log(
    app: Application,
) -> None:
    pool = app.services.pool
    with pytest.raises(Refused, match="No canary is under way"):
        await releases.steer(pool, TESTER, state=releases.PROMOTING)
    release = await releases.begin(pool, NEW, TESTER)
    with pytest.raises(Refused, match="promote it or roll it back first"):
        await releases.begin(pool, NEW, TESTER)
    with pytest.raises(Refused, match="is starting"):
        await releases.steer(pool, TESTER, weight=20)
    await releases.settle(pool, release, releases.RUNNING, TESTER)
    assert (await releases.steer(pool, TESTER, weight=20)).weight == 20
    promoting = await releases.steer(pool, TESTER, state=releases.PROMOTING)
    assert promoting.weight == 20
    again = await releases.steer(pool, TESTER, state=releases.PROMOTING)
    assert again.state == releases.PROMOTING
    with pytest.raises(Refused, match="is promoting"):
        await releases.steer(pool, TESTER, state=releases.ROLLING_BACK)
    # What was carried out for a state that is no more changes nothing.
    await releases.settle(pool, release, releases.FAILED, TESTER, reason="too late")
    await releases.settle(pool, promoting, releases.PROMOTED, TESTER)
    standing = await releases.promoted(pool)
    assert standing is not None
    assert (standing.path, standing.settings, standing.reason) == (NEW.path, NEW.settings, "")
    rows = await audit.search(pool, audit.Filter(subject=f"canary:{release.id}"))
    assert [row.action for row in reversed(rows)] == [
        "canary.start", "canary.running", "canary.weight", "canary.promote", "canary.promoted",
    ]  # fmt: skip
    second = await releases.begin(pool, NEW, TESTER)
    await releases.settle(pool, second, releases.PROMOTED, TESTER)
    after = await releases.promoted(pool)
    assert after is not None
    assert after.id == second.id


# -- pages and API ------------------------------------------------------------------------


async def test_the_page_compares_and_rolls_back(app: Application, operator: Browser) -> None:
    await operator.go("/operations/")
    assert "Canary release" not in operator.text
    release = await _running(app)
    await operator.go("/operations/")
    assert 'data-canary="running"' in operator.page.text
    assert "Stable 1,000 1 0.10 2.0 10.0 20.0" in operator.text
    assert "Canary 100 5 5.00 3.0 15.0 30.0" in operator.text
    assert "KONTOR_QUOTE_SECONDS=45" in operator.text
    assert "by itself beyond 2.5 % errors or beyond 1.5 times the stable" in operator.text
    fields = {**operator.fields("/operations/canary"), "action": "rollback"}
    await operator.post("/operations/canary", fields)
    assert operator.page.url.path == "/operations/"
    assert 'data-canary="rolling_back"' in operator.page.text
    assert "/operations/canary" not in operator.page.text, "nothing more can be done now"
    (row, *_) = await audit.search(
        app.services.pool, audit.Filter(subject=f"canary:{release.id}", action="canary.rollback")
    )
    assert (row.origin, row.actor is not None) == ("page", True)


async def test_a_form_of_somebody_elses_page_does_nothing(
    app: Application, operator: Browser
) -> None:
    await _running(app)
    for fields, status in (({"action": "promote"}, 403), ({"action": "weight"}, 403)):
        await operator.post("/operations/canary", fields)
        assert operator.page.status_code == status
    found = await releases.latest(app.services.pool)
    assert found is not None
    assert found.state == releases.RUNNING


async def test_the_api_shows_and_steers(app: Application, ann: User) -> None:
    path = "/api/operations/canary/"
    assert (await ann.http.get(path)).status_code == 404
    await roles.grant(app.services.pool, int(ann.id), OPERATOR, "a test")
    await app.services.sessions.read_revocations()
    assert (await ann.http.get(path)).json() == {"canary": None}
    refused = await ann.http.post(path, json={"action": "promote"})
    assert (refused.status_code, refused.json()["code"]) == (409, "canary_not_possible")
    await _running(app)
    found = (await ann.http.get(path)).json()["canary"]
    assert (found["state"], found["weight"], found["error_rate_max"]) == ("running", 10, 2.5)
    assert found["latency_ratio_max"] == 1.5
    assert found["canary"] == {
        "requests": 100, "errors": 5, "error_rate": 5.0, "p50_ms": 3.0, "p95_ms": 15.0,
        "p99_ms": 30.0,
    }  # fmt: skip
    changed = await ann.http.post(path, json={"action": "weight", "weight": 25})
    assert changed.json()["canary"]["weight"] == 25
    for body in ({"action": "weight"}, {"action": "promote", "weight": 5}, {"action": "stop"}):
        assert (await ann.http.post(path, json=body)).status_code == 422
    begun = await ann.http.post(path, json={"action": "rollback"})
    assert begun.json()["canary"]["state"] == "rolling_back"

"""Links by e-mail over the API: an address is proved or changed, a new password set."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from serve_apps import identity
from serve_apps.application import Application
from tests.serve_apps.authenticator import Clock, links, logged, looked_at, refused, switch_on, told
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.inprocess import PASSWORD, http_client

NEW: str = "incorrect zebra socket"


@pytest.fixture
def clock(app: Application) -> Clock:
    """The application's clock."""
    return Clock(app)


async def log_in(client: httpx.AsyncClient, email: str, password: str = PASSWORD) -> httpx.Response:
    return await client.post("/api/login/", json={"email": email, "password": password})


async def follow(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/email/verify/", json={"token": token})


async def ask_reset(client: httpx.AsyncClient, email: str) -> httpx.Response:
    return await client.post("/api/password/reset/", json={"email": email})


async def reset(client: httpx.AsyncClient, token: str, password: str = NEW) -> httpx.Response:
    body = {"token": token, "password": password}
    return await client.post("/api/password/reset/confirm/", json=body)


async def verified(app: Application, user: User) -> bool:
    found: bool = await app.services.pool.fetchval(
        "select email_verified_at is not null from users where id = $1", int(user.id)
    )
    return found


async def test_an_address_is_proved(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    ((address, first),) = await links(app, "email_verify")
    assert address == ann.email
    assert await told(app, ann) == ["welcome", "email_verify"]
    again = ann.path + "email/verification/"
    assert (await ann.http.post(again)).status_code == 202
    _, (_, token) = await links(app, "email_verify")
    refused(await follow(client, first), "link_invalid", 422)  # a newer one replaced it
    refused(await reset(client, token), "link_invalid", 422)  # it is good for nothing else
    assert not await verified(app, ann)
    assert (await follow(client, token)).status_code == 200
    assert await verified(app, ann)
    refused(await follow(client, token), "link_invalid", 422)
    assert (await ann.http.post(again)).status_code == 202
    assert len(await links(app, "email_verify")) == 2  # there is nothing left to prove
    assert "identity.email_verified" in await logged(app, ann)


async def test_a_link_is_good_for_three_days(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    ((_, token),) = await links(app, "email_verify")
    clock.forward(3 * 86_400 + 1)
    refused(await follow(client, token), "link_invalid", 422)


async def test_a_new_password_is_set_by_a_link(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    await switch_on(ann, clock)
    assert (await ask_reset(client, ann.email.upper())).status_code == 202
    await looked_at(app)
    ((address, token),) = await links(app, "password_reset")
    assert address == ann.email
    refused(await reset(client, "nonsense"), "link_invalid", 422)
    refused(await follow(client, token), "link_invalid", 422)
    refused(await reset(client, token, "password"), "password_too_simple", 422)
    assert (await ann.http.get(ann.path)).status_code == 200
    assert (await reset(client, token)).status_code == 200
    refused(await ann.http.get(ann.path), "unauthenticated", 401)
    refused(await reset(client, token), "link_invalid", 422)
    refused(await log_in(client, ann.email), "credentials_invalid", 401)
    # Whoever reads the mail has one factor, not two.
    refused(await log_in(client, ann.email, NEW), "second_factor_required", 401)
    assert await verified(app, ann)  # the link was read where it was sent to
    assert "password_changed" in await told(app, ann)
    assert "identity.password_reset" in await logged(app, ann)


async def test_only_the_newest_link_sets_a_password_and_for_an_hour(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    for _ in range(2):
        await ask_reset(client, ann.email)
        await looked_at(app)
    (_, old), (_, new) = await links(app, "password_reset")
    refused(await reset(client, old), "link_invalid", 422)
    clock.forward(3_601)
    refused(await reset(client, new), "link_invalid", 422)


async def test_the_answer_does_not_tell_which_addresses_are_known(
    app: Application, client: httpx.AsyncClient, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fetchrow = type(app.services.pool).fetchrow
    execute = type(app.services.pool).execute

    def watched(original: object) -> object:
        async def call(self: object, sql: str, *arguments: object, **more: object) -> object:
            asked.append(sql)
            return await original(self, sql, *arguments, **more)  # type: ignore[operator]

        return call

    monkeypatch.setattr(app.services, "wake", lambda job: None)
    monkeypatch.setattr(type(app.services.pool), "fetchrow", watched(fetchrow))
    monkeypatch.setattr(type(app.services.pool), "execute", watched(execute))
    answers, work = [], []
    for email in (ann.email, "nobody@example.com"):
        asked.clear()
        answer = await ask_reset(client, email)
        answers.append((answer.status_code, answer.content))
        work.append(list(asked))
    assert answers[0] == answers[1]
    # The same is done for both before the answer, so it takes the same time.
    assert work[0] == work[1] != []
    await looked_at(app)
    assert [address for address, _ in await links(app, "password_reset")] == [ann.email]


async def test_links_are_not_sent_without_end(
    client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    for email in (ann.email, "nobody@example.com"):
        codes = [(await ask_reset(client, email)).status_code for _ in range(5)]
        assert codes == [202, 202, 202, 202, 429]
    refused(await ask_reset(client, "nonsense"), "email_invalid", 422)
    again = ann.path + "email/verification/"
    codes = [(await ann.http.post(again)).status_code for _ in range(5)]
    assert codes == [202, 202, 202, 202, 429]


async def test_the_password_is_changed_and_other_sessions_end(
    app: Application, client: httpx.AsyncClient, ann: User, clock: Clock
) -> None:
    other = (await log_in(client, ann.email)).json()["token"]
    path, body = ann.path + "password/", {"password": PASSWORD, "new_password": NEW}
    refused(await ann.http.post(path, json={**body, "password": NEW}), "password_wrong", 422)
    short = {**body, "new_password": "short"}
    assert refused(await ann.http.post(path, json=short), "password_too_short", 422) == {
        "field": "new_password"
    }
    async with http_client(app, headers={"authorization": f"Bearer {other}"}) as elsewhere:
        assert (await elsewhere.get(ann.path)).status_code == 200
        assert (await ann.http.post(path, json=body)).json() == {"ended": 1}
        refused(await elsewhere.get(ann.path), "unauthenticated", 401)
    assert (await ann.http.get(ann.path)).status_code == 200
    refused(await log_in(client, ann.email), "credentials_invalid", 401)
    assert (await log_in(client, ann.email, NEW)).status_code == 200
    assert "password_changed" in await told(app, ann)
    assert "identity.password_changed" in await logged(app, ann)
    device, _ = await switch_on(ann, clock, NEW)
    body = {"password": NEW, "new_password": PASSWORD}
    refused(await ann.http.post(path, json=body), "confirmation_required", 403)
    assert (await ann.http.post(path, json={**body, "code": device.code()})).status_code == 200


async def test_guessing_the_present_password_is_slowed(ann: User) -> None:
    path, body = ann.path + "password/", {"password": "guess", "new_password": NEW}
    codes = [(await ann.http.post(path, json=body)).status_code for _ in range(7)]
    assert codes == [422] * 6 + [429]


async def test_another_address_counts_once_its_link_was_followed(
    app: Application, client: httpx.AsyncClient, ann: User, bob: User, clock: Clock
) -> None:
    device, _ = await switch_on(ann, clock)
    path = ann.path + "email/"
    body = {"email": "ann@new.example", "password": PASSWORD}
    refused(await ann.http.post(path, json={**body, "email": "nonsense"}), "email_invalid", 422)
    refused(await ann.http.post(path, json={**body, "password": "not it"}),
            "password_wrong", 422)  # fmt: skip
    id_ = refused(await ann.http.post(path, json=body), "confirmation_required", 403)[
        "confirmation"
    ]
    await ann.http.post(f"{ann.path}confirmation/{id_}/", json={"code": device.code()})
    other = {**body, "email": "mallory@new.example", "confirmation": id_}
    refused(await ann.http.post(path, json=other), "confirmation_changed", 409)
    answer = await ann.http.post(path, json={**body, "confirmation": id_})
    assert answer.status_code == 202
    ((address, token),) = await links(app, "email_change")
    assert address == "ann@new.example"
    await ask_reset(client, ann.email)
    await looked_at(app)
    ((_, reset_token),) = await links(app, "password_reset")
    refused(await log_in(client, "ann@new.example"), "credentials_invalid", 401)
    assert (await follow(client, token)).status_code == 200
    refused(await log_in(client, ann.email), "credentials_invalid", 401)
    refused(await log_in(client, "ann@new.example"), "second_factor_required", 401)
    assert (await ann.http.get(ann.path)).json()["email"] == "ann@new.example"
    # Whoever reads the old address is told, and the links there count no more.
    refused(await reset(client, reset_token), "link_invalid", 422)
    targets = await app.services.pool.fetch(
        "select d.target, n.details ->> 'email' as email from deliveries d"
        " join notifications n on n.id = d.notification_id where n.kind = 'email_changed'"
    )
    assert [tuple(row) for row in targets] == [(ann.email, "a***@new.example")]
    assert "identity.email_changed" in await logged(app, ann)


async def test_an_address_of_somebody_else_is_not_told(
    app: Application, client: httpx.AsyncClient, ann: User, make_user: MakeUser
) -> None:
    path = ann.path + "email/"
    bob = await make_user("bob")
    taken = await ann.http.post(path, json={"email": bob.email, "password": PASSWORD})
    free = await ann.http.post(path, json={"email": "carl@example.com", "password": PASSWORD})
    assert (taken.status_code, taken.content) == (free.status_code, free.content)
    ((address, token),) = await links(app, "email_change")
    assert address == "carl@example.com"
    await make_user("carl")  # somebody was quicker
    refused(await follow(client, token), "link_invalid", 422)
    assert (await ann.http.get(ann.path)).json()["email"] == ann.email


async def test_a_strange_program_is_told_of(
    app: Application, client: httpx.AsyncClient, ann: User
) -> None:
    await log_in(client, ann.email)
    assert "login_new_device" not in await told(app, ann)
    client.headers["user-agent"] = "Mozilla/5.0 (X11; Linux) Firefox/140.0"
    for _ in range(2):
        await log_in(client, ann.email)
    assert (await told(app, ann)).count("login_new_device") == 1
    device = await app.services.pool.fetchval(
        "select details ->> 'device' from notifications where kind = 'login_new_device'"
    )
    assert device == "Firefox on Linux"


async def test_all_other_sessions_are_ended(
    app: Application, client: httpx.AsyncClient, ann: User
) -> None:
    tokens = [(await log_in(client, ann.email)).json()["token"] for _ in range(2)]
    assert (await ann.http.delete(ann.path + "session/")).json() == {"ended": 2}
    for token in tokens:
        client.headers["authorization"] = f"Bearer {token}"
        refused(await client.get(ann.path), "unauthenticated", 401)
    assert (await ann.http.get(ann.path)).status_code == 200
    assert (await logged(app, ann))[-1:] == ["identity.sessions_ended"]
    assert (await told(app, ann))[-1:] == ["session_ended"]
    assert (await ann.http.delete(ann.path + "session/")).json() == {"ended": 0}
    assert (await told(app, ann)).count("session_ended") == 1, "nothing has ended"


async def test_a_session_that_is_ended_is_told_and_written_down(
    app: Application, client: httpx.AsyncClient, ann: User, bob: User
) -> None:
    client.headers["user-agent"] = "Mozilla/5.0 (X11; Linux) Firefox/140.0"
    token = (await log_in(client, ann.email)).json()["token"]
    rows = (await ann.http.get(ann.path + "session/")).json()["sessions"]
    (other,) = [row["id"] for row in rows if not row["current"]]
    path = f"session/{other}/"
    assert (await bob.http.delete(bob.path + path)).status_code == 404, "it is not his"
    assert (await ann.http.delete(ann.path + path)).json() == {"done": True}
    client.headers["authorization"] = f"Bearer {token}"
    refused(await client.get(ann.path), "unauthenticated", 401)
    assert (await ann.http.delete(ann.path + path)).status_code == 404
    assert (await logged(app, ann)).count("identity.session_ended") == 1
    assert "identity.session_ended" not in await logged(app, bob)
    said = await app.services.pool.fetch(
        "select details ->> 'what' from notifications where kind = 'session_ended'"
    )
    assert [row[0] for row in said] == ["Firefox on Linux, an API token"]


async def test_old_proofs_are_forgotten(app: Application, ann: User, clock: Clock) -> None:
    assert await app.services.pool.fetchval("select count(*) from identity_tokens") == 1
    clock.forward(int(timedelta(days=5).total_seconds()))
    await identity.purge(app.services)
    assert await app.services.pool.fetchval("select count(*) from identity_tokens") == 0

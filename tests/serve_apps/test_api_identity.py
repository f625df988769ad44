"""Sign-up, login, tokens and sessions over the API."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta
from typing import Any

import httpx
import pytest

from domain.accounts.commands import Command, OpenCustomer, Reply
from domain.durable import Unavailable
from serve_apps import identity
from serve_apps.application import AppConfig, Application, build
from serve_apps.services import utc_now
from tests.serve_apps.conftest import User
from tests.serve_apps.inprocess import PASSWORD, http_client, lifespan, weaken_passwords
from tests.serve_apps.test_api_transfers import refused

ANN = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}


async def test_sign_up_and_log_in(client: httpx.AsyncClient) -> None:
    made = await client.post("/api/signup/", data=ANN)
    assert made.status_code == 201, made.text
    user = made.json()["user"]
    assert made.headers["location"] == f"/api/user/{user['id']}/"
    assert len(user["id"]) == 10
    answer = await client.post(
        "/api/login/", data={"email": " ANN@example.com ", "password": PASSWORD}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"] == user
    assert answer.json()["token"].startswith("kontor_")
    assert answer.json()["token"] != made.json()["token"]
    headers = {"authorization": f"bearer {answer.json()['token']}"}
    profile = await client.get(f"/api/user/{user['id']}/", headers=headers)
    assert profile.json()["email"] == "ann@example.com"
    accounts = profile.json()["accounts"]
    assert [(item["currency"], item["available"]) for item in accounts] == [
        ("USD", "100.00"),
        ("CNY", "0.00"),
        ("EUR", "0.00"),
    ]


async def test_refusals(client: httpx.AsyncClient) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"email": "ann"}, "email_invalid"),
        ({"name": ""}, "name_invalid"),
        ({"password": "short"}, "password_too_short"),
        ({"password": "x" * 257}, "password_too_long"),
        ({"password": "12345678"}, "password_too_simple"),
        ({"email": "x" * 1_001}, "body_invalid"),
        ({"email": None}, "body_invalid"),
    ]
    for change, code in cases:
        refused(await client.post("/api/signup/", json={**ANN, **change}), code)


async def test_an_address_is_taken_once(ann: User, client: httpx.AsyncClient) -> None:
    other = {**ANN, "email": "ANN@example.com", "password": "another password"}
    refused(await client.post("/api/signup/", json=other), "email_taken")


async def test_the_same_sign_up_again_gives_nothing_twice(
    ann: User, client: httpx.AsyncClient
) -> None:
    again = await client.post("/api/signup/", json={**ANN, "name": "Other"})
    assert again.status_code == 201
    assert again.json()["user"] == {"id": ann.id, "email": "ann@example.com", "name": "Ann"}
    assert (await ann.balances())["USD"] == "100.00"


async def test_many_sign_ups_at_once_make_one_user(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/api/signup/", json=ANN) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({answer.json()["user"]["id"] for answer in answers}) == 1
    headers = {"authorization": f"Bearer {answers[0].json()['token']}"}
    user = answers[0].json()["user"]["id"]
    rows = await client.get(f"/api/user/{user}/transaction/", headers=headers)
    assert [row["kind"] for row in rows.json()["transactions"]] == ["bonus"]


class TestCutShort:
    """The process dies between the user and the accounts; whatever comes next finishes it."""

    @pytest.fixture
    async def broken(self, app: Application, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """A token whose user has no accounts yet."""
        call = app.services.accounts.call

        async def refuse(command: Command, *, timeout_s: float = 10.0) -> Reply:
            if isinstance(command, OpenCustomer):
                return Unavailable("gone")
            return await call(command)

        with monkeypatch.context() as patch:
            patch.setattr(app.services.accounts, "call", refuse)
            async with http_client(app) as http:
                answer = await http.post("/api/signup/", json=ANN)
                assert answer.status_code == 201
                headers = {"authorization": f"Bearer {answer.json()['token']}"}
                path = f"/api/user/{answer.json()['user']['id']}/"
                refused(await http.get(path, headers=headers), "outcome_unknown")
        return {"path": path, "headers": headers}

    async def balance(self, client: httpx.AsyncClient, broken: dict[str, Any]) -> str:
        answer = await client.get(broken["path"], headers=broken["headers"])
        assert answer.status_code == 200, answer.text
        return str(answer.json()["accounts"][0]["balance"])

    async def test_a_retry(self, client: httpx.AsyncClient, broken: dict[str, Any]) -> None:
        await client.post("/api/signup/", json=ANN)
        assert await self.opened(client) == 1
        assert await self.balance(client, broken) == "100.00"

    async def test_a_login(
        self, app: Application, client: httpx.AsyncClient, broken: dict[str, Any]
    ) -> None:
        await client.post("/api/login/", json={"email": ANN["email"], "password": PASSWORD})
        assert await app.services.pool.fetchval("select count(opened_at) from users") == 1

    async def test_a_look(self, client: httpx.AsyncClient, broken: dict[str, Any]) -> None:
        assert await self.balance(client, broken) == "100.00"
        assert await self.balance(client, broken) == "100.00"

    async def test_the_sweep(
        self, app: Application, client: httpx.AsyncClient, broken: dict[str, Any]
    ) -> None:
        await identity.finish_openings(app.services)
        assert await app.services.pool.fetchval("select count(opened_at) from users") == 0
        app.services.now = lambda: utc_now() + timedelta(seconds=11)
        await identity.finish_openings(app.services)
        assert await app.services.pool.fetchval("select count(opened_at) from users") == 1
        assert await self.balance(client, broken) == "100.00"

    async def opened(self, client: httpx.AsyncClient) -> int:
        transport = client._transport
        assert isinstance(transport, httpx.ASGITransport)
        app: Application = transport.app  # type: ignore[assignment]
        count: int = await app.services.pool.fetchval("select count(opened_at) from users")
        return count


class TestFailedLogins:
    async def attempt(
        self, client: httpx.AsyncClient, email: str, password: str, **headers: str
    ) -> httpx.Response:
        return await client.post(
            "/api/login/", json={"email": email, "password": password}, headers=headers
        )

    async def test_the_answer_does_not_tell_who_exists(
        self, ann: User, client: httpx.AsyncClient
    ) -> None:
        wrong = await self.attempt(client, ann.email, "wrong password")
        unknown = await self.attempt(client, "nobody@example.com", "wrong password")
        strange = await self.attempt(client, "no\0body", "wrong password")
        refused(wrong, "credentials_invalid")
        assert wrong.content == unknown.content == strange.content
        hidden = {"x-request-id", "ratelimit"}
        assert {k: v for k, v in wrong.headers.items() if k not in hidden} == {
            k: v for k, v in unknown.headers.items() if k not in hidden
        }

    async def test_the_same_work_is_done_for_users_who_do_not_exist(
        self, app: Application, ann: User, client: httpx.AsyncClient, monkeypatch: Any
    ) -> None:
        checked: list[str] = []
        matches = app.services.passwords._matches

        def spy(stored: str, password: str) -> bool:
            checked.append(stored.rpartition("$")[0].rpartition("$")[0])
            return matches(stored, password)

        monkeypatch.setattr(app.services.passwords, "_matches", spy)
        await self.attempt(client, ann.email, "wrong password")
        await self.attempt(client, "nobody@example.com", "wrong password")
        assert len(checked) == 2

    @pytest.mark.parametrize("email", ["ann@example.com", "nobody@example.com"])
    async def test_guessing_is_slowed_whether_the_user_exists_or_not(
        self, ann: User, client: httpx.AsyncClient, email: str
    ) -> None:
        for _ in range(6):
            refused(await self.attempt(client, email, "wrong password"), "credentials_invalid")
        answer = await self.attempt(client, email, PASSWORD)
        fields = refused(answer, "too_many_attempts")
        assert answer.headers["retry-after"] == fields["retry_after"] in ("1", "2")

    async def test_after_the_wait_the_right_password_forgets_it_all(
        self, app: Application, ann: User, client: httpx.AsyncClient
    ) -> None:
        for _ in range(6):
            await self.attempt(client, ann.email, "wrong password")
        app.services.now = lambda: utc_now() + timedelta(seconds=3)
        assert (await self.attempt(client, ann.email, PASSWORD)).status_code == 200
        for _ in range(6):
            refused(await self.attempt(client, ann.email, "wrong"), "credentials_invalid")

    async def test_signing_up_is_no_way_round(self, ann: User, client: httpx.AsyncClient) -> None:
        for _ in range(6):
            guess = {**ANN, "password": "wrong password"}
            refused(await client.post("/api/signup/", json=guess), "email_taken")
        refused(await client.post("/api/signup/", json=ANN), "too_many_attempts")

    async def test_an_address_is_slowed_behind_a_trusted_proxy(self, own_config: AppConfig) -> None:
        app = build(dataclasses.replace(own_config, forwarded_hops=1))
        weaken_passwords(app)
        async with lifespan(app), http_client(app) as client:
            near = {"x-forwarded-for": "203.0.113.9, 192.0.2.1"}
            for number in range(51):
                answer = await self.attempt(client, f"u{number}@example.com", "x", **near)
                refused(answer, "credentials_invalid")
            answer = await self.attempt(client, "u99@example.com", "x", **near)
            refused(answer, "too_many_attempts")
            forged = {"x-forwarded-for": "198.51.100.1, 192.0.2.1"}
            answer = await self.attempt(client, "u99@example.com", "x", **forged)
            refused(answer, "too_many_attempts")
            far = {"x-forwarded-for": "192.0.2.1, 192.0.2.2"}
            answer = await self.attempt(client, "u99@example.com", "x", **far)
            refused(answer, "credentials_invalid")

    @pytest.mark.alone
    async def test_too_many_at_once_are_sent_away(
        self, app: Application, client: httpx.AsyncClient
    ) -> None:
        app.services.passwords._queued = 64
        answer = await self.attempt(client, "ann@example.com", "x")
        refused(answer, "busy")
        refused(await client.post("/api/signup/", json=ANN), "busy")
        failures = await app.services.pool.fetchval("select sum(failures) from login_failures")
        assert failures == 0


@pytest.mark.alone
async def test_an_old_hash_is_renewed_at_login(app: Application, ann: User) -> None:
    old = await app.services.pool.fetchval("select password_hash from users")
    app.services.passwords._hasher = type(app.services.passwords._hasher)(
        time_cost=1, memory_cost=128, parallelism=1
    )
    async with http_client(app) as http:
        form = {"email": ann.email, "password": PASSWORD}
        for _ in range(2):
            assert (await http.post("/api/login/", json=form)).status_code == 200
    new = await app.services.pool.fetchval("select password_hash from users")
    assert new != old
    assert "m=128" in new


@pytest.mark.alone
async def test_nothing_that_opens_a_door_is_stored(app: Application, ann: User) -> None:
    token = ann.http.headers["authorization"].removeprefix("Bearer ")
    for table in ("users", "sessions"):
        rows = await app.services.pool.fetch(f"select t::text as row from {table} t")
        for row in rows:
            assert PASSWORD not in row["row"]
            assert token not in row["row"]
            assert token.removeprefix("kontor_").encode().hex() not in row["row"]


async def test_logging_out_revokes_the_token(ann: User) -> None:
    assert (await ann.http.post("/api/logout/")).status_code == 200
    refused(await ann.http.get(ann.path), "unauthenticated")


async def test_sessions_are_listed_and_revoked(app: Application, ann: User) -> None:
    async with http_client(app) as http:
        form = {"email": ann.email, "password": PASSWORD}
        token = (await http.post("/api/login/", json=form)).json()["token"]
        http.headers["authorization"] = f"Bearer {token}"
        assert (await http.get(ann.path)).status_code == 200
        sessions = (await ann.http.get(ann.path + "session/")).json()["sessions"]
        assert [item["current"] for item in sessions] == [False, True]
        other = sessions[0]["id"]
        assert (await ann.http.delete(f"{ann.path}session/{other}/")).status_code == 200
        refused(await http.get(ann.path), "unauthenticated")
        for number in (other, "x", "9" * 18, "9" * 30, "-1"):
            refused(await ann.http.delete(f"{ann.path}session/{number}/"), "not_found")
    assert (await ann.http.get(ann.path)).status_code == 200


@pytest.mark.alone
async def test_a_revoked_token_is_refused_by_other_replicas_at_once(
    own_config: AppConfig, app: Application, ann: User
) -> None:
    other = build(own_config)
    weaken_passwords(other)

    async def connect(_: AppConfig) -> Any:
        return app.services.accounts

    object.__setattr__(other.services.config, "connect_accounts", connect)
    async with lifespan(other), http_client(other) as http:
        http.headers["authorization"] = ann.http.headers["authorization"]
        assert (await http.get(ann.path)).status_code == 200
        await ann.http.post("/api/logout/")
        for _ in range(100):
            if (await http.get(ann.path)).status_code == 401:
                break
            await asyncio.sleep(0.005)
        refused(await http.get(ann.path), "unauthenticated")
    object.__setattr__(app.services.accounts, "close", _nothing)


async def _nothing() -> None:
    pass


async def test_changing_the_name(ann: User) -> None:
    answer = await ann.http.patch(ann.path, json={"name": " Ann  B "})
    assert answer.json() == {"id": ann.id, "email": ann.email, "name": "Ann B"}
    assert (await ann.http.get(ann.path)).json()["name"] == "Ann B"
    refused(await ann.http.patch(ann.path, json={"name": "\u0007"}), "name_invalid")


async def test_how_a_payee_is_shown(app: Application, ann: User) -> None:
    await ann.http.patch(ann.path, json={"name": "Ann Maria Example"})
    account = int(ann.accounts["USD"])
    assert await identity.payee_name(app.services, account) == "Ann M. E."
    assert await identity.payee_name(app.services, 99_999_999_990_000) is None

"""API keys: made, shown once, used with both kinds of signature, revoked everywhere at once."""

from __future__ import annotations

import base64
import ipaddress
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.vault import Vault
from persistence import apikeys as store
from serve_apps.exchange.keys import ApiKey
from tests.serve_apps.authenticator import logged, told
from tests.serve_apps.conftest import MakeUser, User
from tests.serve_apps.exchange.venue import now_ms, sign


@pytest.fixture
async def carol(make_user: MakeUser) -> User:
    """A user."""
    return await make_user("carol")


@pytest.fixture
async def dave(make_user: MakeUser) -> User:
    """Another one."""
    return await make_user("dave")


async def make(user: User, **form: object) -> httpx.Response:
    body = {"label": "bot", "scopes": ["read", "trade"], **form}
    return await user.http.post(f"{user.path}api-key/", json=body)


async def account(user: User, key: str, secret: str) -> httpx.Response:
    query = f"timestamp={now_ms()}"
    headers = {"X-MBX-APIKEY": key}
    return await user.http.get(
        f"/api/v3/account?{query}&signature={sign(secret, query)}", headers=headers
    )


async def test_a_key_from_making_to_revoking(carol: User, dave: User) -> None:
    answer = await make(carol, networks=[])
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (len(made["key"]), len(made["secret"])) == (64, 64)
    (listed,) = (await carol.http.get(f"{carol.path}api-key/")).json()["keys"]
    assert listed["key"] == made["key"]
    assert "secret" not in listed
    assert (await account(carol, made["key"], made["secret"])).status_code == 200
    assert (await account(carol, made["key"], "x" * 64)).json()["code"] == -1022
    # It is nobody else's to see or to end.
    assert (await dave.http.get(f"{dave.path}api-key/")).json()["keys"] == []
    assert (await dave.http.delete(f"{dave.path}api-key/{made['id']}/")).status_code == 404
    assert (await dave.http.get(f"{carol.path}api-key/")).status_code == 404
    assert (await carol.http.delete(f"{carol.path}api-key/{made['id']}/")).status_code == 200
    assert (await account(carol, made["key"], made["secret"])).json()["code"] == -2015
    assert (await carol.http.delete(f"{carol.path}api-key/{made['id']}/")).status_code == 404
    app: Any = carol.http._transport.app  # type: ignore[attr-defined]
    assert await logged(app, carol) == ["identity.api_key_made", "identity.api_key_revoked"]
    assert (await told(app, carol))[-2:] == ["api_key_made", "api_key_revoked"]
    assert await logged(app, dave) == []
    kept = await app.services.pool.fetchval("select string_agg(after, '') from audit_log")
    assert "bot" in kept
    assert made["key"] not in kept


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"label": " "}, "label_invalid"),
        ({"label": "x" * 81}, "label_invalid"),
        ({"scopes": []}, "scopes_invalid"),
        ({"scopes": ["read", "withdraw"]}, "scopes_invalid"),
        ({"networks": ["300.0.0.1"]}, "networks_invalid"),
        ({"public_key": "PEM"}, "public_key_invalid"),
    ],
)
async def test_bad_forms(carol: User, form: dict[str, object], code: str) -> None:
    answer = await make(carol, **form)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_there_are_not_too_many(carol: User) -> None:
    for _ in range(store.KEYS_MAX):
        assert (await make(carol)).status_code == 201
    assert (await make(carol)).json()["code"] == "too_many_keys"


async def test_ed25519(carol: User) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made = (await make(carol, public_key=pem.decode())).json()
    assert (made["kind"], made["secret"]) == ("ed25519", "")
    query = urlencode({"timestamp": now_ms(), "omitZeroBalances": "true"})
    signature = base64.b64encode(private.sign(query.encode())).decode()
    headers = {"X-MBX-APIKEY": made["key"]}
    url = f"/api/v3/account?{query}&signature={quote(signature, safe='')}"
    assert (await carol.http.get(url, headers=headers)).status_code == 200
    wrong = await carol.http.get(url.replace("true", "false"), headers=headers)
    assert wrong.json()["code"] == -1022


def test_what_is_sealed_is_bound_to_its_key_and_platform() -> None:
    vault = Vault(b"a" * 32, "keys")
    sealed = vault.seal("key", b"secret")
    assert b"secret" not in sealed
    assert vault.open("key", sealed) == b"secret"
    assert vault.seal("key", b"secret") != sealed
    others = (Vault(b"b" * 32, "keys"), Vault(b"a" * 32, "codes"))
    for other, key in ((vault, "another"), (others[0], "key"), (others[1], "key")):
        with pytest.raises(InvalidTag):
            other.open(key, sealed)


async def test_secrets_are_not_stored_readable(carol: User) -> None:
    made = (await make(carol)).json()
    app = carol.http._transport.app.services  # type: ignore[attr-defined]
    row = await app.pool.fetchrow("select * from api_keys")
    assert made["secret"].encode() not in row["secret"]
    found = await app.api_keys.find(made["key"])
    assert made["secret"] not in repr(found)


@pytest.mark.parametrize(
    ("scopes", "networks", "scope", "address", "permitted"),
    [
        (["read"], [], "read", "", True),
        (["read"], [], "trade", "", False),
        (["trade"], [], "read", "", True),
        (["trade"], ["192.0.2.0/24"], "trade", "192.0.2.200", True),
        (["trade"], ["192.0.2.0/24"], "trade", "192.0.3.1", False),
        (["trade"], ["192.0.2.0/24"], "trade", "", False),
        (["trade"], ["192.0.2.0/24", "2001:db8::/32"], "read", "2001:db8::7", True),
        (["trade"], ["192.0.2.0/24"], "read", "2001:db8::7", False),
    ],
)
def test_what_a_key_permits(
    scopes: list[str], networks: list[str], scope: str, address: str, permitted: bool
) -> None:
    places = tuple(ipaddress.ip_network(text) for text in networks)
    assert ApiKey(1, 1, "k", frozenset(scopes), places).may(scope, address) is permitted

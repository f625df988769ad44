"""Settings: defaults, what .env.example says of them, and the refusal of values without sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from cluster.settings import Settings, variables
from domain.accounts.policy import FeeRate

ROOT = Path(__file__).resolve().parents[2]


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_the_example_has_every_variable() -> None:
    assert sorted(example()) == sorted(variables())


def test_the_example_shows_the_defaults() -> None:
    texts = {name: value for name, value in example().items() if value}
    names = {name.removeprefix("KONTOR_").lower(): value for name, value in texts.items()}
    given: dict[str, Any] = {
        name: json.loads(value) if value.startswith(("{", "[")) else value
        for name, value in names.items()
    }
    assert Settings(**given) == Settings()
    for name, default in variables().items():
        if name not in texts:
            assert default in (None, ""), name


def test_a_variable_is_read_and_an_empty_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONTOR_PORT", "9000")
    monkeypatch.setenv("KONTOR_DATABASE_URL", "")
    settings = Settings()
    assert settings.url == "http://localhost:9000"
    assert settings.database_url is None


def test_fees_and_limits_become_minor_units() -> None:
    policy = Settings().policy()
    assert policy.fees["USD"] == FeeRate(20, 25)
    assert policy.daily_limits["CNY"] == 350_000_00


@pytest.mark.parametrize(
    "given",
    [
        {"port": 0},
        {"port": 65_536},
        {"partitions": 0},
        {"mode": "production"},
        {"secret_key": SecretStr("x" * 31)},
        {"fees": {"USD": {"basis_points": -1}}},
        {"fees": {"USD": {"basis_points": 1, "minimum": "0.001"}}},
        {"fees": {"ABC": {"basis_points": 1}}},
        {"daily_limits": {"USD": "1e3"}},
        {"bonus_amount": "-1"},
    ],
)
def test_values_without_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**given)


def test_production_wants_tls_cookies_when_its_url_is_https() -> None:
    settings = Settings(
        mode="production",
        secret_key=SecretStr("k" * 32),
        public_url="https://bank.example/",
    )
    assert settings.cookies_are_secure
    assert not settings.development
    assert settings.url == "https://bank.example"


def test_secrets_are_not_shown() -> None:
    settings = Settings(
        secret_key=SecretStr("k" * 32), database_url=SecretStr("postgresql://a:hidden@b/c")
    )
    assert "hidden" not in repr(settings)
    assert "k" * 32 not in repr(settings)

"""docker-compose.yml and the Dockerfile, held against settings and commands: no engine needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from cluster.cli.main import app
from cluster.runtime import HEAD_PORT
from cluster.settings import Settings, variables

ROOT = Path(__file__).resolve().parents[2]
OURS = ("head", "worker")
RAY_VARIABLES = {"RAY_AUTH_TOKEN"}
_INTERPOLATION = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def filled(value: str) -> str:
    """``value`` with its ``${NAME:-default}`` filled in; what has no default gets a long text."""
    return _INTERPOLATION.sub(lambda match: match.group(2) or "x" * 32, value)


def settings_of(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, filled(str(value)))
    return Settings()


def kontor_calls(service: dict[str, Any]) -> list[list[str]]:
    """The ``kontor`` command lines of a service."""
    command: list[str] = service["command"]
    if command[0] != "sh":
        return [command[1:]]
    parts = re.split(r"&&|;", command[2])
    return [part.replace("exec", "").split()[1:] for part in parts]


@pytest.mark.parametrize("name", OURS)
def test_only_variables_that_exist_are_set(services: dict[str, dict[str, Any]], name: str) -> None:
    assert set(services[name]["environment"]) <= set(variables()) | RAY_VARIABLES


@pytest.mark.parametrize("name", OURS)
def test_the_settings_are_accepted_and_name_the_other_services(
    services: dict[str, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(services[name], monkeypatch)
    assert settings.mode == "production"
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert "@postgres:5432/kontor" in settings.database_url.get_secret_value()
    assert settings.redis_url.get_secret_value().startswith("redis://redis:6379")
    assert {"postgres", "redis"} <= set(services)
    database = services["postgres"]["environment"]
    assert (database["POSTGRES_USER"], database["POSTGRES_DB"]) == ("kontor", "kontor")


@pytest.mark.parametrize("name", OURS)
def test_the_commands_exist(services: dict[str, dict[str, Any]], name: str) -> None:
    group: Any = typer.main.get_command(app)
    for words in kontor_calls(services[name]):
        command = group.commands[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[1:] if word.startswith("--")} <= options


def test_the_worker_joins_the_head(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert services["worker"]["command"][-2:] == ["--join", f"head:{HEAD_PORT}"]
    head = settings_of(services["head"], monkeypatch)
    assert head.ray_address == f"127.0.0.1:{HEAD_PORT}"


def test_the_published_port_is_the_one_that_is_listened_on(
    services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(services["head"], monkeypatch)
    published = [port.split(":") for port in services["head"]["ports"]]
    assert [str(settings.port), str(settings.port)] in published
    assert settings.host == "0.0.0.0"
    volumes = [volume.split(":")[1] for volume in services["head"]["volumes"]]
    assert volumes == [str(settings.data_dir)]


def test_postgres_is_the_version_that_is_embedded(services: dict[str, dict[str, Any]]) -> None:
    assert services["postgres"]["image"] == "postgres:18"


def test_the_image_is_not_run_as_root_and_tells_its_health() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    final = text.rpartition("\nFROM ")[2]
    assert "\nUSER kontor\n" in final
    assert "/readyz" in final
    assert set(re.findall(r"\b(KONTOR_\w+)=", final)) <= set(variables())
    port = variables()["KONTOR_PORT"]
    assert f"\nEXPOSE {port}\n" in final
    command = json.loads(final.rpartition("\nCMD ")[2])
    assert command == ["kontor", "up"]
    for name in re.findall(r"[\w-]+\.lock", text.partition("FROM")[2]):
        assert name == "runtime.lock" or (ROOT / name).is_file()

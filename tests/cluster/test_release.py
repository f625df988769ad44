"""What a version must be to run beside the stable one, and how it is told and judged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from cluster import release
from cluster.assets import ROOT
from cluster.ingress import BESIDE_VARIABLE, Itself, middlewares
from cluster.release import Description, check_database, check_settings, environ_of, look_at
from cluster.settings import Settings
from persistence.database import Pool
from persistence.migrate import available
from persistence.releases import Refused
from tests.cluster.running import environment

MIGRATIONS = {str(migration.version): migration.sha256 for migration in available()}


def description(**changes: Any) -> Description:
    """Of a version like ours."""
    values = {
        "format": 1, "version": "0.2.0", "fingerprint": "1f0c9d2e4b77", "migrations": MIGRATIONS,
        "settings": sorted(Settings.model_fields), "assets": True,
    }  # fmt: skip
    return Description(**{**values, **changes})


# -- the code ------------------------------------------------------------------------------


def test_a_checkout_describes_itself() -> None:
    found = look_at("", {})
    assert found.migrations == MIGRATIONS
    assert "quote_seconds" in found.settings
    assert not found.wrong
    assert found.name.endswith(f"({release.fingerprint()[:10]})")


def test_a_setting_that_is_wrong_is_refused_by_the_version_itself() -> None:
    with pytest.raises(Refused, match="KONTOR_QUOTE_SECONDS: Input should be greater"):
        look_at("", {"KONTOR_QUOTE_SECONDS": "1"})


def test_what_is_no_version_of_kontor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no checkout of Kontor"):
        look_at(str(tmp_path), {})
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "__init__.py").touch()
    with pytest.raises(Refused, match="does not know canaries"):
        look_at(str(tmp_path), {})


def test_the_fingerprint_is_of_what_replicas_run(tmp_path: Path) -> None:
    for name in ("domain", "serve_apps"):
        (tmp_path / name / "static").mkdir(parents=True)
    code = tmp_path / "domain" / "money.py"
    code.write_text("one")
    first = release.fingerprint(tmp_path)
    (tmp_path / "serve_apps" / "static" / "app.js").write_text("built")
    (tmp_path / "domain" / "notes.txt").write_text("no code")
    assert release.fingerprint(tmp_path) == first
    code.write_text("two")
    assert release.fingerprint(tmp_path) != first


def test_a_folder_that_would_borrow_from_what_is_installed_is_refused(tmp_path: Path) -> None:
    for package in ("actors", "cluster", "domain", "persistence", "serve_apps"):
        kept = shutil.ignore_patterns("access_log.py", "__pycache__", "static")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=kept)
    with pytest.raises(Refused, match=r"serve_apps\.access_log is not in"):
        look_at(str(tmp_path), {})


# -- the database and the settings ---------------------------------------------------------


async def test_the_database_must_be_exactly_of_the_versions_migrations(pool: Pool) -> None:
    await check_database(pool, description())
    with pytest.raises(Refused, match=r"needs a newer database: migration 0999 has not been app"):
        await check_database(pool, description(migrations={**MIGRATIONS, "999": "abc"}))
    fewer = {version: sha for version, sha in MIGRATIONS.items() if version != "1"}
    with pytest.raises(Refused, match="does not know migration 0001_identity"):
        await check_database(pool, description(migrations=fewer))
    with pytest.raises(Refused, match="another migration 0001"):
        await check_database(pool, description(migrations={**MIGRATIONS, "1": "abc"}))


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("KONTOR_NO_SUCH", "no setting of that version"),
        ("PATH", "no setting of that version"),
        ("KONTOR_PORT", "the whole platform's"),
        ("KONTOR_FEES", "the whole platform's"),
        ("KONTOR_SECRET_KEY", "the whole platform's"),
        ("KONTOR_SMTP_PASSWORD", "a secret"),
    ],
)
def test_settings_that_two_versions_cannot_differ_in(variable: str, reason: str) -> None:
    check_settings(description(), {"KONTOR_QUOTE_SECONDS": "45", "KONTOR_LIMITS__LOGIN": "1/day"})
    with pytest.raises(Refused, match=reason):
        check_settings(description(), {variable: "1"})


def test_the_platforms_settings_reach_the_other_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = {
        "KONTOR_DATA_DIR": str(tmp_path), "KONTOR_SECRET_KEY": "k" * 40, "KONTOR_REPLICAS": "3",
        "KONTOR_SECURE_COOKIES": "false", "KONTOR_LIMITS": '{"login": "7/minute"}',
        "KONTOR_FEES": '{"USD": {"basis_points": 7}}', "KONTOR_QUOTE_SECONDS": "40",
    }  # fmt: skip
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    told = environ_of(settings)
    for name in chosen:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert Settings(_env_file=None) == settings


# -- the replica ---------------------------------------------------------------------------


async def test_the_canary_answers_at_the_paths_of_the_stable_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, str]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["path"], scope["root_path"]))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        """As Serve does: what is not below its path is refused, but for its own health check."""
        assert scope["path"].startswith("/-/")
        scope["root_path"] = "/-/canary"
        await Itself(application)(scope, receive, send)

    alone = len(middlewares())
    monkeypatch.setenv(BESIDE_VARIABLE, "1")
    assert len(middlewares()) == alone + 1
    app: Any = serve
    for middleware in middlewares():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    for kind, path in (("http", "/api/user/1/"), ("websocket", "/ws/x"), ("http", "/-/healthz")):
        scope = {"type": kind, "path": path, "root_path": "", "headers": [], "extensions": {}}
        await app(scope, None, lambda: None)
    assert seen == [("/api/user/1/", ""), ("/ws/x", ""), ("/-/healthz", "")]


def test_another_folders_code_comes_first(tmp_path: Path) -> None:
    """A replica finds a version by ``PYTHONPATH``, before what is installed."""
    shutil.copytree(ROOT / "domain", tmp_path / "domain")
    words = [sys.executable, "-c", "import domain, cluster; print(domain.__file__)"]
    variables = {**environment(tmp_path, {}), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        words, cwd="/", env=variables, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == os.path.join(tmp_path, "domain", "__init__.py")


def test_a_replica_that_does_not_find_the_folder_does_not_run_another_version() -> None:
    recipe = release.Recipe(
        format=1, release=1, side="canary", path="/no/such/folder", environ={}, facts={}
    )
    with pytest.raises(RuntimeError, match="/no/such/folder is not on this node"):
        release.application(recipe)

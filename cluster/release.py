"""A version of the application as it is run beside the stable one or in its place.

Two versions of this module meet here: the platform's writes a ``Recipe`` and asks another checkout
to describe itself; the other's describes itself, and builds its application from the recipe inside
a replica. So ``FORMAT``, the recipe and the description are an interface between versions of
Kontor: what is there keeps its meaning, and what is new must be optional.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

import msgspec
from pydantic import SecretStr, ValidationError

from cluster import assets
from cluster.settings import Settings
from persistence.database import Pool
from persistence.migrate import available
from persistence.releases import Refused

FORMAT: Final = 1
_PACKAGES: Final = ("actors", "cluster", "domain", "persistence", "serve_apps")
_KINDS: Final = (".py", ".sql", ".html", ".js", ".css", ".svg", ".xml", ".json")
_DESCRIBE_S: Final = 30
# What both versions share, what is asked of partitions too, and what is no affair of replicas.
_COMMON: Final = frozenset(
    {
        "mode", "host", "port", "public_url", "data_dir", "database_url", "redis_url",
        "ray_address", "ray_cpus", "dashboard_host", "dashboard_port", "metrics_port",
        "secret_key", "secure_cookies", "partitions", "book_partitions", "replicas", "fees",
        "daily_limits", "log_level", "keep_alive_seconds", "canary_max_error_rate",
        "canary_max_latency_ratio",
    }
)  # fmt: skip
_SECRETS: Final = ("password", "secret", "token", "key")


class Recipe(TypedDict):
    """How a version is built. ``environ`` are settings as variables; ``facts`` are values of
    ``AppConfig`` that the running platform has found out. ``path`` is empty for its own code.
    """

    format: int
    release: int
    side: str
    path: str
    environ: dict[str, str]
    facts: dict[str, Any]


class Description(msgspec.Struct, frozen=True):
    """What a checkout says of itself. ``wrong`` is why it cannot run with the given settings."""

    format: int
    version: str
    fingerprint: str
    migrations: dict[str, str]
    settings: list[str]
    assets: bool
    wrong: str = ""

    @property
    def name(self) -> str:
        """Version and code, for people."""
        return f"{self.version} ({self.fingerprint[:10]})"


def fingerprint(root: Path = assets.ROOT) -> str:
    """A hash of the code and templates below ``root``."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _KINDS and not {"static", "static.new"} & set(path.parts):
                digest.update(f"{path.relative_to(root)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def describe() -> None:
    """Print the description of this checkout: called in a process of its own."""
    wrong = ""
    try:
        Settings(_env_file=None)
        import cluster.platform  # noqa: F401
        import serve_apps.application  # noqa: F401

        wrong = _borrowed()
    except ValidationError as error:
        wrong = "; ".join(
            f"KONTOR_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
    description = Description(
        FORMAT,
        importlib.metadata.version("kontor"),
        fingerprint(),
        {str(migration.version): migration.sha256 for migration in available()},
        sorted(Settings.model_fields),
        assets.present(),
        wrong,
    )
    sys.stdout.write(json.dumps(msgspec.to_builtins(description)))


def _borrowed() -> str:
    """Why this is no whole checkout, if it is none: Python takes missing modules elsewhere."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        ours = bool(file) and name.partition(".")[0] in _PACKAGES
        if ours and not Path(str(file)).resolve().is_relative_to(assets.ROOT):
            return f"{name} is not in {assets.ROOT}."
    return ""


def look_at(path: str, environ: Mapping[str, str]) -> Description:
    """The description of the checkout in ``path``, or of our own; raises ``Refused``."""
    root = Path(path or assets.ROOT)
    if not (root / "cluster").is_dir():
        raise Refused(f"{root} is no checkout of Kontor.")
    if not (root / "cluster" / "release.py").is_file():
        raise Refused(f"The version in {root} does not know canaries.")
    own = {name: value for name, value in os.environ.items() if not name.startswith("KONTOR_")}
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from cluster.release import describe; describe()"],
            cwd=root, env={**own, **environ, "PYTHONPATH": str(root)},
            capture_output=True, text=True, timeout=_DESCRIBE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Refused(
            f"The code in {root} does not say within {_DESCRIBE_S} s what it is."
        ) from None
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise Refused(f"The code in {root} cannot run as a canary: {last}")
    description = msgspec.json.decode(done.stdout, type=Description)
    if description.format != FORMAT:
        raise Refused(f"The code in {root} cannot run beside this version.")
    if description.wrong:
        raise Refused(description.wrong)
    if not description.assets:
        raise Refused(f"The pages in {root} have no assets yet: run `kontor assets` there.")
    return description


def check_settings(description: Description, chosen: Mapping[str, str]) -> None:
    """Raise ``Refused`` unless a version may have these settings for itself."""
    for variable in chosen:
        name = variable.removeprefix("KONTOR_").lower().partition("__")[0]
        if not variable.startswith("KONTOR_") or name not in description.settings:
            raise Refused(f"{variable} is no setting of that version.")
        if name in _COMMON:
            raise Refused(f"{variable} is the whole platform's: two versions cannot differ in it.")
        if any(word in name.split("_") for word in _SECRETS):
            raise Refused(f"{variable} is a secret, which a canary's record must not hold.")


async def check_database(pool: Pool, description: Description) -> None:
    """Raise ``Refused`` unless a version fits the database as it is: same migrations, no others."""
    rows = await pool.fetch("SELECT version, name, sha256 FROM schema_migrations ORDER BY version")
    applied = {str(row["version"]): row for row in rows}
    missing = [version for version in description.migrations if version not in applied]
    if missing:
        raise Refused(
            f"That version needs a newer database: migration {int(missing[0]):04d} has not been"
            " applied. Run its `kontor migrate` first."
        )
    for version, row in applied.items():
        known = description.migrations.get(version)
        if known is None:
            raise Refused(
                f"The database is newer than that version, which does not know migration"
                f" {int(version):04d}_{row['name']}."
            )
        if known != row["sha256"]:
            raise Refused(f"That version has another migration {int(version):04d} than applied.")


def environ_of(settings: Settings) -> dict[str, str]:
    """All settings that were chosen, as variables of the environment."""
    found: dict[str, str] = {}
    for name in settings.model_fields_set:
        value: Any = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
        elif isinstance(value, str | Path | int | float):
            text = str(value)
        else:
            text = json.dumps(settings.model_dump(mode="json", include={name})[name])
        found[f"KONTOR_{name}".upper()] = text
    return {**found, "KONTOR_DATA_DIR": str(settings.data_dir.resolve())}


def application(recipe: Recipe) -> Any:
    """The application of a replica of this version; called by Serve, in the replica's process."""
    from cluster.datafolder import DataFolder
    from cluster.ingress import Itself, settled
    from cluster.platform import app_config
    from serve_apps.application import build
    from serve_apps.services import AppConfig

    if recipe["path"] and Path(recipe["path"]).resolve() != assets.ROOT:
        # Python has looked further: what runs here is some other version.
        raise RuntimeError(f"{recipe['path']} is not on this node")
    os.environ.update(recipe["environ"])
    settings = Settings(_env_file=None)
    facts = recipe["facts"]
    config = app_config(
        settings, DataFolder(settings.data_dir), facts["database_url"], facts["redis_url"],
        facts["dashboard_url"],
    )  # fmt: skip
    known = {field.name for field in dataclasses.fields(AppConfig)}
    told = {name: value for name, value in facts.items() if name in known}
    config = dataclasses.replace(
        config, **told, side=recipe["side"], name=f"serve-{recipe['side']}-{os.getpid()}"
    )
    built = build(config)
    return settled(built if recipe["side"] == "stable" else Itself(built))


FACTS: Final = (
    "database_url", "redis_url", "secret_key", "dashboard_url", "access_log", "via_header",
    "mail_dir", "mail_port",
)  # fmt: skip


def recipe_of(
    release: int, path: str, chosen: Mapping[str, str], settings: Settings, config: Any, side: str
) -> Recipe:
    """How a release is built beside, or in place of, the version with ``settings``."""
    return Recipe(
        format=FORMAT,
        release=release,
        side=side,
        path=path,
        environ={**environ_of(settings), **chosen},
        facts={name: getattr(config, name) for name in FACTS},
    )

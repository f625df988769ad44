"""Recordings of what a release has written: how they are kept, and how two of them are compared.

A recording is a folder of ``journals``: ``manifest.json`` says for people what is in it,
``shapes.json`` which types were written, ``database.sql.gz`` is the whole database as ``pg_dump``
writes it, and ``expected.json.gz`` what the code of that release made of it: journal rows, states,
and what each command was answered.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Final

import msgspec

JOURNALS: Final = Path(__file__).with_name("journals")
TYPE: Final = "="
"""The key under which the plain form of a struct has the name of its type."""


class Recording:
    """One recording on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest(self) -> dict[str, Any]:
        """What the recording is, in words and numbers."""
        text = (self.folder / "manifest.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    @property
    def expected(self) -> dict[str, Any]:
        """What the code that wrote it made of it."""
        return dict(json.loads(gzip.decompress((self.folder / "expected.json.gz").read_bytes())))

    @property
    def database(self) -> str:
        """The database as SQL for ``psql``."""
        return gzip.decompress((self.folder / "database.sql.gz").read_bytes()).decode()

    @property
    def shapes(self) -> dict[str, Any]:
        """The types that the release wrote, see ``shapes``."""
        return dict(json.loads((self.folder / "shapes.json").read_text(encoding="utf-8")))

    def write(
        self,
        manifest: dict[str, Any],
        shapes: dict[str, Any],
        expected: dict[str, Any],
        database: str,
    ) -> None:
        """Store all of it."""
        self.folder.mkdir(parents=True)
        for name, value in (("manifest.json", manifest), ("shapes.json", shapes)):
            text = json.dumps(value, indent=2, ensure_ascii=False)
            (self.folder / name).write_text(f"{text}\n", encoding="utf-8")
        lines = json.dumps(expected, indent=1, ensure_ascii=False)
        for name, content in (("expected.json.gz", lines), ("database.sql.gz", database)):
            packed = gzip.compress(content.encode(), 9, mtime=0)
            (self.folder / name).write_bytes(packed)


def recordings() -> list[Recording]:
    """All recordings, oldest release first."""
    return [Recording(path) for path in sorted(JOURNALS.iterdir()) if path.is_dir()]


def plain(value: Any) -> Any:
    """A value as JSON: structs by the names of their fields, bytes as hex digits."""
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return {TYPE: type(value).__name__, **fields}
    if isinstance(value, bytes | msgspec.Raw):
        return bytes(value).hex()
    if isinstance(value, dict):
        return {
            key.hex() if isinstance(key, bytes) else str(key): plain(part)
            for key, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, StrEnum):
        return value.value
    return int(value) if isinstance(value, IntEnum) else value


def shaped(recorded: Any, now: Any) -> Any:
    """``now`` without the fields that structs did not have when ``recorded`` was written."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        if TYPE in recorded and recorded[TYPE] == now.get(TYPE):
            return {key: shaped(part, now[key]) for key, part in recorded.items() if key in now}
        return {key: shaped(recorded.get(key), part) for key, part in now.items()}
    if isinstance(recorded, list) and isinstance(now, list):
        rest = now[len(recorded) :]
        return [shaped(old, new) for old, new in zip(recorded, now, strict=False)] + rest
    return now


def differences(recorded: Any, now: Any, path: str = "") -> Iterator[str]:
    """What is not as it was recorded, by its place; new fields of structs do not count."""
    now = shaped(recorded, now)
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in [*recorded, *(key for key in now if key not in recorded)]:
            place = f"{path}.{key}" if path else key
            if key not in now:
                yield f"{place} is missing"
            elif key not in recorded:
                yield f"{place} was not there"
            else:
                yield from differences(recorded[key], now[key], place)
    elif isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) != len(now):
            yield f"{path} had {len(recorded)} parts and has {len(now)}"
        for index, (old, new) in enumerate(zip(recorded, now, strict=False)):
            yield from differences(old, new, f"{path}[{index}]")
    elif recorded != now or type(recorded) is not type(now):
        yield f"{path} was {recorded!r} and is {now!r}"


def digest(value: Any) -> str:
    """SHA-256 of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

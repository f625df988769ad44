"""The shapes of all that is written or sent: types, tags, and fields in their order.

What is encoded as an array has nothing but the order of its fields to be read by, so these are
the vocabulary that old journals are read with, and that two versions of the code speak to each
other while one replaces the other.
"""

from __future__ import annotations

import types
import typing
from enum import Enum
from typing import Any

import msgspec

from actors.durable import records
from domain.accounts.commands import Command, EntityMessage, Reply
from domain.accounts.events import Event
from domain.accounts.state import Customer

UNIONS = {"Event": Event, "Body": EntityMessage, "Command": Command, "Reply": Reply}
"""By their names; ``Event`` and ``Body`` are what the runtime's records are generic in."""

ROOTS = (
    records.TurnRecord,
    records.PartitionState,
    records.Shipment,
    Customer,
    *UNIONS.values(),
)


def shapes() -> dict[str, Any]:
    """Each type by its name, as plain values."""
    found: dict[str, Any] = {}
    for root in ROOTS:
        _walk(root, found)
    for name, union in UNIONS.items():
        found[name] = {"union": sorted(_name(part) for part in typing.get_args(union))}
    return dict(sorted(found.items()))


def struct_types() -> dict[str, type[msgspec.Struct]]:
    """The struct types among them."""
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(kind: Any) -> None:
        base = typing.get_origin(kind) or kind
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            if base.__name__ in found:
                return
            found[base.__name__] = base
            for field in msgspec.structs.fields(base):
                visit(field.type)
        for part in typing.get_args(kind):
            visit(part)

    for root in ROOTS:
        visit(root)
    return found


def _walk(kind: Any, found: dict[str, Any]) -> None:
    base = typing.get_origin(kind) or kind
    if isinstance(base, type) and base.__name__ not in found:
        if issubclass(base, msgspec.Struct):
            fields = msgspec.structs.fields(base)
            found[base.__name__] = {
                "tag": base.__struct_config__.tag,
                "array": base.__struct_config__.array_like,
                "fields": [
                    {"name": f.name, "type": _name(f.type), "required": f.required} for f in fields
                ],
            }
            for field in fields:
                _walk(field.type, found)
        elif issubclass(base, Enum):
            found[base.__name__] = {"values": {member.name: member.value for member in base}}
    for part in typing.get_args(kind):
        _walk(part, found)


def _name(kind: Any) -> str:
    """A type as text, the same in every version of Python."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in {typing.Union, types.UnionType}:
        return " | ".join(sorted(_name(part) for part in parts))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(_name(part) for part in parts)}]"
    if kind is Ellipsis:
        return "..."
    return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))

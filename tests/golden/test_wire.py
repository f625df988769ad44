"""Two versions of the code side by side: each reads what the other writes.

The older one is built from the shapes that were recorded with it. What must hold is in
``docs/operations/upgrading.md``: types only grow at the end, with defaults.
"""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Callable, Iterator
from enum import Enum, IntEnum
from itertools import count
from typing import Any

import msgspec
import pytest

from tests.golden.recording import Recording, differences, plain, recordings
from tests.golden.shapes import UNIONS, shapes, struct_types

Types = dict[str, Any]


@pytest.fixture(params=recordings(), ids=lambda recording: recording.folder.name)
def old_shapes(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The shapes of each recorded release."""
    found: Recording = request.param
    return found.shapes


def rebuilt(recorded: dict[str, Any]) -> Types:
    """The types of a release, made from their recorded shapes."""
    made: Types = {"None": None, "Raw": msgspec.Raw}

    class Names(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            if name in made:
                return made[name]
            if name not in recorded:
                raise KeyError(name)
            made[name] = self[name] = build(recorded[name], name)
            return made[name]

    names = Names()

    def build(shape: dict[str, Any], name: str) -> Any:
        if "values" in shape:
            return IntEnum(name, shape["values"])
        if "union" in shape:
            return typing.Union[tuple(names[part] for part in shape["union"])]  # noqa: UP007
        fields: list[Any] = []
        for field in shape["fields"]:
            # Generic records are generic in the unions, which are rebuilt as they were.
            kind = eval(re.sub(r"\b([A-Z]\w+)\[\w+\]", r"\1", field["type"]), {}, names)
            default = () if field["required"] else (msgspec.field(default=None),)
            fields.append((field["name"], kind, *default))
        # Some have a field of their own by the name that tags have by default.
        tag = {} if shape["tag"] is None else {"tag": shape["tag"], "tag_field": "(tag)"}
        return msgspec.defstruct(name, fields, array_like=shape["array"], frozen=False, **tag)

    for name in recorded:
        names[name]
    return made


def sample(kind: Any, numbers: Iterator[int], names: Types) -> Any:
    """A value of a type, each number and text in it another one."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, typing.TypeVar):
        return sample(names[kind.__name__], numbers, names)
    if origin is not None and isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return sample(origin, numbers, names)
    if origin is list:
        return [sample(parts[0], numbers, names)]
    if origin is tuple:
        whole = parts[:1] if parts[-1] is Ellipsis else parts
        return tuple(sample(part, numbers, names) for part in whole)
    if origin is dict:
        return {sample(parts[0], numbers, names): sample(parts[1], numbers, names)}
    if parts:
        chosen = next(part for part in parts if part is not type(None))
        return sample(chosen, numbers, names)
    if issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return kind(**{f.name: sample(f.type, numbers, names) for f in fields})
    if issubclass(kind, Enum):
        return list(kind)[-1]
    number = next(numbers)
    if kind is msgspec.Raw:
        return msgspec.Raw(msgspec.msgpack.encode(number))
    texts: dict[type, Any] = {
        int: number,
        str: f"text {number}",
        bytes: number.to_bytes(16, "big"),
        bool: True,
        float: number + 0.5,
    }
    return texts[kind]


def takes(new: str, old: str) -> bool:
    """Whether one type takes all that another does: alternatives may have been added to it."""
    return all(any(_takes(other, one) for other in alternatives(new)) for one in alternatives(old))


def _takes(new: ast.expr, old: ast.expr) -> bool:
    if isinstance(new, ast.Subscript) and isinstance(old, ast.Subscript):
        inner, outer = ast.unparse(old.slice), ast.unparse(new.slice)
        pairs = (split(outer), split(inner))
        same = ast.unparse(new.value) == ast.unparse(old.value) and len(pairs[0]) == len(pairs[1])
        return same and all(takes(*pair) for pair in zip(*pairs, strict=True))
    return ast.unparse(new) == ast.unparse(old)


def split(arguments: str) -> list[str]:
    """The arguments of a generic type."""
    parsed = ast.parse(f"({arguments},)", mode="eval").body
    assert isinstance(parsed, ast.Tuple)
    first = parsed.elts[0]
    found = first.elts if isinstance(first, ast.Tuple) else parsed.elts
    return [ast.unparse(argument) for argument in found]


def alternatives(kind: str) -> list[ast.expr]:
    """The types that a union is of."""
    left: list[ast.expr] = [ast.parse(kind, mode="eval").body]
    found: list[ast.expr] = []
    while left:
        part = left.pop()
        if isinstance(part, ast.BinOp):
            left += [part.left, part.right]
        else:
            found.append(part)
    return found


@pytest.mark.parametrize(
    ("new", "old", "grown"),
    [
        ("dict[int, Answer | None | Rejection]", "dict[int, None | Rejection]", True),
        ("dict[int, None]", "dict[int, None | Rejection]", False),
        ("dict[str, None | Rejection]", "dict[int, None | Rejection]", False),
        ("int | str", "int", True),
        ("list[int]", "int", False),
    ],
)
def test_a_type_takes_more_or_less(new: str, old: str, grown: bool) -> None:
    assert takes(new, old) is grown


def test_types_only_grow_at_the_end(old_shapes: dict[str, Any]) -> None:
    """Also where a sample would not tell: what is required, what an enumeration stands for."""
    now = shapes()
    for name, old in old_shapes.items():
        assert name in now, f"{name} is gone: old rows have it"
        new = now[name]
        if "values" in old:
            assert old["values"].items() <= new["values"].items(), name
        elif "union" in old:
            assert set(old["union"]) <= set(new["union"]), name
        else:
            assert (old["tag"], old["array"]) == (new["tag"], new["array"]), name
            common = new["fields"][: len(old["fields"])]
            assert [f["name"] for f in common] == [f["name"] for f in old["fields"]], name
            for before, after in zip(old["fields"], common, strict=True):
                assert takes(after["type"], before["type"]), (
                    f"{name}.{before['name']} takes less than before"
                )
            added = new["fields"][len(old["fields"]) :]
            assert not any(f["required"] for f in added), f"{name} cannot be read from old rows"


def test_the_new_code_reads_what_the_old_one_writes(old_shapes: dict[str, Any]) -> None:
    old, new = rebuilt(old_shapes), struct_types()
    for name in (name for name, shape in old_shapes.items() if "fields" in shape):
        written = sample(old[name], count(1), old)
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=_whole(new[name]))
        assert list(differences(plain(written), plain(read))) == []


def test_the_old_code_reads_what_the_new_one_writes(old_shapes: dict[str, Any]) -> None:
    """New fields are left out; they must not shift the old ones."""
    old, new = rebuilt(old_shapes), struct_types()
    names: Types = {**new, **{name: _first(union, old) for name, union in UNIONS.items()}}
    for name in (name for name, shape in old_shapes.items() if "fields" in shape):
        written = sample(new[name], count(1), names)
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(written), type=old[name])
        assert list(differences(plain(read), plain(written))) == []


def test_a_type_that_came_later_is_refused_by_the_old_code(old_shapes: dict[str, Any]) -> None:
    """It is never taken for another one: who meets it stops, and does not go on wrongly."""
    old = rebuilt(old_shapes)
    later = msgspec.defstruct("Later", [("id", int)], tag=99, array_like=True)
    for name in UNIONS:
        with pytest.raises(msgspec.ValidationError, match="Invalid value 99"):
            msgspec.msgpack.decode(msgspec.msgpack.encode(later(1)), type=old[name])


def _swapped(shape: dict[str, Any]) -> None:
    fields = shape["fields"]
    fields[4], fields[5] = fields[5], fields[4]


def _renumbered(shape: dict[str, Any]) -> None:
    shape["tag"] += 1


def _shortened(shape: dict[str, Any]) -> None:
    del shape["fields"][3]


def _lengthened(shape: dict[str, Any]) -> None:
    shape["fields"].append({"name": "lost", "type": "int", "required": True})


def _widened(shape: dict[str, Any]) -> None:
    shape["fields"][4]["type"] = "None | int"


@pytest.mark.parametrize("change", [_swapped, _renumbered, _shortened, _lengthened, _widened])
def test_a_change_that_breaks_old_rows_is_found(
    change: Callable[[dict[str, Any]], None], old_shapes: dict[str, Any]
) -> None:
    """The test of the test: had the past been another one, the present would not fit it."""
    change(old_shapes["TransferSent"])
    with pytest.raises((AssertionError, msgspec.ValidationError)):
        test_types_only_grow_at_the_end(old_shapes)


def _whole(kind: Any) -> Any:
    """A generic record with the present unions in it."""
    parameters = getattr(kind, "__parameters__", ())
    return (
        kind[tuple(UNIONS[parameter.__name__] for parameter in parameters)] if parameters else kind
    )


def _first(union: Any, old: Types) -> Any:
    """A member of a union that the old code has."""
    return next(part for part in typing.get_args(union) if part.__name__ in old)

"""Lists that an address filters, sorts and pages: what history, orders and fills have in common.

Pure: addresses and words from what was asked for. A column is sort key, heading and alignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

Column = tuple[str, str, str]


def address(base: str, given: Mapping[str, str], **more: str) -> str:
    """The list with these filters and whatever else is not empty; newest first goes unsaid."""
    values = {**given, **{name: value for name, value in more.items() if value}}
    if values.get("sort") == "-date" and "cursor" not in values:
        del values["sort"]
    return f"{base}?{urlencode(values)}" if values else base


def headings(
    columns: Sequence[Column], base: str, given: Mapping[str, str], sort: str, descending: bool
) -> list[dict[str, Any]]:
    """The headings with the address that sorts by each; the current one turns the order round."""
    result = []
    for key, title, align in columns:
        current = key == sort
        first = "-" if align == "end" or key == "date" else ""
        order = ("" if descending else "-") if current else first
        result.append(
            {
                "title": title,
                "align": align,
                "url": address(base, given, sort=order + key),
                "sorted": ("descending" if descending else "ascending") if current else "",
            }
        )
    return result


def orders(words: Mapping[str, str], order: str) -> list[tuple[str, str]]:
    """What narrow screens, which have no headings, choose from; the current order included."""
    plain = f"By {order.removeprefix('-')}" + (", reversed" if order.startswith("-") else "")
    return list({**words, order: words.get(order, plain)}.items())

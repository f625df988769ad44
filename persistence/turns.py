"""What the runtime itself writes with a turn, beside the journal row and a context's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from persistence.journal import Statement, to_datetime

_TIMERS_SET: Final = """
INSERT INTO timers (kind, key, slot, due)
SELECT $4, t.* FROM fence, unnest($1::text[], $2::smallint[], $3::timestamptz[]) AS t
ON CONFLICT (kind, key) DO UPDATE SET due = excluded.due"""

_TIMERS_GONE: Final = """
DELETE FROM timers USING fence WHERE kind = $2 AND key = ANY($1::text[])"""

_ADOPTED: Final = """
DELETE FROM handovers h USING fence, unnest($1::text[], $2::bigint[]) AS a (origin, seq)
WHERE h.origin = a.origin AND h.seq = a.seq"""

_SPLIT: Final = """
INSERT INTO slots (kind, slot, stream, target)
SELECT $3, n.slot, $4, nullif(p.target, $4)
FROM fence, unnest($1::text[], $2::smallint[]) AS n (key, slot)
JOIN private_slots p ON p.kind = $3 AND p.key = n.key"""


def timers(kind: str, changed: Sequence[tuple[str, int, int]]) -> list[Statement]:
    """The part of a turn that notes when entities want to be woken: key, slot, time or 0."""
    dues = [(key, slot, to_datetime(due)) for key, slot, due in changed if due]
    gone = [key for key, _, due in changed if not due]
    statements = []
    if dues:
        columns = [list(column) for column in zip(*dues, strict=True)]
        statements.append(Statement(_TIMERS_SET, (*columns, kind)))
    if gone:
        statements.append(Statement(_TIMERS_GONE, (gone, kind)))
    return statements


def adoption(taken: Sequence[tuple[str, int]]) -> Statement:
    """The part of a turn that takes in what was handed over, by origin and row."""
    return Statement(_ADOPTED, ([origin for origin, _ in taken], [seq for _, seq in taken]))


def splitting(kind: str, stream: str, keys: Sequence[tuple[str, int]]) -> Statement:
    """The part of a turn that gives keys slots to themselves."""
    return Statement(_SPLIT, ([key for key, _ in keys], [slot for _, slot in keys], kind, stream))

"""What the books write with their turns: the catalogue of instruments and the memory of commands.

Trades and orders are not among it: they are read from the journal, beside the turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from asyncpg.pgproto.pgproto import UUID

from domain.trading import commands as cmd
from domain.trading.events import InstrumentListed, RulesChanged, StatusChanged
from persistence.database import Pool, Standing
from persistence.journal import Statement, to_datetime
from persistence.trading.catalogue import instrument_statements

_REPLY: Final = msgspec.msgpack.Decoder(cmd.Reply)
_LISTING: Final = frozenset({InstrumentListed, RulesChanged, StatusChanged})

_COMMANDS: Final = """
INSERT INTO commands (kind, id, fingerprint, reply, at)
SELECT 'books', c.*, $4 FROM fence, unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c"""

_KNOWN: Final = """
SELECT id, fingerprint, reply FROM commands WHERE kind = 'books' AND id = ANY($1::uuid[])"""


class BooksProjection:
    """What ``actors.durable`` asks of the trading context's tables."""

    async def known(
        self, pool: Pool | Standing, ids: Sequence[bytes]
    ) -> dict[bytes, tuple[bytes, Any]]:
        """Fingerprint and first answer of the commands among ``ids`` that were seen before."""
        rows = await pool.fetch(_KNOWN, list(map(UUID, ids)))
        return {row["id"].bytes: (row["fingerprint"], _REPLY.decode(row["reply"])) for row in rows}

    def remembers(self, reply: Any) -> bool:
        """No other rows tell an answer again."""
        return False

    def statements(
        self,
        at_us: int,
        stream: str,
        seq: int,
        events: Sequence[tuple[str, Any]],
        commands: Sequence[tuple[bytes, bytes, bytes]],
    ) -> list[Statement]:
        """The rows of one turn. ``commands`` are (id, fingerprint, encoded reply)."""
        at = to_datetime(at_us)
        listing = [(symbol, event) for symbol, event in events if type(event) in _LISTING]
        result = instrument_statements(at, listing) if listing else []
        if commands:
            ids, fingerprints, replies = zip(*commands, strict=True)
            columns = (list(map(UUID, ids)), list(fingerprints), list(replies), at)
            result.append(Statement(_COMMANDS, columns))
        return result

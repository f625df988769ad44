"""From the events of a turn to the rows that customers read, in the same statement.

Also the memory of commands: a transfer is remembered by its own row for ever, every other command
with an id, and every refusal, in ``commands``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.numbers import customer_of
from persistence.database import Pool
from persistence.journal import Statement, to_datetime, to_microseconds

KIND_TRANSFER: Final = 1
KIND_BONUS: Final = 2
KIND_HOLD: Final = 3

_REPLY: Final = msgspec.msgpack.Decoder(cmd.Reply)
_PENDING: Final = int(TransferStatus.PENDING)
_COMPLETED: Final = int(TransferStatus.COMPLETED)
_RETURNED: Final = int(TransferStatus.RETURNED)

_TRANSFERS: Final = """
INSERT INTO transfers (
    id, kind, status, source, destination, source_customer, destination_customer, amount, fee,
    currency, credited, credited_currency, rate, reference, fingerprint, completed_at, reason,
    at, stream, seq)
SELECT t.*, $18, $19, $20 FROM fence, unnest(
    $1::uuid[], $2::smallint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::text[], $11::bigint[], $12::text[],
    $13::bigint[], $14::text[], $15::bytea[], $16::timestamptz[],
    $17::text[]) AS t"""

_COMPLETE: Final = """
UPDATE transfers SET status = 2, completed_at = $2
FROM fence, unnest($1::uuid[]) AS done (id) WHERE transfers.id = done.id AND status = 1"""

_RETURN: Final = """
UPDATE transfers SET status = 3, completed_at = $3, reason = back.reason
FROM fence, unnest($1::uuid[], $2::text[]) AS back (id, reason)
WHERE transfers.id = back.id AND status = 1"""

_ACCOUNTS: Final = """
INSERT INTO accounts (id, customer, currency, name, status, opened_at, closed_at)
SELECT a.*, $6, CASE WHEN a.status = 2 THEN $6::timestamptz END
FROM fence, unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::smallint[])
    AS a (id, customer, currency, name, status)"""

_STATUSES: Final = """
UPDATE accounts SET status = s.status, closed_at = CASE WHEN s.status = 2 THEN $3::timestamptz END
FROM fence, unnest($1::bigint[], $2::smallint[]) AS s (id, status) WHERE accounts.id = s.id"""

_HOLDS: Final = """
INSERT INTO holds (id, customer, slot, account, amount, purpose, expires_at)
SELECT h.* FROM fence, unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bigint[],
    $5::bigint[], $6::text[], $7::timestamptz[]) AS h"""

_HOLDS_REDUCED: Final = """
UPDATE holds SET amount = holds.amount - h.released, active = holds.amount > h.released
FROM fence, unnest($1::uuid[], $2::bigint[]) AS h (id, released) WHERE holds.id = h.id"""

_HOLDS_ENDED: Final = """
UPDATE holds SET amount = 0, active = false
FROM fence, unnest($1::uuid[]) AS h (id) WHERE holds.id = h.id"""

_COMMANDS: Final = """
INSERT INTO commands (kind, id, fingerprint, reply, at)
SELECT 'accounts', c.*, $4 FROM fence, unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS c"""

_KNOWN: Final = """
SELECT id, fingerprint, NULL::bytea AS reply, status, source, destination, amount, fee, currency,
    credited, credited_currency, at, rate, reference, reason
FROM transfers WHERE id = ANY($1::uuid[])
UNION ALL
SELECT id, fingerprint, reply, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL
FROM commands WHERE kind = 'accounts' AND id = ANY($1::uuid[])"""


class Slots(Protocol):
    """The slot of an entity's key."""

    def __call__(self, key: str) -> int:
        """Slot number of ``key``."""


class _Rows:
    """The transfers that one turn inserts, as columns."""

    def __init__(self) -> None:
        self.rows: dict[bytes, list[Any]] = {}
        self.completed: list[bytes] = []
        self.returned: list[tuple[bytes, str]] = []

    def sent(self, event: ev.TransferSent) -> None:
        if event.transfer in self.rows:
            # Never two movements under one row, whatever let the id pass twice.
            raise ValueError(f"Transfer {event.transfer.hex()} was sent twice in one turn.")
        source, destination = event.source, event.destination
        self.rows[event.transfer] = [
            UUID(event.transfer),
            KIND_TRANSFER if event.hold is None else KIND_HOLD,
            _PENDING,
            source,
            destination,
            customer_of(source),
            customer_of(destination),
            event.amount,
            event.fee,
            event.currency,
            event.credited,
            event.credited_currency,
            event.rate,
            event.reference,
            event.fingerprint,
            None,
            "",
        ]

    def received(self, event: ev.TransferReceived) -> None:
        row = self.rows.get(event.transfer)
        if row is None:
            self.completed.append(event.transfer)
        else:
            row[2] = _COMPLETED

    def came_back(self, event: ev.TransferReturned) -> None:
        row = self.rows.get(event.transfer)
        if row is None:
            self.returned.append((event.transfer, event.reason))
        else:
            row[2], row[16] = _RETURNED, event.reason

    def bonus(self, event: ev.BonusCredited) -> None:
        customer = customer_of(event.account)
        self.rows[event.transfer] = [
            UUID(event.transfer),
            KIND_BONUS,
            _COMPLETED,
            None,
            event.account,
            None,
            customer,
            event.amount,
            0,
            event.currency,
            event.amount,
            event.currency,
            None,
            "Welcome bonus",
            b"",
            None,
            "",
        ]

    def statements(self, at: Any, stream: str, seq: int) -> Iterable[Statement]:
        if self.rows:
            rows = list(self.rows.values())
            for row in rows:
                if row[2] != _PENDING:
                    row[15] = at
            columns = tuple(map(list, zip(*rows, strict=True)))
            yield Statement(_TRANSFERS, (*columns, at, stream, seq))
        if self.completed:
            yield Statement(_COMPLETE, (list(map(UUID, self.completed)), at))
        if self.returned:
            ids = [UUID(transfer) for transfer, _ in self.returned]
            yield Statement(_RETURN, (ids, [reason for _, reason in self.returned], at))


class AccountsProjection:
    """What ``actors.durable`` asks of the accounts context's tables."""

    kind: Final = "accounts"

    def __init__(self, slot_of: Slots) -> None:
        self._slot_of = slot_of

    async def known(self, connection: Pool, ids: Sequence[bytes]) -> dict[bytes, tuple[bytes, Any]]:
        """Fingerprint and first answer of the commands among ``ids`` that were seen before."""
        found: dict[bytes, tuple[bytes, Any]] = {}
        for row in await connection.fetch(_KNOWN, list(map(UUID, ids))):
            command_id, fingerprint = row["id"].bytes, row["fingerprint"]
            if row["reply"] is not None:
                found[command_id] = (fingerprint, _REPLY.decode(row["reply"]))
            elif command_id not in found:
                # A welcome bonus has a row too; what opened the customer is in ``commands``.
                found[command_id] = (fingerprint, _receipt(row))
        return found

    def remembers(self, reply: Any) -> bool:
        """Whether the command's own rows tell this answer again."""
        return isinstance(reply, cmd.Receipt)

    def statements(
        self,
        at_us: int,
        stream: str,
        seq: int,
        events: Iterable[tuple[str, Any]],
        commands: Sequence[tuple[bytes, bytes, bytes]],
    ) -> list[Statement]:
        """The rows of one turn. ``commands`` are (id, fingerprint, encoded reply)."""
        at = to_datetime(at_us)
        rows = _Rows()
        others: dict[type, list[Any]] = {}
        for key, event in events:
            kind = type(event)
            if kind is ev.TransferSent:
                rows.sent(event)
                if event.hold is not None:
                    others.setdefault(kind, []).append(event)
            elif kind is ev.TransferReceived:
                rows.received(event)
            elif kind is ev.TransferReturned:
                rows.came_back(event)
            elif kind is ev.BonusCredited:
                rows.bonus(event)
            elif kind is ev.HoldReserved:
                others.setdefault(kind, []).append((key, event))
            elif kind is not ev.TransferDelivered:
                others.setdefault(kind, []).append(event)
        result = list(rows.statements(at, stream, seq))
        if others:
            result.extend(self._other_statements(at, others))
        if commands:
            result.append(
                Statement(
                    _COMMANDS,
                    (
                        [UUID(command) for command, _, _ in commands],
                        [fingerprint for _, fingerprint, _ in commands],
                        [reply for _, _, reply in commands],
                        at,
                    ),
                )
            )
        return result

    def _other_statements(self, at: Any, others: dict[type, list[Any]]) -> Iterable[Statement]:
        changed = {event.account: event.status for event in others.get(ev.StatusChanged, ())}
        opened = others.get(ev.AccountOpened)
        if opened:
            # An update does not see what the same statement inserts.
            statuses = [int(changed.pop(event.account, AccountStatus.OPEN)) for event in opened]
            yield Statement(
                _ACCOUNTS,
                (
                    [event.account for event in opened],
                    [customer_of(event.account) for event in opened],
                    [event.currency for event in opened],
                    [event.name for event in opened],
                    statuses,
                    at,
                ),
            )
        if changed:
            yield Statement(_STATUSES, (list(changed), list(map(int, changed.values())), at))
        yield from self._hold_statements(others)

    def _hold_statements(self, others: dict[type, list[Any]]) -> Iterable[Statement]:
        """Holds made and ended; one made and ended in the same turn is only ever inserted."""
        ended = {event.hold for event in others.get(ev.HoldEnded, ())}
        released: dict[bytes, int] = {}
        for event in others.get(ev.TransferSent, ()):
            released[event.hold] = released.get(event.hold, 0) + event.released
        reserved = []
        for key, event in others.get(ev.HoldReserved, ()):
            left = event.amount - released.pop(event.hold, 0)
            if event.hold in ended:
                ended.discard(event.hold)
            elif left:
                reserved.append((key, event, left))
        if reserved:
            yield Statement(
                _HOLDS,
                (
                    [UUID(event.hold) for _, event, _ in reserved],
                    [customer_of(event.account) for _, event, _ in reserved],
                    [self._slot_of(key) for key, _, _ in reserved],
                    [event.account for _, event, _ in reserved],
                    [left for _, _, left in reserved],
                    [event.purpose for _, event, _ in reserved],
                    [to_datetime(event.expires_at) for _, event, _ in reserved],
                ),
            )
        for hold in ended:
            released.pop(hold, None)
        if released:
            yield Statement(_HOLDS_REDUCED, (list(map(UUID, released)), list(released.values())))
        if ended:
            yield Statement(_HOLDS_ENDED, (list(map(UUID, ended)),))


def _receipt(row: asyncpg.Record) -> cmd.Receipt:
    return cmd.Receipt(
        row["id"].bytes,
        TransferStatus(row["status"]),
        row["source"] or 0,
        row["destination"],
        row["amount"],
        row["fee"],
        row["currency"],
        row["credited"],
        row["credited_currency"],
        to_microseconds(row["at"]),
        row["rate"],
        row["reference"],
        row["reason"],
    )

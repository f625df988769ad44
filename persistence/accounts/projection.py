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
from persistence.accounts.adjustments import ADJUSTMENTS, adjustment_statements
from persistence.database import Pool, Standing
from persistence.journal import Statement, to_datetime, to_microseconds

KIND_TRANSFER: Final = 1
KIND_BONUS: Final = 2
KIND_HOLD: Final = 3
KIND_FUNDING: Final = 4
KIND_WITHDRAWAL: Final = 5
KIND_ADJUSTMENT: Final = 6

_REPLY: Final = msgspec.msgpack.Decoder(cmd.Reply)
_PENDING: Final = int(TransferStatus.PENDING)
_COMPLETED: Final = int(TransferStatus.COMPLETED)
_RETURNED: Final = int(TransferStatus.RETURNED)

_INSERT: Final = """
INSERT INTO transfers (
    id, kind, status, source, destination, source_customer, destination_customer, amount, fee,
    currency, credited, credited_currency, rate, reference, fingerprint, reason, at, completed_at,
    stream, seq)"""

_PLAIN: Final = f"""{_INSERT}
SELECT id, 1, status, source, destination, source / 10000, destination / 10000, amount, fee,
    currency, amount, currency, NULL, reference, fingerprint, '', $1,
    CASE WHEN status > 1 THEN $1::timestamptz END, $2, $3
FROM fence, unnest(
    $4::uuid[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::text[], $11::text[], $12::bytea[])
    AS t (id, status, source, destination, amount, fee, currency, reference, fingerprint)"""
"""Transfers that convert nothing, use no hold and did not come back: nearly all of them."""

_TRANSFERS: Final = f"""{_INSERT}
SELECT id, kind, status, source, destination, source / 10000, destination / 10000, amount, fee,
    currency, credited, credited_currency, rate, reference, fingerprint, reason, $1,
    CASE WHEN status > 1 THEN $1::timestamptz END, $2, $3
FROM fence, unnest(
    $4::uuid[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
    $10::text[], $11::text[], $12::bytea[], $13::smallint[], $14::bigint[], $15::text[],
    $16::bigint[], $17::text[])
    AS t (id, status, source, destination, amount, fee, currency, reference, fingerprint, kind,
    credited, credited_currency, rate, reason)"""

_BONUSES: Final = f"""{_INSERT}
SELECT id, 2, 2, NULL, account, NULL, account / 10000, amount, 0, currency, amount, currency,
    NULL, 'Welcome bonus', '', '', $1, $1, $2, $3
FROM fence, unnest($4::uuid[], $5::bigint[], $6::bigint[], $7::text[])
    AS t (id, account, amount, currency)"""

_OTHER_SIDE: Final = f"""{_INSERT}
SELECT id, kind, 2, source, destination, source / 10000, destination / 10000, amount, 0, currency,
    amount, currency, NULL, reference, fingerprint, '', $1, $1, $2, $3
FROM fence, unnest(
    $4::uuid[], $5::smallint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::text[], $10::text[],
    $11::bytea[])
    AS t (id, kind, source, destination, amount, currency, reference, fingerprint)"""
"""What has no account on its other side: the customer's own brokerage, or the house."""

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


_WITHOUT_ROWS: Final = frozenset(
    {ev.TransferDelivered, ev.OrdersPlaced, ev.OrdersWorked, ev.OrdersSettled, ev.TradeEnded}
)
"""Nothing that customers must read at once; orders and trades have a projector of their own."""


class Slots(Protocol):
    """The slot of an entity's key."""

    def __call__(self, key: str) -> int:
        """Slot number of ``key``."""


class _Transfers:
    """The transfers of one turn: those that it makes, and those whose fate it changes."""

    def __init__(self) -> None:
        self.sent: dict[bytes, ev.TransferSent] = {}
        self.bonuses: list[ev.BonusCredited] = []
        self.arrived: list[bytes] = []
        self.returned: dict[bytes, str] = {}
        self.brokerage: list[ev.BrokerageFunded | ev.BrokerageWithdrawn] = []
        self.adjusted: list[ev.AdjustmentPosted] = []

    def send(self, event: ev.TransferSent) -> None:
        """Note a new transfer."""
        if event.transfer in self.sent:
            # Never two movements under one row, whatever let the id pass twice.
            raise ValueError(f"Transfer {event.transfer.hex()} was sent twice in one turn.")
        self.sent[event.transfer] = event

    def statements(self, at: Any, stream: str, seq: int) -> Iterable[Statement]:
        """The rows, inserted with the status that they have at the end of the turn."""
        sent, arrived, returned = self.sent, self.arrived, self.returned
        if sent:
            statuses = dict.fromkeys(sent, _PENDING)
            if arrived:
                for transfer in arrived:
                    if transfer in statuses:
                        statuses[transfer] = _COMPLETED
                arrived = [transfer for transfer in arrived if transfer not in sent]
            for transfer in returned:
                if transfer in statuses:
                    statuses[transfer] = _RETURNED
            yield from self._inserted(statuses, at, stream, seq)
        if self.bonuses:
            yield self._bonuses(at, stream, seq)
        if self.brokerage:
            yield self._brokerage(at, stream, seq)
        if self.adjusted:
            yield self._adjustments(at, stream, seq)
        if arrived:
            yield Statement(_COMPLETE, (list(map(UUID, arrived)), at))
        back = {transfer: reason for transfer, reason in returned.items() if transfer not in sent}
        if back:
            yield Statement(_RETURN, (list(map(UUID, back)), list(back.values()), at))

    def _inserted(
        self, statuses: dict[bytes, int], at: Any, stream: str, seq: int
    ) -> Iterable[Statement]:
        """Columns by hand: each that is left out is a tenth of what a transfer costs here."""
        plain: list[ev.TransferSent] = []
        others: list[ev.TransferSent] = []
        for event in self.sent.values():
            simple = (
                event.rate is None
                and event.hold is None
                and event.currency == event.credited_currency
                and event.transfer not in self.returned
            )
            (plain if simple else others).append(event)
        for events, sql in ((plain, _PLAIN), (others, _TRANSFERS)):
            if not events:
                continue
            columns: tuple[list[Any], ...] = (
                [UUID(event.transfer) for event in events],
                [statuses[event.transfer] for event in events],
                [event.source for event in events],
                [event.destination for event in events],
                [event.amount for event in events],
                [event.fee for event in events],
                [event.currency for event in events],
                [event.reference for event in events],
                [event.fingerprint for event in events],
            )
            if sql is _TRANSFERS:
                columns += (
                    [KIND_TRANSFER if event.hold is None else KIND_HOLD for event in events],
                    [event.credited for event in events],
                    [event.credited_currency for event in events],
                    [event.rate for event in events],
                    [self.returned.get(event.transfer, "") for event in events],
                )
            yield Statement(sql, (at, stream, seq, *columns))

    def _bonuses(self, at: Any, stream: str, seq: int) -> Statement:
        bonuses = self.bonuses
        return Statement(
            _BONUSES,
            (
                at,
                stream,
                seq,
                [UUID(event.transfer) for event in bonuses],
                [event.account for event in bonuses],
                [event.amount for event in bonuses],
                [event.currency for event in bonuses],
            ),
        )

    def _brokerage(self, at: Any, stream: str, seq: int) -> Statement:
        moved = [(event, type(event) is ev.BrokerageFunded) for event in self.brokerage]
        return Statement(
            _OTHER_SIDE,
            (
                at,
                stream,
                seq,
                [UUID(event.transfer) for event, _ in moved],
                [KIND_FUNDING if funds else KIND_WITHDRAWAL for _, funds in moved],
                [event.account if funds else None for event, funds in moved],
                [None if funds else event.account for event, funds in moved],
                [event.amount for event, _ in moved],
                [event.currency for event, _ in moved],
                ["To the brokerage" if funds else "From the brokerage" for _, funds in moved],
                [event.fingerprint for event, _ in moved],
            ),
        )

    def _adjustments(self, at: Any, stream: str, seq: int) -> Statement:
        events = self.adjusted
        return Statement(
            _OTHER_SIDE,
            (
                at,
                stream,
                seq,
                [UUID(event.adjustment) for event in events],
                [KIND_ADJUSTMENT] * len(events),
                [event.account if event.amount < 0 else None for event in events],
                [event.account if event.amount > 0 else None for event in events],
                [abs(event.amount) for event in events],
                [event.currency for event in events],
                [event.reason for event in events],
                [b""] * len(events),
            ),
        )


class AccountsProjection:
    """What ``actors.durable`` asks of the accounts context's tables."""

    kind: Final = "accounts"

    def __init__(self, slot_of: Slots) -> None:
        self._slot_of = slot_of

    async def known(
        self, connection: Pool | Standing, ids: Sequence[bytes]
    ) -> dict[bytes, tuple[bytes, Any]]:
        """Fingerprint and first answer of the commands among ``ids`` that were seen before."""
        found: dict[bytes, tuple[bytes, Any]] = {}
        for row in await connection.fetch(_KNOWN, list(map(UUID, ids))):
            command_id, fingerprint = row["id"].bytes, row["fingerprint"]
            if row["reply"] is not None:
                found[command_id] = (fingerprint, _REPLY.decode(row["reply"]))
            elif command_id not in found:
                # What opened a customer, moved to or from a brokerage, or was proposed as an
                # adjustment is in ``commands``.
                found[command_id] = (fingerprint, _receipt(row))
        return found

    def remembers(self, reply: Any) -> bool:
        """Whether the command's own rows tell this answer again."""
        return type(reply) is cmd.Receipt

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
        transfers = _Transfers()
        others: dict[type, list[Any]] = {}
        for key, event in events:
            kind = type(event)
            if kind in _WITHOUT_ROWS:
                continue
            if kind is ev.TransferReceived:
                transfers.arrived.append(event.transfer)
            elif kind is ev.TransferSent:
                transfers.send(event)
                if event.hold is not None:
                    others.setdefault(kind, []).append(event)
            elif kind is ev.TransferReturned:
                transfers.returned[event.transfer] = event.reason
            elif kind is ev.BonusCredited:
                transfers.bonuses.append(event)
            elif kind is ev.BrokerageFunded or kind is ev.BrokerageWithdrawn:
                transfers.brokerage.append(event)
            elif kind in ADJUSTMENTS:
                others.setdefault(ev.AdjustmentProposed, []).append(event)
                if kind is ev.AdjustmentPosted:
                    transfers.adjusted.append(event)
            elif kind is ev.HoldReserved:
                others.setdefault(kind, []).append((key, event))
            else:
                others.setdefault(kind, []).append(event)
        result = list(transfers.statements(at, stream, seq))
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
        if ev.AdjustmentProposed in others:
            yield from adjustment_statements(others[ev.AdjustmentProposed], at)

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

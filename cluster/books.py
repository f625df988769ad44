"""Proof of the books from the database alone: replay, compare, and say what does not fit.

Reads in one repeatable-read transaction, so that it may run beside a working platform. Writes
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import msgspec

from actors.accounts import KIND, accounts_codec
from actors.durable.items import Entity
from actors.durable.memory import MOVED, Imbalance
from actors.durable.replay import Replay
from actors.durable.turn import Workspace
from domain.accounts.commands import AccountStatus, Credit, TransferStatus
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import Policy
from domain.money import CURRENCIES, format_amount
from persistence.database import Connection, Pool
from persistence.journal import (
    GENESIS,
    Corrupt,
    JournalRow,
    check_link,
    read_journal,
    streams,
    to_datetime,
    to_microseconds,
)

FINDINGS_MAX: Final = 100
_CHUNK: Final = 500


class Report(msgspec.Struct):
    """The result of ``check``.

    ``sums`` are, by asset, all ledger accounts together (zero when the books are right) and
    ``in_transit`` what has left one partition and not reached another yet, in minor units.
    """

    ok: bool
    sums: dict[str, int]
    in_transit: dict[str, int]
    counts: dict[str, int]
    findings: list[str]


class Chain(msgspec.Struct):
    """The result of ``verify`` for one stream."""

    stream: str
    rows: int
    ok: bool
    broken_at: int | None = None
    reason: str = ""


@asynccontextmanager
async def _frozen(pool: Pool) -> AsyncIterator[Connection]:
    """One unchanging view of the whole database."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield cast(Connection, connection)


async def _rows(connection: Connection, stream: str) -> AsyncIterator[JournalRow]:
    seq = 0
    while rows := await read_journal(connection, stream, seq, _CHUNK):
        for row in rows:
            yield row
        seq = rows[-1].seq


async def verify(pool: Pool, *, stream: str | None = None) -> list[Chain]:
    """Hold each journal row's hash against the one before it and its own content."""
    chains = []
    async with _frozen(pool) as connection:
        for _, name, _ in await streams(connection):
            if stream is None or stream == name:
                chains.append(await _verify(connection, name))
    return chains


async def _verify(connection: Connection, stream: str) -> Chain:
    seq, previous = 0, GENESIS
    try:
        async for row in _rows(connection, stream):
            check_link(row, seq + 1, previous)
            seq, previous = row.seq, row.hash
        found = await connection.fetchrow(
            "SELECT seq, hash FROM checkpoints WHERE stream = $1", stream
        )
        if found is not None and found["seq"] > seq:
            raise Corrupt(f"Journal rows {stream} {seq + 1} to {found['seq']} are missing.")
    except Corrupt as error:
        return Chain(stream, seq, False, seq + 1, str(error))
    return Chain(stream, seq, True)


async def journal(
    pool: Pool, *, stream: str | None = None, first: int = 1, limit: int = 20
) -> list[dict[str, Any]]:
    """Journal rows from ``first`` on, decoded for reading."""
    codec = accounts_codec()
    shown = []
    async with _frozen(pool) as connection:
        for kind, name, _ in await streams(connection):
            if kind != KIND or stream not in {None, name}:
                continue
            for row in await read_journal(connection, name, first - 1, limit):
                record = codec.decode_turn(row.entries)
                shown.append(
                    {
                        "stream": row.stream,
                        "seq": row.seq,
                        "epoch": row.epoch,
                        "at": to_datetime(row.at).isoformat(),
                        "hash": row.hash.hex(),
                        "events": [
                            {"entity": key, "event": type(event).__name__, **_readable(event)}
                            for key, event in record.events
                        ],
                        "sent": [
                            {
                                "seq": sent.seq,
                                "to": sent.destination,
                                "message": type(sent.body).__name__,
                                **_readable(sent.body),
                            }
                            for sent in record.sent
                        ],
                        "received": [
                            {"from": received.origin, "messages": len(received.outcomes)}
                            for received in record.received
                        ],
                        "acknowledged": len(record.acknowledged),
                    }
                )
    return shown


def _readable(struct: Any) -> dict[str, Any]:
    fields = {name: getattr(struct, name) for name in struct.__struct_fields__}
    return {name: _plain(value) for name, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return _readable(value)
    return value


class _Audit:
    """Replays all streams and collects what does not fit."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.codec = accounts_codec()
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.replay = Replay(self.codec, self._workspace)
        self.transit: Counter[str] = Counter()
        self._sent: dict[tuple[str, int], Credit] = {}
        self._settled: set[tuple[str, int]] = set()

    def found(self, finding: str) -> None:
        """Note what is wrong; the list is bounded, the count is not."""
        self.counts["findings"] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)

    async def run(self, names: Sequence[str]) -> None:
        """Make all streams happen again from nothing, and hold them against what is stored."""
        checkpoints = {
            row["stream"]: row["seq"]
            for row in await self.connection.fetch("SELECT stream, seq FROM checkpoints")
        }
        due: dict[str, dict[str, bytes]] = {}
        encode = self.codec.encode

        def seen(stream: str, row: JournalRow, record: Any, came: dict[str, bytes]) -> None:
            self.counts["turns"] += 1
            self.counts["events"] += len(record.events)
            self._track(stream, record)
            states = due.setdefault(stream, {})
            if row.seq == checkpoints.get(stream, 0):
                entities = self.replay.works[stream].entities
                states.update({key: encode(entity.state) for key, entity in entities.items()})
            elif row.seq > checkpoints.get(stream, 0):
                # What came after the checkpoint is stored as its former owner stored it.
                states.update(came)

        rows = {stream: self._chained(stream) for stream in names}
        try:
            await self.replay.run(rows, seen)
        except (Corrupt, Imbalance, msgspec.DecodeError, LookupError, ValueError) as error:
            self.found(f"{type(error).__name__}: {error}")
        for parcel in self.replay.parcels.values():
            due.setdefault("", {}).update({key: encode(e.state) for key, e in parcel.items()})
        for states in due.values():
            await self._compare_snapshots(states)
        works = self.replay.works.values()
        self.counts["customers"] += sum(len(work.entities) for work in works)
        await self._compare_timers()

    async def _chained(self, stream: str) -> AsyncIterator[JournalRow]:
        seq, previous = 0, GENESIS
        async for row in _rows(self.connection, stream):
            check_link(row, seq + 1, previous)
            seq, previous = row.seq, row.hash
            yield row

    def _workspace(self) -> Workspace:
        machine = AccountsMachine(Policy({}, {}))
        return Workspace(machine, self.codec, lambda reply: True)

    def _track(self, stream: str, record: Any) -> None:
        """Follow the money between partitions, message by message."""
        for sent in record.sent:
            if isinstance(sent.body, Credit):
                self._sent[stream, sent.seq] = sent.body
        for received in record.received:
            for seq, outcome in received.outcomes:
                if outcome is None:
                    self._settled.add((received.origin, seq))
        # What was refused has come back in the turn that noted it.
        self._settled.update((stream, seq) for seq in record.acknowledged)

    async def _compare_snapshots(self, states: dict[str, bytes]) -> None:
        """At a checkpoint the stored states are what replay gives, byte for byte."""
        keys = list(states)
        for start in range(0, len(keys), 5_000):
            part = keys[start : start + 5_000]
            rows = await self.connection.fetch(
                "SELECT key, state FROM snapshots WHERE kind = $1 AND key = ANY($2::text[])",
                KIND,
                part,
            )
            stored = {row["key"]: row["state"] for row in rows}
            for key in part:
                if stored.get(key) != states[key]:
                    self.found(f"The snapshot of customer {key} is not what replay gives.")

    def _entities(self) -> Iterator[tuple[str, Entity]]:
        """All customers, those between two partitions included."""
        for work in self.replay.works.values():
            yield from work.entities.items()
        for parcel in self.replay.parcels.values():
            yield from parcel.items()

    async def _compare_timers(self) -> None:
        """Whoever waits for a time has a timer, and nobody else."""
        machine = AccountsMachine(Policy({}, {}))
        rows = await self.connection.fetch("SELECT key, due FROM timers WHERE kind = $1", KIND)
        stored = {row["key"]: to_microseconds(row["due"]) for row in rows}
        for key, entity in self._entities():
            if stored.pop(key, 0) != machine.due(entity.state):
                self.found(f"The timer of customer {key} is not the time it waits for.")
        for key in stored:
            self.found(f"There is a timer for {key}, which is in no journal.")

    def sums(self) -> dict[str, int]:
        """All ledger accounts of all partitions, by asset."""
        total: Counter[str] = Counter()
        in_transit: Counter[str] = Counter()
        for stream, work in self.replay.works.items():
            part: Counter[str] = Counter()
            for entity in work.entities.values():
                for asset, amount in work.machine.balances(entity.state).items():
                    part[asset] += amount
            for account, balances in work.partition.house.items():
                for asset, amount in balances.items():
                    part[asset] += amount
                    if account == "transit":
                        in_transit[asset] += amount
            for asset, amount in part.items():
                total[asset] += amount
                if amount:
                    self.found(f"{stream}: {asset} sums to {amount}, not to zero.")
        expected: Counter[str] = Counter()
        for message, credit in self._sent.items():
            if message not in self._settled:
                expected[credit.currency] += credit.amount
        for asset in CURRENCIES:
            if in_transit[asset] != expected[asset]:
                self.found(
                    f"{in_transit[asset]} {asset} are in transit, but the messages on their way"
                    f" carry {expected[asset]}."
                )
        if any(self._moved_away().values()):
            self.found("What slots took along and what they brought is not the same.")
        self.transit = Counter({asset: expected[asset] for asset in CURRENCIES})
        self.counts["messages_in_transit"] = len(self._sent.keys() - self._settled)
        return {asset: total[asset] for asset in CURRENCIES}

    def _moved_away(self) -> Counter[str]:
        """What slots that have left took along, less what came elsewhere or is between."""
        moved: Counter[str] = Counter()
        for work in self.replay.works.values():
            moved.update(work.partition.house.get(MOVED, {}))
        machine = AccountsMachine(Policy({}, {}))
        for parcel in self.replay.parcels.values():
            for entity in parcel.values():
                moved.subtract(machine.balances(entity.state))
        return moved

    async def compare_accounts(self) -> None:
        """Balances, states and histories of all accounts agree with each other."""
        moved = await self._moved()
        stored = {
            row["id"]: row
            for row in await self.connection.fetch("SELECT id, currency, status FROM accounts")
        }
        for _, entity in self._entities():
            for account in entity.state.accounts.values():
                self.counts["accounts"] += 1
                row = stored.pop(account.id, None)
                if row is None or row["currency"] != account.currency:
                    self.found(f"Account {account.id} is not in the table of accounts.")
                elif AccountStatus(row["status"]) != account.status:
                    self.found(f"Account {account.id} has another status in the table.")
                if account.posted != moved.pop(account.id, 0):
                    self.found(f"The history of account {account.id} gives another balance.")
                if account.available < 0 or account.held < 0:
                    left = format_amount(account.available, account.currency)
                    self.found(f"Account {account.id} has {left} available.")
        for number in [*stored, *(n for n, amount in moved.items() if amount)]:
            self.found(f"Account {number} is in the tables and not in the journal.")

    async def _moved(self) -> dict[int, int]:
        """The balance of each account by its history."""
        rows = await self.connection.fetch(
            """
            SELECT account, sum(amount)::bigint AS amount FROM (
                SELECT source AS account, -(amount + fee) AS amount FROM transfers
                WHERE source IS NOT NULL AND status <> $1
                UNION ALL
                SELECT destination, credited FROM transfers
                WHERE destination IS NOT NULL AND status = $2
            ) AS sides GROUP BY account""",
            int(TransferStatus.RETURNED),
            int(TransferStatus.COMPLETED),
        )
        return {row["account"]: row["amount"] for row in rows}

    async def compare_pending(self) -> None:
        """Each pending transfer is on its way, and nothing else is."""
        rows = await self.connection.fetch(
            "SELECT id FROM transfers WHERE status = $1", int(TransferStatus.PENDING)
        )
        pending = {row["id"].bytes for row in rows}
        on_their_way = {
            credit.transfer
            for message, credit in self._sent.items()
            if message not in self._settled
        }
        for transfer in pending - on_their_way:
            self.found(f"Transfer {transfer.hex()} is pending, but nothing is on its way.")
        for transfer in on_their_way - pending:
            self.found(f"Transfer {transfer.hex()} is on its way, but not pending.")


async def check(pool: Pool) -> Report:
    """Replay the whole journal and prove the books.

    Each partition sums to zero in each asset after every turn; snapshots, tables and history say
    the same as replay; what is in transit is what messages carry; nobody is overdrawn.
    """
    async with _frozen(pool) as connection:
        audit = _Audit(connection)
        await audit.run([stream for kind, stream, _ in await streams(connection) if kind == KIND])
        sums = audit.sums()
        await audit.compare_accounts()
        await audit.compare_pending()
    counts = {"findings": 0, **dict(sorted(audit.counts.items()))}
    return Report(not audit.counts["findings"], sums, dict(audit.transit), counts, audit.findings)

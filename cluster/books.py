"""Proof of the books from the database alone: replay, compare, and say what does not fit.

Reads in one repeatable-read transaction, so that it may run beside a working platform. Writes
nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from actors.accounts import accounts_codec
from actors.books import BooksCodec
from actors.durable.records import Codec
from cluster.audit import Findings, rows_of
from cluster.audit_accounts import AccountsAudit
from cluster.audit_history import audit_history
from cluster.audit_trading import BooksAudit, TradingAudit
from domain.money import CURRENCIES
from domain.orders import ACCOUNTS, BOOKS
from persistence.database import Connection, Pool
from persistence.journal import (
    GENESIS,
    Corrupt,
    check_link,
    read_journal,
    streams,
    to_datetime,
)


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
        async for row in rows_of(connection, stream):
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
    codecs: dict[str, Codec[Any, Any]] = {ACCOUNTS: accounts_codec(), BOOKS: BooksCodec()}
    shown = []
    async with _frozen(pool) as connection:
        for kind, name, _ in await streams(connection):
            if kind not in codecs or stream not in {None, name}:
                continue
            for row in await read_journal(connection, name, first - 1, limit):
                record = codecs[kind].decode_turn(row.entries)
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


async def check(pool: Pool) -> Report:
    """Replay the whole journal and prove the books.

    Each partition sums to zero in each asset after every turn; snapshots, tables and history say
    the same as replay; what is in transit is what messages carry; nobody is overdrawn. Customers
    and order books say the same of each open order, what is held is what open orders can cost,
    and what only one side of a trade has posted is on its way to the other. Trading history agrees
    with itself.
    """
    findings = Findings()
    async with _frozen(pool) as connection:
        accounts = AccountsAudit(connection, findings)
        await accounts.run()
        sums = accounts.sums()
        accounts.compare_transit()
        await accounts.compare_accounts()
        await accounts.compare_pending()
        await accounts.compare_adjustments()
        accounts.compare_brokerages()
        books = BooksAudit(connection, findings)
        await books.run()
        books.sums()
        TradingAudit(accounts, books, findings).compare()
        await audit_history(connection, findings)
    assets = [*CURRENCIES, *sorted(sums.keys() - CURRENCIES.keys())]
    return Report(
        not findings.counts["findings"],
        {asset: sums[asset] for asset in assets},
        {asset: accounts.transit[asset] for asset in CURRENCIES},
        {"findings": 0, **dict(sorted(findings.counts.items()))},
        findings.list,
    )

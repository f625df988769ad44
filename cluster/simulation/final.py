"""What must be true when everything has ended: of the journals, the tables, and all memory."""

from __future__ import annotations

from random import Random
from typing import Any

from actors.durable.memory import MOVED
from actors.durable.records import Codec
from actors.durable.turn import Workspace
from cluster.simulation.model import Violation, must
from cluster.simulation.platform import Platform
from cluster.simulation.store import Store
from cluster.simulation.trouble import spoil, verify
from domain.accounts import events as ev
from domain.accounts.commands import TransferStatus
from persistence.journal import Corrupt, check_link

_SAMPLES = 12


def holds_over(platform: Platform) -> bool:
    """Whether there is still a hold."""
    return any(party.holds for party in platform.witness.ledger.parties.values())


def at_rest(platform: Platform) -> None:
    """Everything below; raises ``Violation``."""
    as_stored(platform)
    nothing_open(platform)
    transfers(platform)
    answers(platform)
    past(platform)
    tampering(platform)


def as_stored(platform: Platform) -> None:
    """What is stored verifies, and memory is what a replay makes of it."""
    for stream in platform.streams:
        must(10, not verify(platform, stream), "the journal does not verify:", stream)
        same_memory(platform, stream)


def stored_memory(store: Store, stream: str, codec: Codec[Any, Any], machine: Any) -> Workspace:
    """A partition's memory made anew from its checkpoint, snapshots and the tail of its journal."""
    work = Workspace(machine, codec, lambda _: False)
    after = 0
    checkpoint = store.checkpoints.get(stream)
    if checkpoint is not None:
        work.resume(codec.decode_partition(checkpoint.state))
        after = checkpoint.seq
    for key, state in store.snapshots.items():
        if store.owner(key) == stream:
            work.admit(key, codec.decode_entity(state))
    for row in store.rows.get(stream, []):
        if row.seq > after:
            record = codec.decode_turn(row.entries)
            for key, _ in record.events:
                if key not in work.entities:
                    work.admit(key, machine.new(key))
            work.replay(record, row.at)
    return work


def same_memory(platform: Platform, stream: str) -> None:
    """Full replay, snapshots plus tail, and what is in memory now are the same bytes."""
    codec, witness = platform.codec, platform.witness
    encode = codec.encode
    short = stored_memory(platform.database, stream, codec, platform.kind.machine())
    full = encode(witness.replica(stream).partition)
    must(7, full == encode(short.partition), "snapshots and tail of", stream, "are not its replay")
    process = platform.serving(stream)
    assert process is not None
    assert process.partition is not None
    live = process.partition._work
    must(7, full == encode(live.partition), "the memory of", stream, "is not its replay")
    for key in live.entities:
        must(7, platform.owner(key) == stream, f"{key} is still in the memory of", stream)
    for key, entity in witness.replica(stream).entities.items():
        must(7, platform.owner(key) == stream, f"{key} is still in the replay of", stream)
        state = encode(entity.state)
        stored = short.entities.get(key)
        must(7, stored and encode(stored.state) == state, "the snapshot of", key, "is not right")
        if key in live.entities:
            must(7, encode(live.entities[key].state) == state, "the memory of", key, "is not right")


def nothing_open(platform: Platform) -> None:
    """Nothing is on its way, no group waits, no promise is left, and books are zero."""
    witness = platform.witness
    totals: dict[str, int] = {}
    transit: dict[str, int] = {}
    must(12, not witness.replay.parcels, "entities between two partitions:", witness.replay.parcels)
    moved: dict[str, int] = {}
    for work in witness.replay.works.values():
        must(12, not work.partition.outbox, "messages on their way:", work.partition.outbox)
        for account, sums in work.partition.house.items():
            for asset, amount in sums.items():
                totals[asset] = totals.get(asset, 0) + amount
                if account == "transit":
                    transit[asset] = transit.get(asset, 0) + amount
                elif account == MOVED:
                    moved[asset] = moved.get(asset, 0) + amount
    must(1, not any(moved.values()), "entities on the move hold", moved)
    entities = [e for work in witness.replay.works.values() for e in work.entities.items()]
    for key, entity in entities:
        state = entity.state
        must(12, not state.groups, "a group waits for ever:", key, state.groups)
        must(12, not state.promised, "a promise is kept for ever:", key, state.promised)
        must(12, not state.holds, "a hold stays for ever:", key, state.holds)
        for number, account in state.accounts.items():
            totals[account.currency] = totals.get(account.currency, 0) + account.posted
            on_way = (account.pending, account.expecting, account.held)
            must(12, on_way == (0, 0, 0), "something is on its way at", number, account)
    must(1, not any(totals.values()), "the books of all partitions sum to", totals)
    must(1, not any(transit.values()), "money is on its way for ever:", transit)


def transfers(platform: Platform) -> None:
    """Each transfer's row tells its end, and balances follow from the rows alone."""
    database, ledger = platform.database, platform.witness.ledger
    must(5, set(ledger.sent) == set(database.transfers), "a row without a transfer, or none")
    balances: dict[int, int] = {}
    for stream in platform.streams:
        for row in database.rows.get(stream, []):
            for _, event in platform.codec.decode_turn(row.entries).events:
                if isinstance(event, ev.AccountOpened):
                    balances.setdefault(event.account, 0)
                elif isinstance(event, ev.BonusCredited):
                    balances[event.account] += event.amount
    for transfer, (_, receipt) in database.transfers.items():
        ended = {"received": TransferStatus.COMPLETED, "returned": TransferStatus.RETURNED}
        must(3, transfer in ledger.ended, "a transfer has not ended:", receipt)
        must(3, receipt.status == ended[ledger.ended[transfer]], "its row says:", receipt)
        if receipt.status == TransferStatus.COMPLETED:
            balances[receipt.source] -= receipt.amount + receipt.fee
            balances[receipt.destination] += receipt.credited
    for account, amount in balances.items():
        posted = ledger.pot(account).posted
        must(5, posted == amount, "by its transfers", account, "has", amount, "and not", posted)


def answers(platform: Platform) -> None:
    """What was told is what is stored, and what was refused has left no trace."""
    witness = platform.witness
    for (command_id, fingerprint), reply in witness.told.items():
        stored = witness.database.remembered(command_id)
        must(3, stored is not None and stored[0] == fingerprint, "an answer is lost:", reply)
        if hasattr(reply, "code"):
            must(3, command_id not in witness.ledger.sent, "refused and done:", command_id, reply)
            must(3, command_id not in witness.ledger.holds, "refused and held:", reply)


def past(platform: Platform) -> None:
    """A balance at a past time, from the transfers' rows and from a replay up to then."""
    database, witness = platform.database, platform.witness
    ats = [row.at for stream in platform.streams for row in database.rows.get(stream, [])]
    random = Random(platform.database.seed)
    times = sorted(random.sample(ats, min(_SAMPLES // 3, len(ats))))
    events: list[tuple[int, Any]] = []
    for stream in platform.streams:
        for row in database.rows.get(stream, []):
            turn = platform.codec.decode_turn(row.entries)
            events += [(row.at, event) for _, event in turn.events]
    for moment in times:
        replayed: dict[int, int] = {}
        bonuses: dict[int, int] = {}
        for at, event in events:
            if at > moment:
                continue
            for posting in witness.machine.postings(event):
                if posting.account.isdecimal():
                    account = int(posting.account)
                    replayed[account] = replayed.get(account, 0) + posting.amount
            if isinstance(event, ev.BonusCredited):
                bonuses[event.account] = bonuses.get(event.account, 0) + event.amount
        listed = bonuses
        for transfer, (_, receipt) in database.transfers.items():
            ended = witness.credits.get(transfer, moment + 1) <= moment
            if witness.debits[transfer] <= moment and not (
                ended and receipt.status == TransferStatus.RETURNED
            ):
                total = receipt.amount + receipt.fee
                listed[receipt.source] = listed.get(receipt.source, 0) - total
            if ended and receipt.status == TransferStatus.COMPLETED:
                to = receipt.destination
                listed[to] = listed.get(to, 0) + receipt.credited
        for account in {**listed, **replayed}:
            have = (listed.get(account, 0), replayed.get(account, 0))
            must(9, have[0] == have[1], "at", moment, account, "had, by rows and replay,", have)


def tampering(platform: Platform) -> None:
    """Any change to a row is found, and the row is named."""
    random = Random(platform.database.seed)
    for stream in platform.streams:
        rows = platform.database.rows.get(stream, [])
        for index in random.sample(range(len(rows)), min(_SAMPLES, len(rows))):
            row = rows[index]
            try:
                check_link(spoil(random, row), row.seq, row.previous_hash)
            except Corrupt as error:
                must(10, f"{stream} {row.seq}" in str(error), "another row is named:", error)
            else:
                raise Violation(10, f"a change to {stream} {row.seq} is not found")

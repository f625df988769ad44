"""The platform broken on purpose, and how soon the simulator finds out.

``python -m tests.simulation.mutations`` tries all of them and prints the table of
``tests/README.md``. Some mutations need two changes, because one guards against the other.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from actors.durable import scribe
from actors.durable.moving import Mover
from actors.durable.partition import Partition
from actors.durable.post import Post
from actors.durable.scribe import Scribe
from actors.durable.turn import Workspace
from cluster.simulation import store as store_module
from cluster.simulation.database import SimulatedJournal
from cluster.simulation.plan import make
from cluster.simulation.run import Outcome, run
from cluster.simulation.store import MemoryProjection, Store
from domain.accounts import brokerage as brokerage_module
from domain.accounts import settling as settling_module
from domain.accounts import state as state_module
from domain.accounts.holds import HoldDecisions
from domain.accounts.machine import AccountsMachine
from domain.accounts.placing import Draft
from domain.accounts.state import Account
from domain.trading import machine as machine_module
from domain.trading.machine import BooksMachine
from tests.actors.durable.test_mutations import MUTATIONS as RUNTIME
from tests.mutation import Mutation

OPS = 400
SEEDS = 40
"""Each mutation is found within so many seeds of ``OPS`` operations."""
_TABLE = Path(__file__).parents[1] / "README.md"


class Mutant(NamedTuple):
    """One way to be wrong."""

    title: str
    changes: tuple[Mutation, ...]
    only: tuple[str, ...] = ()
    """The faults that bring it to light, where all kinds together would take many seeds."""
    first: int = 0
    """The seed to begin with, where what brings it to light is rare."""
    trading: bool = False
    """Whether it takes customers who trade."""


def mutant(
    title: str,
    *changes: tuple[object, str, str, str],
    only: tuple[str, ...] = (),
    first: int = 0,
    trading: bool = False,
) -> Mutant:
    """A mutant of changes, each an owner, a name in it, what is replaced, and by what."""
    return Mutant(
        title, tuple(Mutation(title, *change) for change in changes), only, first, trading
    )


OTHERS = [
    mutant(
        "a refund can be repeated",
        (
            Workspace,
            "_confirmed",
            "sent = self._arrived(item.seq)",
            "sent = self.partition.outbox.get(item.seq)",
        ),
    ),
    mutant(
        "funds on hold are not counted against what is available",
        (Account, "available", "return self.posted - self.held", "return self.posted"),
    ),
    mutant(
        "a hold that was refused is there all the same",
        (HoldDecisions, "_reserve", "if account.available < command.amount:", "if False:"),
    ),
    mutant(
        "a hold that has expired can be posted",
        (
            HoldDecisions,
            "_post_hold",
            "if hold is None or hold.expires_at <= now:",
            "if hold is None:",
        ),
    ),
    mutant(
        "two commits of one hold both succeed",
        (state_module, "_reduce_hold", "hold.amount -= released", "pass"),
    ),
    mutant(
        "a hold cannot be posted in full",
        (
            HoldDecisions,
            "_post_hold",
            "if command.amount + fee > hold.amount:",
            "if command.amount + fee >= hold.amount:",
        ),
    ),
    mutant(
        "a conversion moves balances and leaves no transaction",
        (
            MemoryProjection,
            "statements",
            "if isinstance(event, ev.TransferSent):",
            "if isinstance(event, ev.TransferSent) and event.rate is None:",
        ),
    ),
    mutant(
        "a conversion credits nobody",
        (
            AccountsMachine,
            "send",
            "return Decision([sent, received],",
            "return Decision([sent] if sent.rate else [sent, received],",
        ),
    ),
    mutant(
        "what was acknowledged is lost when the database restarts",
        (
            SimulatedJournal,
            "_commit",
            "    write()\n    if faults.answer_lost",
            "    if random.random() < 0.98:\n        write()\n    if faults.answer_lost",
        ),
    ),
    mutant(
        "no idempotency at all",
        (
            Workspace,
            "_request",
            "if request.identities and self._repeated(turn, request, known):",
            "if False:",
        ),
    ),
    mutant(
        "an id is forgotten when the memory is",
        (
            Partition,
            "_load",
            "return await self._projection.known(self.journal.asking, unknown)",
            "return {}",
        ),
    ),
]
"""What went wrong elsewhere."""

MOVES = [
    mutant(
        "the inbox does not travel with its slots",
        (
            Workspace,
            "release",
            "{origin: dict(inbox) for origin, inbox in partition.inbox.items() if inbox}",
            "{}",
        ),
        first=40,
    ),
    mutant(
        "the lows do not travel with their slots",
        (Workspace, "release", "dict(partition.lows)", "{}"),
        only=("move", "storm", "overtake"),
    ),
    mutant(
        "the receiver forgets what it has seen when slots come",
        (Workspace, "_adopt", "inbox.setdefault(seq, outcome)", "inbox.clear()"),
        first=40,
    ),
    mutant(
        "slots are released with messages on their way",
        (Mover, "ready", "and not work.on_their_way(self.leaving)", ""),
    ),
    mutant(
        "a handover is adopted twice",
        (Mover, "take", "if arrival.seq > self._taken.get(arrival.origin, 0):", "if True:"),
    ),
    mutant(
        "a handover stays after it was adopted",
        (scribe, "arrivals", "if adopted:", "if False:"),
    ),
    mutant(
        "parked commands are answered before the release is durable",
        (
            Partition,
            "_let_go",
            "await self.journal.release(row, release)",
            "self._tell(turn); turn.answers.clear(); await self.journal.release(row, release)",
        ),
        only=("move", "fail", "slow"),
    ),
    mutant(
        "snapshots are not written at a release",
        (Partition, "_depart", "changed = work.dirty()", "changed = []"),
    ),
    mutant(
        "entities that have left stay in memory",
        (Workspace, "_release", "del self.entities[key]", "pass"),
    ),
    mutant(
        "what is queued for slots that have left is decided",
        (
            Workspace,
            "_request",
            "if not self.slots[request.slot] or request.slot in request.batch.gone:",
            "if False:",
        ),
    ),
    mutant(
        "messages for slots that have left are taken",
        (
            Workspace,
            "_incoming",
            "if not self.slots[slot] or slot in item.batch.gone:",
            "if False:",
        ),
        (
            Workspace,
            "keys",
            "return (key,) if key in self.entities or self.owns(key) else ()",
            "return (key,)",
        ),
    ),
    mutant(
        "commands for leaving slots are not parked",
        (Partition, "_fill", "if self._mover.leaving:", "if False:"),
        (Mover, "ready", "and not work.on_their_way(self.leaving)", ""),
    ),
    mutant(
        "messages overtake those to where the entity was",
        (
            Workspace,
            "_enact",
            "if here and message.to not in self._away:",
            "if here:",
        ),
        only=("move", "storm", "cut"),
        first=20,
    ),
    mutant(
        "what waits behind a message that has moved goes ahead",
        (
            Post,
            "_look_for",
            "waiting += self._behind.pop(_pair(message), ())",
            "waiting[:0] = self._behind.pop(_pair(message), ())",
        ),
        only=("move", "cut", "slow"),
    ),
    mutant(
        "messages between the same two are under way in two shipments",
        (Post, "_load", "behind.setdefault(_pair(message), [])", "pass"),
        only=("cut", "slow"),
    ),
    mutant(
        "totals do not travel with their slots",
        (Workspace, "_adopt", "self._carry(totals, 1)", "pass"),
    ),
    mutant(
        "a pinned customer is forgotten by whoever has its hash slot",
        (Workspace, "release", "if slot in going or slot_of(key) in going", "if slot in going"),
        only=("move", "pin", "unpin", "storm"),
    ),
    mutant(
        "what waits for a key stays behind when the key gets a slot to itself",
        (Partition, "_take_in", "self._intake.look_again(self._work)", "pass"),
        only=("pin", "unpin", "pause"),
        first=60,
    ),
    mutant(
        "the slot map is never read again",
        (Post, "_read_map", "await self._router.load()", "pass"),
    ),
]
"""Moves of slots."""

OURS = [
    mutant(
        "the epoch is not compared at a commit",
        (Store, "write", "if self.epochs[row.stream] != row.epoch:", "if False:"),
    ),
    mutant(
        "the epoch is not compared at a checkpoint",
        (SimulatedJournal, "save", "if store.epochs[self.stream] != epoch:", "if False:"),
    ),
    mutant(
        "timers are not set",
        (Scribe, "statements", "if turn.timers:", "if False:"),
    ),
    mutant(
        "timers fire too early",
        (HoldDecisions, "_expire_holds", "if hold.expires_at <= now", "if True"),
    ),
    mutant(
        "holds that were voided expire once more",
        (state_module, "_reduce_hold", "del state.holds[hold_id]", "hold.amount = 0"),
    ),
    mutant(
        "the hash of a row is not checked",
        (
            store_module,
            "check_link",
            "row.epoch, row.at, row.entries) != row.hash",
            "row.epoch, row.at, row.entries) == b''",
        ),
    ),
    mutant(
        "a missing row is not named",
        (
            store_module,
            "check_link",
            "if row.seq != seq:",
            "if False:",
        ),
    ),
    mutant(
        "unbalanced books are written",
        (Partition, "_turns", "self._work.balance(turn)", "pass"),
        (state_module, "_house_sent", "if event.fee:", "if False:"),
    ),
]
"""The rest."""


TRADING = [
    mutant(title, *changes, trading=True)
    for title, *changes in [
        (
            "a wake without a reply is never answered",
            (Workspace, "_request", "elif not request.identities:", "elif False:"),
        ),
        (
            "an order's funds are not counted against the next one's",
            (Draft, "_pay", "self.free_quote -= needed", "pass"),
        ),
        (
            "an order that waits for a cancel is sent without its funds",
            (Draft, "_pay", "covered = 0 < needed <= self.free_base", "covered = True"),
        ),
        (
            "what a better price has saved stays put aside",
            (brokerage_module, "_settle", "bought += change", "pass"),
        ),
        (
            "an order ends before its fills have come",
            (
                brokerage_module,
                "_settle",
                "if order.final_filled == filled:",
                "if order.final_filled >= 0:",
            ),
        ),
        (
            "an amended order keeps what was put aside for it",
            (brokerage_module, "_settle", "if 0 < quantity < order.quantity", "if False"),
        ),
        (
            "a trade is not forgotten when it is answered",
            (brokerage_module, "orders_worked", "if not event.waiting:", "if False:"),
        ),
        (
            "fees are not taken",
            (settling_module, "moved_by", "* terms.lot - fee_base,", "* terms.lot,"),
        ),
        (
            "the other side of a trade is told of the last fill only",
            (
                machine_module,
                "_applied",
                "setdefault(touched.customer, []).append(touched.update)",
                "__setitem__(touched.customer, [touched.update])",
            ),
        ),
        (
            "settlements are dropped",
            (machine_module, "_applied", "if effects.touched:", "if False:"),
        ),
        (
            "a book's expired orders do not go back to their customers",
            (
                BooksMachine,
                "_wake",
                "effects = state.expired(now)",
                "state.expired(now); return _ACCEPTED",
            ),
        ),
        (
            "a book is applied twice",
            (Workspace, "_enact", "if decision.applied:", "if False:"),
        ),
        (
            "a message to a book goes to one's own kind",
            (Workspace, "_enact", "message.body, message.kind)", "message.body)"),
        ),
    ]
]
"""Of accounts and books that trade, and of what they need of the runtime."""


_RARE: dict[str, tuple[tuple[str, ...], int]] = {
    "who sends what is long settled is told that it was accepted": (
        ("move", "storm", "overtake"),
        0,
    ),
    "a group that ended is not known before it is written": (
        ("crash", "slow", "slow", "replace"),
        335,
    ),
}
"""Of the runtime's own list, those that need something rare."""


def all_mutants() -> list[Mutant]:
    """What went wrong elsewhere, moves, the runtime's own list, and the rest."""
    names = {title for title, *_ in (*OTHERS, *MOVES, *OURS)}
    runtime = [
        Mutant(m.title, (m,), *_RARE.get(m.title, ((), 0))) for m in RUNTIME if m.title not in names
    ]
    return [*OTHERS, *MOVES, *runtime, *OURS, *TRADING]


def listed() -> dict[str, int]:
    """How many seeds each took when the table in ``tests/README.md`` was printed."""
    rows = re.findall(
        r"^\| (.+) \| \d+ \| (\d+) \| .+ \|$", _TABLE.read_text("utf-8"), re.MULTILINE
    )
    return {title: int(count) for title, count in rows}


def found(
    broken: Mutant, seeds: int = SEEDS, ops: int = OPS, hint: int = 1
) -> tuple[int, Outcome] | None:
    """How many seeds it takes until a promise is seen to be broken, and what the last one says.

    ``hint`` is the one to begin with, the others follow.
    """
    with pytest.MonkeyPatch.context() as patch:
        for change in broken.changes:
            change.apply(patch)
        for count in dict.fromkeys((hint, *range(1, seeds + 1))):
            plan = make(broken.first + count - 1, ops, broken.only, trading=broken.trading)
            outcome = run(plan)
            if not outcome.ok:
                return count, outcome
    return None


def tell(line: str) -> None:
    """Print a line of the table."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table; ``seeds ops`` may be given, and a part of a title."""
    arguments = sys.argv[1:]
    seeds = int(arguments[0]) if arguments else SEEDS
    ops = int(arguments[1]) if len(arguments) > 1 else OPS
    part = arguments[2] if len(arguments) > 2 else ""
    spent = 0.0
    for broken in all_mutants():
        if part not in broken.title:
            continue
        started = time.process_time()
        result = found(broken, seeds, ops)
        spent += time.process_time() - started
        among = ", ".join(dict.fromkeys(broken.only)) or "all"
        among += ", trading" * broken.trading
        if broken.first:
            among += f", from seed {broken.first}"
        if result is None:
            tell(f"| {broken.title} | not found | {seeds} | {among} |")
        else:
            count, outcome = result
            tell(f"| {broken.title} | {outcome.check} | {count} | {among} |")
            if part:
                tell(outcome.violation)
    tell(f"{spent:.1f} s of processor time")


if __name__ == "__main__":
    main()

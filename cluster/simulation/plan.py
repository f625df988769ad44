"""What is going to happen, written down before it does: made from a seed, cut smaller by shrinking.

A plan names everything by numbers that stay when other parts are taken out, so that what is left
still means the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec


class Op(msgspec.Struct, frozen=True, array_like=True):
    """One command. ``who`` and ``to`` count customers, ``account`` their accounts; ``of`` is the
    number of an earlier operation that this one refers to."""

    number: int
    kind: str
    who: int = 0
    account: int = 0
    to: int = 0
    to_account: int = 0
    amount: int = 0
    of: int = 0
    extra: int = 0


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Operations that one caller asks together, ``pause_s`` after its batch before."""

    lane: int
    pause_s: float
    ops: tuple[Op, ...]


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """Something goes wrong ``at`` seconds from the start, and stays so for ``seconds``."""

    at: float
    kind: str
    place: int = 0
    other: int = 0
    seconds: float = 0.0
    value: int = 0


class Setup(msgspec.Struct, frozen=True):
    """The platform: how many partitions, gateways, customers, and its bounds."""

    partitions: int
    gateways: int
    customers: int
    checkpoint_interval_s: float
    entities_max: int
    turn_items_max: int
    worth_items: int
    shipment_max: int
    move_max: int
    leave_timeout_s: float
    unsettled_max: int
    recent_max: int
    fails: float
    resets: float
    repeats: float
    books: int = 0
    """Partitions of order books; where there are some, customers trade and pay nobody."""


class Plan(msgspec.Struct, frozen=True):
    """A whole run."""

    seed: int
    setup: Setup
    batches: tuple[Batch, ...]
    faults: tuple[Fault, ...]

    @property
    def ops(self) -> int:
        """How many operations there are."""
        return sum(len(batch.ops) for batch in self.batches)


_KINDS: Final = {
    "transfer": 40,
    "convert": 7,
    "own": 5,
    "nowhere": 4,
    "linked": 8,
    "reserve": 9,
    "post": 6,
    "void": 3,
    "status": 4,
    "account": 1,
    "limit": 1,
    "customer": 0.5,
    "read": 6,
    "again": 7,
    "other": 2.5,
    "part": 2,
    "leg": 2,
}
"""What is asked, and how often, of a hundred."""

_TRADING: Final = {
    "limit": 36,
    "market": 8,
    "maker": 5,
    "stop": 5,
    "batch": 6,
    "cancel": 12,
    "amend": 4,
    "replace": 7,
    "all": 1.5,
    "switch": 1,
    "fund": 1,
    "withdraw": 2,
    "view": 5,
    "book": 1,
    "again": 5,
    "other": 1.5,
    "halt": 0.4,
    "resume": 1.5,
    "auction": 0.6,
}
"""The same where customers trade."""

_FAULTS: Final = {
    "crash": 14,
    "replace": 8,
    "pause": 8,
    "overtake": 8,
    "stop": 6,
    "fail": 8,
    "forgetful": 8,
    "slow": 6,
    "away": 5,
    "restart": 3,
    "cut": 8,
    "storm": 6,
    "clock": 6,
    "corrupt": 10,
    "move": 14,
    "scale": 5,
    "pin": 4,
    "unpin": 3,
}
"""What goes wrong, and how often."""

_LANES: Final = 6
_SECONDS_OF_2000: Final = 9.0


def make(seed: int, ops: int, only: Sequence[str] = (), *, trading: bool = False) -> Plan:
    """The plan of a seed with ``ops`` operations; of all faults, or of some ``only``.

    Customers pay each other, or are ``trading``.
    """
    random = Random(f"plan {seed} {ops}")
    pick = random.choice
    setup = Setup(
        partitions=pick([1, 2, 2, 3, 3, 4]),
        gateways=pick([1, 2, 3]),
        customers=pick([4, 8, 12, 12, 24, 40]),
        checkpoint_interval_s=pick([0.05, 0.3, 1.0, 5.0]),
        entities_max=pick([3, 6, 1_000]),
        turn_items_max=pick([5, 60, 10_000, 10_000]),
        worth_items=pick([1, 16, 128]),
        shipment_max=pick([1, 5, 2_000, 2_000]),
        move_max=pick([2, 16, 128]),
        leave_timeout_s=pick([0.05, 1.0, 1.0]),
        unsettled_max=pick([50, 250_000, 250_000]),
        recent_max=pick([5_000, 50_000]),
        fails=pick([0.0, 0.005, 0.01]),
        resets=pick([0.0, 0.01, 0.03]),
        repeats=pick([0.0, 0.05, 0.2]),
        books=pick([1, 1, 2, 3]) if trading else 0,
    )
    return Plan(seed, setup, _batches(random, setup, ops), _faults(random, ops, only))


def _batches(random: Random, setup: Setup, count: int) -> tuple[Batch, ...]:
    asked = _TRADING if setup.books else _KINDS
    kinds, weights = list(asked), list(asked.values())
    chosen = random.choices(kinds, weights, k=count)
    customers = setup.customers
    span = _SECONDS_OF_2000 * count / 2_000
    batches: list[Batch] = []
    made: list[Op] = []
    holds: list[Op] = []
    number = 0
    while number < count:
        size = min(count - number, random.choice([1, 2, 4, 8, 12, 16, 24, 40]))
        ops = []
        for _ in range(size):
            judge = _trading_op if setup.books else _op
            op = judge(random, customers, number, chosen[number], made, holds)
            ops.append(op)
            made.append(op)
            if op.kind == "reserve":
                holds.append(op)
            number += 1
        batches.append(Batch(random.randrange(_LANES), 0.0, tuple(ops)))
    pause = span * _LANES / len(batches)
    return tuple(
        Batch(batch.lane, round(random.expovariate(1 / pause), 4), batch.ops) for batch in batches
    )


def _op(
    random: Random, customers: int, number: int, kind: str, made: list[Op], holds: list[Op]
) -> Op:
    who, to = int(customers * random.random() ** 1.5), int(customers * random.random() ** 1.5)
    account = random.choice((0, 0, 0, 0, 1, 2))
    amount = random.randint(1, 4_000)
    extra = random.getrandbits(24)
    if kind in {"post", "void"}:
        # Mostly a hold of late, so that several go for the same one.
        hold = holds[max(0, len(holds) - 1 - int(random.expovariate(0.2)))] if holds else None
        if hold is None:
            return Op(number, "read", who)
        # Often all of it, be it with a fee or without.
        all_of_it = max(1, hold.amount - (0 if hold.account == 1 else 10))
        amount = all_of_it if extra % 3 == 0 else random.randint(1, hold.amount + 20)
        return Op(number, kind, hold.who, hold.account, to, 0, amount, hold.number, extra)
    if kind in {"again", "other", "part", "leg"}:
        of = _earlier(random, kind, made)
        if of is None:
            return Op(number, "read", who)
        return Op(number, kind, of.who, 0, to, 0, amount, of.number, extra)
    return Op(number, kind, who, account, to, random.choice((0, 0, 0, 2)), amount, 0, extra)


def _trading_op(
    random: Random, customers: int, number: int, kind: str, made: list[Op], orders: list[Op]
) -> Op:
    who, symbol = int(customers * random.random() ** 1.5), random.choice((0, 0, 0, 1, 2))
    amount, extra, of = random.randint(1, 4_000), random.getrandbits(24), 0
    if kind in {"cancel", "amend", "replace"}:
        # Mostly an order of late: it may still be on its way, or be traded at this moment.
        if not orders:
            return Op(number, "view", who)
        order = orders[max(0, len(orders) - 1 - int(random.expovariate(0.1)))]
        who, of = order.who, order.number
    elif kind in {"again", "other"}:
        if not made:
            return Op(number, "view", who)
        earlier = made[max(0, len(made) - 1 - int(random.expovariate(0.05)))]
        who, of = earlier.who, earlier.number
    op = Op(number, kind, who, symbol, 0, 0, amount, of, extra)
    if kind in {"limit", "market", "maker", "stop", "batch", "replace"}:
        orders.append(op)
    return op


def _earlier(random: Random, kind: str, made: list[Op]) -> Op | None:
    """What an operation repeats or takes the id of: mostly of late, and often a linked group."""
    late = random.random() < 0.2
    back = random.randrange(len(made)) if late and made else int(random.expovariate(0.05))
    among = made[: len(made) - back] if back < len(made) else []
    among_kinds: dict[str, tuple[str, ...]] = {"part": ("transfer",), "leg": ("linked",)}
    wanted = among_kinds.get(kind)
    if wanted is None and random.random() < 0.3:
        wanted = ("linked", "nowhere", "transfer")
    found = (op for op in reversed(among[-60:]) if wanted is None or op.kind in wanted)
    return next(found, None)


def _faults(random: Random, ops: int, only: Sequence[str]) -> tuple[Fault, ...]:
    kinds = list(only or _FAULTS)
    weights = [_FAULTS[kind] for kind in kinds]
    span = _SECONDS_OF_2000 * ops / 2_000
    faults: list[Fault] = []
    at = 0.2
    # Some seeds have little trouble and some one after another.
    every = random.choice([0.15, 0.25, 0.5])
    while at < span:
        at += random.expovariate(1 / every)
        (kind,) = random.choices(kinds, weights)
        faults.append(
            Fault(
                round(at, 4),
                kind,
                random.randrange(1_000),
                random.randrange(1_000),
                round(random.choice([0.05, 0.3, 1.0, 3.0]) * (0.5 + random.random()), 4),
                random.getrandbits(30),
            )
        )
    return tuple(faults)

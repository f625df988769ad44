"""A failing plan made smaller: parts are taken out as long as the same promise is still broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from cluster.simulation.plan import Batch, Op, Plan
from cluster.simulation.run import Outcome, run

Part = TypeVar("Part")
Build = Callable[[Sequence[Any]], Plan]


class Shrinker:
    """Tries smaller plans for some seconds of processor time; ``plan`` and ``outcome`` are the
    smallest so far."""

    def __init__(self, plan: Plan, outcome: Outcome, seconds: float) -> None:
        self.plan = plan
        self.outcome = outcome
        self.runs = 0
        self._until = time.process_time() + seconds

    def shrink(self) -> None:
        """Fewer faults, fewer batches, single operations, a simpler platform."""
        smaller = True
        while smaller and not self._over():
            size = self._size()
            self._reduce(self.plan.faults, self._with_faults)
            self._reduce(self.plan.batches, self._with_batches)
            self._reduce(self._ops(), self._with_ops)
            self._simplify()
            smaller = self._size() < size

    def _size(self) -> int:
        return self.plan.ops + len(self.plan.faults) + len(self.plan.batches)

    def _over(self) -> bool:
        return time.process_time() >= self._until

    def _try(self, plan: Plan) -> bool:
        """Whether a plan still breaks the same promise; then it is the new one."""
        self.runs += 1
        outcome = run(plan)
        if outcome.check != self.outcome.check:
            return False
        self.plan, self.outcome = plan, outcome
        return True

    def _reduce(self, parts: Sequence[Part], build: Callable[[Sequence[Part]], Plan]) -> None:
        """Take out halves, quarters and so on."""
        size = len(parts)
        while size and not self._over():
            start = 0
            while start < len(parts) and not self._over():
                rest = [*parts[:start], *parts[start + size :]]
                if self._try(build(rest)):
                    parts = rest
                else:
                    start += size
            size //= 2

    def _with_faults(self, faults: Sequence[Any]) -> Plan:
        return msgspec.structs.replace(self.plan, faults=tuple(faults))

    def _with_batches(self, batches: Sequence[Any]) -> Plan:
        return msgspec.structs.replace(self.plan, batches=tuple(batches))

    def _ops(self) -> list[tuple[int, Op]]:
        return [(i, op) for i, batch in enumerate(self.plan.batches) for op in batch.ops]

    def _with_ops(self, ops: Sequence[tuple[int, Op]]) -> Plan:
        kept: dict[int, list[Op]] = {}
        for index, op in ops:
            kept.setdefault(index, []).append(op)
        batches = [
            Batch(batch.lane, batch.pause_s, tuple(kept.get(index, ())))
            for index, batch in enumerate(self.plan.batches)
        ]
        return self._with_batches(batches)

    def _simplify(self) -> None:
        """Take the usual small troubles away, and make what there is no need for large or few."""
        for name, value in (
            ("fails", 0.0),
            ("resets", 0.0),
            ("repeats", 0.0),
            ("partitions", 1),
            ("partitions", 2),
            ("gateways", 1),
            ("turn_items_max", 10_000),
            ("entities_max", 1_000),
            ("shipment_max", 2_000),
            ("unsettled_max", 250_000),
        ):
            setup = self.plan.setup
            if getattr(setup, name) != value and not self._over():
                changed = msgspec.structs.replace(setup, **{name: value})
                self._try(msgspec.structs.replace(self.plan, setup=changed))


def shrink(plan: Plan, outcome: Outcome, *, seconds: float) -> Shrinker:
    """A smaller plan that breaks the same promise, found within ``seconds`` of processor time."""
    shrinker = Shrinker(plan, outcome, seconds)
    shrinker.shrink()
    return shrinker


def described(plan: Plan) -> list[str]:
    """A plan in lines: the platform, then faults by time, then what each caller asks."""
    lines = [f"platform {msgspec.to_builtins(plan.setup)}"]
    lines += [
        f"at {fault.at:8.4f} {fault.kind} place={fault.place} other={fault.other}"
        f" seconds={fault.seconds} value={fault.value}"
        for fault in sorted(plan.faults, key=lambda fault: fault.at)
    ]
    for batch in plan.batches:
        if batch.ops:
            asked = ", ".join(_described(op) for op in batch.ops)
            lines.append(f"caller {batch.lane} after {batch.pause_s:.4f} s: {asked}")
    return lines


def _described(op: Op) -> str:
    fields = ("who", "account", "to", "to_account", "amount", "of", "extra")
    given = " ".join(f"{name}={value}" for name in fields if (value := getattr(op, name)))
    return f"#{op.number} {op.kind} {given}".rstrip()

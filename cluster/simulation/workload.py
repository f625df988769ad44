"""Callers: they turn a plan's operations into commands, ask in batches, and keep what is open."""

from __future__ import annotations

import asyncio
from typing import Any

from cluster.simulation.plan import Batch, Op, Plan
from cluster.simulation.platform import Gateway, Platform
from cluster.simulation.witness import Since
from domain.accounts import commands as cmd
from domain.accounts.commands import AccountStatus, Rate
from domain.accounts.numbers import account_number
from domain.durable import Unavailable
from domain.money import RATE_SCALE

CURRENCIES = ("USD", "CNY", "EUR")
BONUS = 20_000
_FIRST_CUSTOMER = 1_000_000_001
PATIENCE_S = 6.0
_STATUSES = (AccountStatus.OPEN,) * 6 + (AccountStatus.FROZEN,) * 3 + (AccountStatus.CLOSED,) * 2


def identity(number: int, part: int = 0) -> bytes:
    """The id of an operation, or of one of its parts."""
    return (number * 256 + part + 1).to_bytes(16, "big")


class Callers:
    """Everybody who asks. ``unresolved`` are commands whose outcome is unknown so far."""

    def __init__(self, platform: Platform, plan: Plan) -> None:
        self.platform = platform
        self.plan = plan
        self.unresolved: list[tuple[Any, Since]] = []
        self.answered = 0
        self._ops = {op.number: op for batch in plan.batches for op in batch.ops}
        self._commands: dict[int, Any] = {}

    # -- commands -------------------------------------------------------------------------

    def customer(self, index: int) -> int:
        """The number of a customer."""
        return _FIRST_CUSTOMER + index

    def command(self, op: Op) -> Any:
        """What an operation asks; ``None`` if it refers to what the plan does not have."""
        made = self._commands.get(op.number)
        if made is None:
            made = self._commands[op.number] = self._make(op)
        return made

    def _make(self, op: Op) -> Any:
        customer, other = self.customer(op.who), self.customer(op.to)
        own = identity(op.number)
        source = account_number(customer, op.account)
        match op.kind:
            case "read":
                return cmd.ReadCustomer(customer)
            case "reserve":
                expiry = self.platform.clock() + 200_000 * (1 + op.extra % 80)
                return cmd.ReserveHold(own, b"first", source, op.amount, expiry, "order")
            case "status":
                status = _STATUSES[op.extra % len(_STATUSES)]
                return cmd.SetAccountStatus(own, b"first", source, status)
            case "account":
                currency = CURRENCIES[op.extra % 3]
                return cmd.OpenAccount(own, b"first", customer, currency, "More")
            case "limit":
                return cmd.SetDailyLimit(own, b"first", customer, "USD", 20 * op.amount)
            case "customer":
                new = customer + self.plan.setup.customers
                return self.opening(own, new if op.extra % 2 else customer)
            case "linked":
                return cmd.LinkedTransfers(own, b"first", self._legs(op, customer))
            case "again" | "other" | "part" | "leg" | "post" | "void":
                return self._later(op, own)
            case _:
                return self._transfer(op, own, b"first", customer, other)

    def opening(self, own: bytes, customer: int) -> cmd.OpenCustomer:
        """Open a customer's accounts with a bonus."""
        return cmd.OpenCustomer(own, b"first", customer, CURRENCIES, "USD", BONUS)

    def _transfer(
        self, op: Op, own: bytes, fingerprint: bytes, customer: int, other: int
    ) -> cmd.Transfer:
        source, destination = op.account, op.account
        if op.kind == "nowhere":
            destination = 9
        elif op.kind in {"convert", "own"}:
            destination = (op.account + 1 + op.extra % 2) % 3
            other = customer if op.kind == "own" else other
        rate = None
        if destination != source and op.extra % 50:
            value = RATE_SCALE // 2 + op.extra * 97 % (2 * RATE_SCALE)
            rate = Rate(value, self.platform.clock() + 1_000_000 * (op.extra % 60))
        return cmd.Transfer(
            own,
            fingerprint,
            account_number(customer, source),
            account_number(other, destination),
            op.amount,
            CURRENCIES[destination] if destination < 3 else CURRENCIES[source],
            "",
            rate,
        )

    def _legs(self, op: Op, customer: int) -> tuple[cmd.Transfer, ...]:
        legs = []
        for index in range(1 + op.extra % 4):
            bits = op.extra >> (2 + 5 * index)
            other = self.customer((op.to + bits) % self.plan.setup.customers)
            leg = Op(
                op.number,
                ("transfer", "transfer", "transfer", "own", "nowhere")[bits % 5],
                op.who,
                op.account,
                amount=1 + op.amount // (2 + index),
                extra=bits,
            )
            legs.append(
                self._transfer(leg, identity(op.number, 1 + index), b"first", customer, other)
            )
        return tuple(legs)

    def _later(self, op: Op, own: bytes) -> Any:
        """An operation that refers to another one."""
        earlier = self._ops.get(op.of)
        if earlier is None:
            return None
        if op.kind == "again":
            return self.command(earlier)
        target = self.command(earlier)
        if target is None:
            return None
        if op.kind == "post":
            index = 0 if op.extra % 8 else 1
            to = account_number(self.customer(op.to), earlier.account if index == 0 else 1)
            currency = CURRENCIES[earlier.account if index == 0 else 1]
            return cmd.PostHold(
                own,
                b"first",
                self.customer(op.who),
                identity(op.of),
                op.amount,
                to,
                currency,
                "",
                release=bool(op.extra % 3),
            )
        if op.kind == "void":
            return cmd.VoidHold(own, b"first", self.customer(op.who), identity(op.of))
        if not getattr(target, "id", None):
            return None
        customer = int(self.platform.witness.machine.key(target))
        other = self.customer(op.to)
        stray = Op(op.number, "transfer", amount=op.amount)
        if op.kind == "leg":
            legs = getattr(target, "transfers", ())
            taken = legs[op.extra % len(legs)].id if legs else target.id
            return self._transfer(stray, taken, b"other" + own, customer, other)
        if op.kind == "other":
            return self._transfer(stray, target.id, b"other" + own, customer, other)
        leg = self._transfer(stray, target.id, b"leg" + own, customer, other)
        return cmd.LinkedTransfers(own, b"first", (leg,))

    # -- asking ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Before anything goes wrong: the customers, each with a bonus."""
        for gateway in self.platform.gateways:
            await gateway.open()
        customers = range(self.plan.setup.customers)
        commands = [self.opening(identity(1 << 40 | i), self.customer(i)) for i in customers]
        await self._ask(self.platform.gateways[0], commands)

    async def lane(self, index: int) -> None:
        """One caller: batch after batch."""
        gateway = self.platform.gateways[index % len(self.platform.gateways)]
        for batch in self.plan.batches:
            if batch.lane == index:
                await asyncio.sleep(batch.pause_s)
                await self._ask(gateway, self._made(batch))

    def _made(self, batch: Batch) -> list[Any]:
        commands = [self.command(op) for op in batch.ops]
        return [command for command in commands if command is not None]

    async def _ask(self, gateway: Gateway, commands: list[Any]) -> None:
        since = [self.platform.witness.ask(command) for command in commands]
        replies = await gateway.call_many(commands, timeout_s=PATIENCE_S)
        self._answered(commands, replies, since)

    def _answered(self, commands: list[Any], replies: list[Any], since: list[Since]) -> None:
        for command, reply, asked_at in zip(commands, replies, since, strict=True):
            if isinstance(reply, Unavailable):
                self.unresolved.append((command, asked_at))
            else:
                self.answered += 1
                self._home(command).witness.tell(command, reply, asked_at)

    async def resolve(self) -> None:
        """Ask again what has no answer, until it has."""
        while self.unresolved:
            open_now, self.unresolved = self.unresolved, []
            for home in self.platform.together.values():
                asked = [each for each in open_now if self._home(each[0]) is home]
                commands = [command for command, _ in asked]
                replies = await home.gateways[0].call_many(commands, timeout_s=PATIENCE_S)
                self._answered(commands, replies, [since for _, since in asked])

    def _home(self, command: Any) -> Platform:
        """Who is asked."""
        return self.platform

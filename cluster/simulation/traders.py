"""Callers who trade: a plan's operations as orders, cancels, funds, and what operators do."""

from __future__ import annotations

from typing import Any

from cluster.simulation.plan import Op, Plan
from cluster.simulation.platform import Gateway, Platform
from cluster.simulation.workload import PATIENCE_S, Callers, identity
from domain.accounts import trading as tr
from domain.accounts.numbers import account_number
from domain.orders import OrderType, SelfTrade, Side, TimeInForce
from domain.trading import commands as books
from domain.trading.rules import About, InstrumentType, Rules

BASES = ("BTC", "ETH", "KTRA")
MAKER, TAKER = 1_000, 2_000
_ISSUED = 50 * 10**8
_FUNDED = 5_000
_STOPS = (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
_FORCES = (TimeInForce.GTC,) * 5 + (TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTD)
_SET_UP = 1 << 40
_LAST = 1 << 41


def rules(base: str) -> Rules:
    """A tick is a cent, a lot 0.0001 of the base."""
    return Rules(base, "USD", 10**6, 10**4, 1, 10**6, 10**6)


class Traders(Callers):
    """Everybody who asks accounts, and the operators of the books at their ``desk``."""

    def __init__(self, platform: Platform, desk: Platform, plan: Plan) -> None:
        super().__init__(platform, plan)
        self.desk = desk
        self.symbols = [f"{base}USD" for base in BASES[: 1 + plan.seed % 3]]

    # -- commands -------------------------------------------------------------------------

    def _symbol(self, op: Op) -> str:
        return self.symbols[op.account % len(self.symbols)]

    def _make(self, op: Op) -> Any:
        customer, own, symbol = self.customer(op.who), identity(op.number), self._symbol(op)
        match op.kind:
            case "view":
                return tr.ReadBrokerage(customer)
            case "fund":
                return tr.FundBrokerage(own, b"first", account_number(customer, 0), op.amount)
            case "withdraw":
                return tr.WithdrawBrokerage(own, b"first", account_number(customer, 0), op.amount)
            case "switch":
                at = self.platform.clock() + 300_000 * (op.extra % 20) if op.extra % 6 else 0
                where = symbol if op.extra % 2 else ""
                return tr.CancelAfter(own, b"first", customer, where, at)
            case "halt":
                return books.Halt(own, b"first", symbol, "to see")
            case "resume":
                return books.Resume(own, b"first", symbol)
            case "auction":
                until = self.desk.clock() + 100_000 * (1 + op.extra % 20)
                return books.StartAuction(own, b"first", symbol, until)
            case "book":
                return books.ReadOrders(symbol)
            case _:
                return self._later(op, own)

    def _later(self, op: Op, own: bytes) -> Any:
        earlier = self._ops.get(op.of)
        symbol, client = self._symbol(op), f"c{op.of}"
        actions: tuple[tr.TradeAction, ...]
        if op.kind in {"again", "other"}:
            if earlier is None:
                return None
            first = self.command(earlier)
            if op.kind == "again" or type(first) is not tr.Trade:
                return first
            fingerprint, actions = b"other" + own, (tr.CancelAll(),)
            return self._trade(first.id, op.who, first.symbol, actions, fingerprint)
        if op.kind in {"cancel", "amend", "replace"}:
            if earlier is None:
                return None
            symbol = self._symbol(earlier)
        if op.kind == "cancel":
            actions = (tr.CancelOrder(client=client),)
        elif op.kind == "amend":
            actions = (tr.AmendOrder(client=client, quantity=1 + op.amount // 3),)
        elif op.kind == "replace":
            actions = (
                tr.CancelOrder(client=client),
                self._order(op, f"c{op.number}", after=bool(op.extra % 4)),
            )
        elif op.kind == "all":
            actions = (tr.CancelAll(),)
        elif op.kind == "batch":
            count = 2 + op.extra % 4
            actions = tuple(
                self._order(
                    Op(op.number, "limit", amount=1 + op.amount * (i + 1) % 4_000, extra=bits),
                    f"c{op.number}.{i}" if i else f"c{op.number}",
                    part=identity(op.number, 1 + i) if bits % 2 else b"",
                    after=bool(i and bits % 5 == 0),
                )
                for i, bits in enumerate(op.extra >> i for i in range(count))
            )
        else:
            actions = (self._order(op, f"c{op.number}"),)
        return self._trade(own, op.who, symbol, actions)

    def _trade(
        self,
        own: bytes,
        who: int,
        symbol: str,
        actions: tuple[tr.TradeAction, ...],
        fingerprint: bytes = b"first",
    ) -> tr.Trade:
        found = rules(symbol.removesuffix("USD"))
        terms = tr.Terms(found.base, "USD", found.lot, found.unit, MAKER, TAKER)
        return tr.Trade(own, fingerprint, self.customer(who), symbol, terms, actions)

    def _order(
        self, op: Op, client: str, *, part: bytes = b"", after: bool = False
    ) -> tr.PlaceOrder:
        bits = op.extra
        side = Side.BUY if bits & 1 else Side.SELL
        price = 90 + (bits >> 1) % 21
        # Two of the large ones are more than anybody has.
        quantity = op.amount * (240 if bits % 9 == 0 else 1)
        force, kind, trigger, budget = _FORCES[(bits >> 6) % 8], OrderType.LIMIT, 0, 0
        if op.kind == "market":
            kind, force = OrderType.MARKET, TimeInForce.IOC
            price = price if bits % 3 == 0 else 0
            if side is Side.BUY and bits % 4:
                budget, quantity = quantity * 100, (quantity if bits % 5 == 0 else 0)
        elif op.kind == "maker":
            kind, force = OrderType.LIMIT_MAKER, TimeInForce.GTC
        elif op.kind == "stop":
            kind, force, trigger = _STOPS[(bits >> 9) % 3], TimeInForce.GTC, 90 + (bits >> 12) % 21
            price = 0 if kind is OrderType.STOP_LOSS else price
        expires_at = 0
        if force is TimeInForce.GTD:
            expires_at = self.desk.clock() + 200_000 * (1 + (bits >> 10) % 60)
        iceberg = force is TimeInForce.GTC and kind is OrderType.LIMIT and bits % 7 == 0
        return tr.PlaceOrder(
            client,
            side,
            kind,
            force,
            price,
            quantity,
            trigger,
            1 + quantity // 5 if iceberg else 0,
            SelfTrade((bits >> 15) % 5),
            expires_at,
            budget,
            part,
            after,
        )

    # -- asking ---------------------------------------------------------------------------

    def _home(self, command: Any) -> Platform:
        return self.desk if type(command).__module__ == books.__name__ else self.platform

    async def open(self) -> None:
        """Before anything goes wrong: customers with money and coins, and what they trade in."""
        for gateway in self.desk.gateways:
            await gateway.open()
        about = About(InstrumentType.CRYPTO, "Something to trade in")
        listings = [
            books.ListInstrument(
                identity(_SET_UP | 1 << 30 | index), b"first", symbol, rules(symbol[:-3]), about
            )
            for index, symbol in enumerate(self.symbols)
        ]
        await self._ask(self.platform.gateways[0], listings)
        await super().open()
        funds: list[Any] = []
        for index in range(self.plan.setup.customers):
            customer, place = self.customer(index), _SET_UP | 1 << 32 | index * 8
            account = account_number(customer, 0)
            funds.append(tr.FundBrokerage(identity(place), b"first", account, _FUNDED))
            for number, base in enumerate(BASES[: len(self.symbols)], start=1):
                own = identity(place + number)
                funds.append(tr.IssueAsset(own, b"first", customer, base, _ISSUED))
        await self._ask(self.platform.gateways[0], funds)

    async def close(self) -> None:
        """When nothing goes wrong any more: books trade, and everybody cancels everything."""
        gateway = self.platform.gateways[0]
        for number, symbol in enumerate(self.symbols):
            await self._ask(gateway, [books.Resume(identity(_LAST | number), b"last", symbol)])
        cancels = [
            self._trade(identity(_LAST | 1 << 32 | who * 8 + n), who, symbol, (tr.CancelAll(),))
            for who in range(self.plan.setup.customers)
            for n, symbol in enumerate(self.symbols)
        ]
        await self._ask(gateway, cancels)
        await self.resolve()

    async def _ask(self, gateway: Gateway, commands: list[Any]) -> None:
        for home in (self.platform, self.desk):
            asked = [command for command in commands if self._home(command) is home]
            if asked:
                since = [home.witness.ask(command) for command in asked]
                there = gateway if home is self.platform else home.gateways[0]
                replies = await there.call_many(asked, timeout_s=PATIENCE_S)
                self._answered(asked, replies, since)

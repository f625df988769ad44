"""Sees both sides of an exchange: what becomes durable in books and accounts, and what is told.

A ``Witness`` for each kind, with what is generic of it; ``exchange.Exchange`` is what they share.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from cluster.simulation.exchange import Exchange
from cluster.simulation.model import must
from cluster.simulation.platform import Platform
from cluster.simulation.witness import Since, Witness
from domain.accounts import trading as tr
from domain.accounts.brokerage import Brokerage, discrepancies
from domain.trading import commands as books
from persistence.journal import JournalRow, Statement

View = tuple[dict[str, tuple[int, int]], frozenset[int]]


class Clerk(Witness):
    """The online checks of one kind; ``beside`` shares messages and orders with that of another."""

    def __init__(self, platform: Platform, beside: Clerk | None = None) -> None:
        old = platform.witness
        super().__init__(old.database, old.codec, old.policy)
        self.machine: Any = platform.kind.machine()
        self.exchange = Exchange(self.asked)
        self._views: dict[str, list[tuple[int, View | None]]] = {}
        if beside is not None:
            self.failed = beside.failed
            self.exchange = beside.exchange
            self._messages, self._outcomes = beside._messages, beside._outcomes
            self._open = beside._open
        platform.witness = self.database.witness = self

    # -- what becomes durable -------------------------------------------------------------

    def _row(self, row: JournalRow, statements: Sequence[Statement]) -> None:
        record = self._linked(row)
        for sent in record.sent:
            self._messages[row.stream, sent.seq] = sent
            self._open.setdefault((sent.source, sent.destination), deque()).append(sent)
        for received in record.received:
            for seq, outcome in received.outcomes:
                self._taken(received.origin, seq, outcome)
        for key, event in record.events:
            owner = self.database.owner(key)
            must(11, owner == row.stream, row.stream, row.seq, "decides for", key, "of", owner)
            self.exchange.follow(key, event)
        if self.database.kind.name == "accounts":
            self._between(row.stream, record)
        self._replay(row, record)
        for key in dict.fromkeys(key for key, _ in record.events):
            state = self.replica(row.stream).entities[key].state
            if self.database.kind.name == "accounts":
                self._same_units(key, state)

    def _between(self, stream: str, record: Any) -> None:
        """What could be read in the middle of a turn that changes somebody more than once."""
        counts = Counter(key for key, _ in record.events)
        work, codec, states = self.replica(stream), self.codec, dict[str, Any]()
        for key, event in record.events:
            if counts[key] < 2:
                continue
            if key not in states:
                entity = None if record.moved else work.entities.get(key)
                kept = None if entity is None else codec.decode_entity(codec.encode(entity.state))
                states[key] = self.machine.new(key) if kept is None else kept
                if kept is None and record.moved:
                    self._views.setdefault(key, []).append((self.rows, None))
                    counts[key] = 0
                    continue
            self.machine.apply(states[key], event)
            brokerage = states[key].brokerage
            if brokerage is not None:
                self._views.setdefault(key, []).append((self.rows, seen(brokerage)))

    def _taken(self, origin: str, seq: int, outcome: Any) -> None:
        place = (origin, seq)
        must(3, place in self._messages, "a message that was never written:", place)
        must(3, place not in self._outcomes, "a message was taken twice:", place)
        self._outcomes[place] = outcome
        message = self._messages[place]
        line = self._open[message.source, message.destination]
        must(8, line.popleft() == message, "messages overtake each other:", message)

    def _same_units(self, key: str, state: Any) -> None:
        """Balances are what was funded and traded; what is held is what open orders can cost."""
        for number, account in state.accounts.items():
            cents = self.exchange.cents.get(number)
            must(8, account.posted == cents, "account", number, "has", account, "and not", cents)
        brokerage = state.brokerage
        if brokerage is None:
            return
        wrong = discrepancies(brokerage)
        must(2, not wrong, key, wrong)
        units = self.exchange.units.get(int(key), {})
        have = {asset: balance.total for asset, balance in brokerage.balances.items()}
        for asset in {**units, **have}:
            pair = have.get(asset, 0), units.get(asset, 0)
            must(8, pair[0] == pair[1], key, "has of", asset, "and in the model", pair)
        self._views.setdefault(key, []).append((self.rows, seen(brokerage)))

    # -- what is told ---------------------------------------------------------------------

    def _tell(self, command: Any, reply: Any, since: Since) -> None:
        if type(reply) is tr.TradeReply:
            # It may be told at once, for it rests on what the book has written.
            self.exchange.acknowledged(command.customer, reply.reports)
            first = self.told.setdefault((command.id, command.fingerprint), reply)
            must(4, reply == first, "answers differ:", first, reply)
            return
        super()._tell(command, reply, since)
        if type(reply) is tr.BrokerageView:
            self._viewed(reply, since[1])

    def _viewed(self, reply: tr.BrokerageView, since: int) -> None:
        """What was read was so at some moment between question and answer."""
        totals = {each.asset: (each.total, each.held) for each in reply.balances}
        view = _without_zeros(totals), frozenset(report.ref for report in reply.orders)
        versions = self._views.get(str(reply.customer), [])
        for index, version in reversed(versions):
            if version is None or version == view:
                return
            if index <= since:
                break
        empty = not versions or versions[0][0] > since
        must(8, empty and view == ({}, frozenset()), "read what was not so any more:", reply)


def seen(brokerage: Brokerage) -> View:
    """What a customer would read: balances that are not zero, and orders."""
    totals = {asset: (each.total, each.held) for asset, each in brokerage.balances.items()}
    return _without_zeros(totals), frozenset(brokerage.orders)


def _without_zeros(totals: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    return {asset: pair for asset, pair in totals.items() if any(pair)}


def at_rest(accounts: Platform, desk: Platform) -> None:
    """What must be true of an exchange in which nothing is on its way; raises ``Violation``."""
    witness = accounts.witness
    assert isinstance(witness, Clerk)
    open_orders: dict[tuple[int, int], int] = {}
    house: dict[tuple[str, str], int] = {}
    for platform in (accounts, desk):
        replay = platform.witness.replay
        must(12, not replay.parcels, "entities between two partitions:", replay.parcels)
        for work in replay.works.values():
            must(12, not work.partition.outbox, "messages on their way:", work.partition.outbox)
            for account, sums in work.partition.house.items():
                for asset, amount in sums.items():
                    house[account, asset] = house.get((account, asset), 0) + amount
    for work in witness.replay.works.values():
        for key, entity in work.entities.items():
            brokerage = entity.state.brokerage
            if brokerage is None:
                continue
            must(12, not brokerage.trades, "a trade without an end:", key, brokerage.trades)
            for ref, order in brokerage.orders.items():
                open_orders[int(key), ref] = order.quantity - order.filled
    resting = in_books(desk)
    only = dict(resting.items() - open_orders.items()), dict(open_orders.items() - resting.items())
    must(5, only == ({}, {}), "books alone have", only[0], "and their customers alone", only[1])
    for (account, asset), amount in house.items():
        if account in ("clearing", "moved"):
            must(1, not amount, account, "has", amount, "of", asset)
    cash = house.get(("brokerage", "USD"), 0) * 10**6 + house.get(("brokerage", "USD.8"), 0)
    must(1, not cash, "the brokerage's cents are not its units:", house)
    unsettled = witness.exchange.unsettled()
    must(12, not unsettled, "traded and not settled:", unsettled[:5])


def in_books(desk: Platform) -> dict[tuple[int, int], int]:
    """What is left of each order that is in a book."""
    found: dict[tuple[int, int], int] = {}
    for work in desk.witness.replay.works.values():
        for symbol, entity in work.entities.items():
            asked = books.ReadOrders(symbol)
            decision = work.machine.decide(entity.state, asked, 0)
            for order in getattr(getattr(decision, "reply", None), "orders", ()):
                found[order.customer, order.ref] = order.remaining
    return found


def answers(platform: Platform) -> None:
    """What was told is what is stored."""
    for (command_id, fingerprint), reply in platform.witness.told.items():
        stored = platform.database.remembered(command_id)
        must(3, stored == (fingerprint, reply), "told:", reply, "and stored:", stored)


def nothing_open(accounts: Platform) -> None:
    """Everybody has cancelled everything: no order is left, and nothing is held for one."""
    for work in accounts.witness.replay.works.values():
        for key, entity in work.entities.items():
            brokerage = entity.state.brokerage
            if brokerage is not None:
                must(12, not brokerage.orders, "an order stays for ever:", key, brokerage.orders)
                held = [asset for asset, each in brokerage.balances.items() if each.held]
                must(12, not held, "something is held for nothing:", key, held)

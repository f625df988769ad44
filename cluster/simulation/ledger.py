"""The model follows the journal: each event must be one that it would have made itself.

``Ledger.follow`` is called for each event of each turn of all streams in the order in which they
became durable, and adds up by itself what accounts hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.simulation.model import Judge, Pot, Violation, must
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import customer_of
from domain.accounts.policy import Policy

Asked = dict[bytes, dict[bytes, Any]]
"""All commands and parts of commands that anybody has asked, by id and fingerprint."""


class Ledger(Judge):
    """Accounts as the events make them."""

    def __init__(self, policy: Policy, asked: Asked) -> None:
        super().__init__(policy)
        self.asked = asked
        self.at = 0
        self.key = ""
        self.sent: dict[bytes, ev.TransferSent] = {}
        self.ended: dict[bytes, str] = {}
        self.delivered: set[bytes] = set()
        self.holds: dict[bytes, str] = {}
        self.voids: set[bytes] = set()
        self.refused: dict[tuple[bytes, bytes | None], str] = {}
        self.groups: dict[bytes, bytes] = {}
        self.carrying: dict[bytes, ev.TransferSent] = {}
        self.house: dict[tuple[str, str], int] = {}
        self._follow: dict[type, Callable[[Any], int]] = {
            ev.AccountOpened: self._opened,
            ev.BonusCredited: self._bonus,
            ev.StatusChanged: self._status_changed,
            ev.LimitChanged: self._limit_changed,
            ev.TransferSent: self._sent,
            ev.TransferReceived: self._received,
            ev.TransferDelivered: self._delivered,
            ev.TransferReturned: self._returned,
            ev.HoldReserved: self._reserved,
            ev.HoldEnded: self._hold_ended,
            ev.GroupReserved: self._group_reserved,
            ev.GroupPrepared: self._group_prepared,
            ev.GroupEnded: self._group_ended,
            ev.CreditPrepared: self._prepared,
            ev.CreditReleased: self._released,
        }

    def follow(self, key: str, event: Any, at: int) -> int:
        """Make an event happen here, if it is right; the account that it touched, or 0."""
        self.at, self.key = at, key
        account = self._follow[type(event)](event)
        if account:
            must(3, customer_of(account) == int(key), "event at the wrong customer:", key, event)
            pot = self.pot(account)
            if pot.posted < pot.held:
                raise Violation(2, f"{account} has {pot.posted} and holds {pot.held} after {event}")
        return account

    def pot(self, account: int) -> Pot:
        """An account that must be there."""
        pot = self.party(customer_of(account)).pots.get(account)
        if pot is None:
            raise Violation(3, f"there is no account {account}")
        return pot

    def _move(self, house: str, asset: str, amount: int) -> None:
        self.house[house, asset] = self.house.get((house, asset), 0) + amount

    # -- accounts -------------------------------------------------------------------------

    def _opened(self, event: ev.AccountOpened) -> int:
        pots = self.party(customer_of(event.account)).pots
        must(4, event.account not in pots, "an account was opened twice:", event)
        pots[event.account] = Pot(event.currency)
        return event.account

    def _bonus(self, event: ev.BonusCredited) -> int:
        must(4, event.transfer not in self.ended, "a bonus was credited twice:", event)
        self.ended[event.transfer] = "bonus"
        self._move("bonus", event.currency, -event.amount)
        self.pot(event.account).posted += event.amount
        return event.account

    def _status_changed(self, event: ev.StatusChanged) -> int:
        pot = self.pot(event.account)
        if event.status == AccountStatus.CLOSED:
            must(8, not pot.posted and not pot.held, "an account with money was closed:", event)
        must(8, pot.status != AccountStatus.CLOSED, "a closed account was opened:", event)
        pot.status = event.status
        return event.account

    def _limit_changed(self, event: ev.LimitChanged) -> int:
        self.party(int(self.key)).limits[event.currency] = event.amount
        return 0

    # -- transfers ------------------------------------------------------------------------

    def _sent(self, event: ev.TransferSent) -> int:
        must(3, event.transfer not in self.sent, "a transfer was sent twice:", event)
        party, pot = self.party(customer_of(event.source)), self.pot(event.source)
        own = customer_of(event.source) == customer_of(event.destination)
        leg = self.carrying.pop(event.transfer, None)
        if leg is not None:
            must(8, leg == event, "a leg is not what was reserved:", leg, event)
        elif event.hold is not None:
            self._posted(event)
        else:
            self._judged(event)
        pot.posted -= event.amount + event.fee
        if not own:
            pot.pending += 1
            day = (event.currency, event.day)
            party.sent[day] = party.sent.get(day, 0) + event.amount
        must(8, event.limited is not own, "the limit of the day counts the wrong way:", event)
        self.sent[event.transfer] = event
        if event.fee:
            self._move("fees", event.currency, event.fee)
        if event.currency != event.credited_currency:
            self._move("fx", event.currency, event.amount)
            self._move("fx", event.credited_currency, -event.credited)
        self._move("transit", event.credited_currency, event.credited)
        return event.source

    def _judged(self, event: ev.TransferSent) -> None:
        command: Any = self.asked.get(event.transfer, {}).get(event.fingerprint)
        must(3, isinstance(command, cmd.Transfer), "nobody asked for", event)
        party = self.party(customer_of(event.source))
        terms = self.transfer(party, party.pots, command, self.at)
        if isinstance(terms, str):
            raise Violation(8, f"the model refuses with {terms}: {event}")
        asked = (command.source, command.destination, command.amount, terms.fee, terms.credited)
        done = (event.source, event.destination, event.amount, event.fee, event.credited)
        must(8, asked == done, "the model has other terms:", asked, event)
        must(8, event.credited_currency == command.destination_currency, "currency:", event)

    def _posted(self, event: ev.TransferSent) -> None:
        command: Any = self.asked.get(event.transfer, {}).get(event.fingerprint)
        must(3, isinstance(command, cmd.PostHold), "nobody asked for", event)
        must(6, self.holds.get(command.hold) == "active", "a hold that has ended is posted", event)
        fee = self.post(command, self.at)
        if isinstance(fee, str):
            raise Violation(8, f"the model refuses with {fee}: {event}")
        hold = self.party(command.customer).holds[command.hold]
        total = command.amount + fee
        released = hold[1] if command.release else total
        must(
            8,
            (event.fee, event.released, event.source) == (fee, released, hold[0]),
            "the model posts otherwise:",
            event,
        )
        self.pot(hold[0]).held -= released
        hold[1] -= released
        if not hold[1]:
            self._end_hold(command.customer, command.hold, "posted")

    def _received(self, event: ev.TransferReceived) -> int:
        sent = self.sent.get(event.transfer)
        must(3, sent is not None, "received and never sent:", event)
        assert sent is not None
        must(3, event.transfer not in self.ended, "a transfer arrived twice:", event)
        same = (sent.destination, sent.credited, sent.credited_currency)
        got = (event.destination, event.amount, event.currency)
        must(5, same == got, "what arrives is not what was sent:", sent, event)
        party, pot = self.party(customer_of(event.destination)), self.pot(event.destination)
        group = self.groups.get(event.transfer)
        promised = group is not None and party.promised.get(event.transfer) == group
        must(8, event.promised is promised, "the promise is", promised, event)
        refusal = None if promised else arrival(self, event)
        must(8, refusal is None, "the model refuses to take it:", refusal, event)
        if promised:
            del party.promised[event.transfer]
            pot.expecting -= 1
        pot.posted += event.amount
        self.ended[event.transfer] = "received"
        self._move("transit", event.currency, -event.amount)
        return event.destination

    def _delivered(self, event: ev.TransferDelivered) -> int:
        must(3, event.transfer not in self.delivered, "confirmed twice:", event)
        must(5, self.ended.get(event.transfer) == "received", "delivered, not received:", event)
        self.delivered.add(event.transfer)
        pot = self.pot(event.source)
        pot.pending -= 1
        return event.source

    def _returned(self, event: ev.TransferReturned) -> int:
        sent = self.sent.get(event.transfer)
        must(3, sent is not None, "returned and never sent:", event)
        assert sent is not None
        must(3, event.transfer not in self.ended, "a transfer ended twice:", event)
        same = (sent.source, sent.amount, sent.fee, sent.credited, sent.day)
        back = (event.source, event.amount, event.fee, event.credited, event.day)
        must(5, same == back, "what comes back is not what was sent:", sent, event)
        expected = self.refused.get((event.transfer, None)) or arrival(self, sent)
        must(8, expected == event.reason, "comes back for", event.reason, "and not", expected)
        pot = self.pot(event.source)
        pot.posted += event.amount + event.fee
        pot.pending -= 1
        day = (event.currency, event.day)
        spent = self.party(customer_of(event.source)).sent
        spent[day] = spent.get(day, 0) - event.amount
        self.ended[event.transfer] = "returned"
        if event.fee:
            self._move("fees", event.currency, -event.fee)
        if event.currency != event.credited_currency:
            self._move("fx", event.currency, -event.amount)
            self._move("fx", event.credited_currency, event.credited)
        self._move("transit", event.credited_currency, -event.credited)
        return event.source

    # -- holds ----------------------------------------------------------------------------

    def _reserved(self, event: ev.HoldReserved) -> int:
        must(6, event.hold not in self.holds, "a hold was made twice:", event)
        bodies = self.asked.get(event.hold, {}).values()
        command = next((c for c in bodies if isinstance(c, cmd.ReserveHold)), None)
        must(3, command is not None, "nobody asked for", event)
        assert command is not None
        asked = (command.account, command.amount, command.expires_at)
        must(8, asked == (event.account, event.amount, event.expires_at), "other terms:", event)
        refusal = self.verdict(command, self.at)
        must(8, refusal is None, "the model refuses with", refusal, event)
        pot = self.pot(event.account)
        pot.held += event.amount
        holds = self.party(customer_of(event.account)).holds
        holds[event.hold] = [event.account, event.amount, event.expires_at]
        self.holds[event.hold] = "active"
        return event.account

    def _hold_ended(self, event: ev.HoldEnded) -> int:
        must(6, self.holds.get(event.hold) == "active", "a hold ended twice:", event)
        customer = customer_of(event.account)
        account, amount, expires_at = self.party(customer).holds[event.hold]
        if event.expired:
            must(6, expires_at <= self.at, "a hold expired too early:", event)
        else:
            must(6, event.hold in self.voids, "a hold was voided unasked:", event)
        self.pot(account).held -= amount
        self._end_hold(customer, event.hold, "expired" if event.expired else "voided")
        return event.account

    def _end_hold(self, customer: int, hold: bytes, how: str) -> None:
        del self.party(customer).holds[hold]
        self.holds[hold] = how

    # -- linked groups --------------------------------------------------------------------

    def _group_reserved(self, event: ev.GroupReserved) -> int:
        command: Any = self.asked.get(event.group, {}).get(event.fingerprint)
        must(3, isinstance(command, cmd.LinkedTransfers), "nobody asked for", event)
        refusal = self.verdict(command, self.at)
        must(8, refusal is None, "the model refuses with", refusal, event)
        source = event.legs[0].source
        party = self.party(customer_of(source))
        must(4, event.group not in party.groups, "a group was reserved twice:", event)
        for leg, asked in zip(event.legs, command.transfers, strict=True):
            own = customer_of(leg.source) == customer_of(leg.destination)
            fee = 0 if own else self.fee(leg.currency, leg.amount)
            must(8, (leg.amount, leg.fee) == (asked.amount, fee), "other terms:", asked, leg)
            self.pot(leg.source).held += leg.amount + leg.fee
        party.groups[event.group] = event
        party.waiting[event.group] = list(event.external)
        return source

    def _group_prepared(self, event: ev.GroupPrepared) -> int:
        for party in self.parties.values():
            if event.group in party.waiting:
                waiting = party.waiting[event.group]
                must(8, event.transfer in waiting, "promised twice:", event)
                waiting.remove(event.transfer)
                return party.groups[event.group].legs[0].source
        raise Violation(8, f"a promise to no group: {event}")

    def _group_ended(self, event: ev.GroupEnded) -> int:
        party = next((p for p in self.parties.values() if event.group in p.groups), None)
        must(8, party is not None, "a group ended twice:", event)
        assert party is not None
        reserved, waiting = party.groups.pop(event.group), party.waiting.pop(event.group)
        for leg in reserved.legs:
            self.pot(leg.source).held -= leg.amount + leg.fee
        if not waiting:
            self.carrying.update((leg.transfer, leg) for leg in reserved.legs)
            self.groups.update((leg.transfer, event.group) for leg in reserved.legs)
        else:
            legs = [leg for leg in reserved.legs if leg.transfer in reserved.external]
            why = [self._refusal(event.group, leg) for leg in legs]
            must(8, any(why), "a group was refused without a reason:", event)
        return reserved.legs[0].source

    def _refusal(self, group: bytes, leg: ev.TransferSent) -> str | None:
        """Why a leg's destination has not promised, if it has not."""
        promised = self.party(customer_of(leg.destination)).promised.get(leg.transfer, group)
        taken = "id_reused" if promised != group else None
        return self.refused.get((leg.transfer, group)) or taken or arrival(self, leg)

    def _prepared(self, event: ev.CreditPrepared) -> int:
        party = self.party(customer_of(event.account))
        must(3, event.transfer not in party.promised, "promised twice:", event)
        pot = self.pot(event.account)
        must(8, pot.status != AccountStatus.CLOSED, "a closed account promises:", event)
        pot.expecting += 1
        party.promised[event.transfer] = event.group
        return event.account

    def _released(self, event: ev.CreditReleased) -> int:
        party = self.party(customer_of(event.account))
        must(3, party.promised.get(event.transfer) == event.group, "released twice:", event)
        del party.promised[event.transfer]
        pot = self.pot(event.account)
        pot.expecting -= 1
        return event.account


def arrival(ledger: Ledger, event: Any) -> str | None:
    """Why what was sent cannot arrive as things are, if it cannot."""
    party = ledger.party(customer_of(event.destination))
    currency = event.credited_currency if isinstance(event, ev.TransferSent) else event.currency
    pot = party.pots.get(event.destination)
    if pot is None:
        return "unknown_destination_account"
    if pot.status == AccountStatus.CLOSED:
        return "destination_closed"
    return None if pot.currency == currency else "currency_mismatch"

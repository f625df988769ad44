"""Linked groups: transfers of one customer of which all happen or none.

Between own accounts a group is one step. As soon as one transfer leaves the customer, the funds
of all are put aside first and each destination is asked to promise that it will accept; when all
have, the group is carried out and no credit can be refused any more, and when one refuses, nothing
has moved. In such a group each transfer must be covered without the proceeds of another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, TransferStatus
from domain.accounts.numbers import customer_of
from domain.accounts.state import APPLY, Customer, Group
from domain.accounts.views import receipt
from domain.durable import Decision, Message, Rejection

_STATE = msgspec.msgpack.Decoder(Customer)


def copy_of(state: Customer) -> Customer:
    """An independent copy, to try transfers on: without the brokerage, which may be large."""
    if state.brokerage is not None:
        state = msgspec.structs.replace(state, brokerage=None)
    return _STATE.decode(msgspec.msgpack.encode(state))


def waits_in_group(state: Customer, transfer: bytes) -> bool:
    """Whether the id is one of a group that has not ended, or of a transfer in it."""
    return transfer in state.groups or any(
        leg.transfer == transfer for group in state.groups.values() for leg in group.legs
    )


class LinkedDecisions(ABC):
    """The part of ``AccountsMachine`` that deals with linked groups."""

    @abstractmethod
    def judge_transfer(
        self, state: Customer, command: cmd.Transfer, now: int
    ) -> ev.TransferSent | Rejection:
        """Judge one transfer; see ``AccountsMachine``."""

    @abstractmethod
    def credit_message(
        self, sent: ev.TransferSent, now: int, group: bytes | None = None
    ) -> Message:
        """The message that brings a sent transfer to its destination; see ``AccountsMachine``."""

    def _linked(
        self, state: Customer, command: cmd.LinkedTransfers, now: int
    ) -> Decision | Rejection:
        waiting = state.groups.get(command.id)
        if waiting is not None:
            if waiting.fingerprint != command.fingerprint:
                return Rejection(Code.ID_REUSED.value)
            return Decision()
        scratch = copy_of(state)
        external = [leg for leg in command.transfers if leg.destination not in state.accounts]
        legs: list[ev.TransferSent] = []
        ids = {command.id}
        for index, leg in enumerate(command.transfers):
            sent = self.judge_transfer(scratch, leg, now)
            if leg.id in ids:
                sent = Rejection(Code.ID_REUSED.value)
            ids.add(leg.id)
            if type(sent) is Rejection:
                return Decision(reply=_all_refused(command.transfers, index, sent))
            legs.append(sent)
            APPLY[ev.TransferSent](scratch, sent)
            if not external:
                APPLY[ev.TransferReceived](scratch, _received(sent))
        if not external:
            return Decision(
                [event for leg in legs for event in (leg, _received(leg))],
                _all_completed(legs, now),
            )
        return Decision(
            [
                ev.GroupReserved(
                    command.id,
                    command.fingerprint,
                    tuple(legs),
                    tuple(leg.id for leg in external),
                )
            ],
            None,
            [
                Message(
                    str(customer_of(leg.destination)),
                    cmd.PrepareCredit(
                        command.id,
                        leg.transfer,
                        leg.source,
                        leg.destination,
                        leg.credited_currency,
                    ),
                )
                for leg in legs
                if leg.destination not in state.accounts
            ],
        )

    def _prepare_credit(
        self, state: Customer, message: cmd.PrepareCredit, now: int
    ) -> Decision | Rejection:
        if state.promised.get(message.transfer, message.group) != message.group:
            # Another group had this id, was refused, and its release is still on its way.
            return Rejection(Code.ID_REUSED.value)
        account = state.accounts.get(message.destination)
        if account is None:
            return Rejection(Code.UNKNOWN_DESTINATION_ACCOUNT.value)
        if account.status == AccountStatus.CLOSED:
            return Rejection(Code.DESTINATION_CLOSED.value)
        if account.currency != message.currency:
            return Rejection(Code.CURRENCY_MISMATCH.value)
        return Decision([ev.CreditPrepared(message.group, message.transfer, message.destination)])

    def _release_credit(
        self, state: Customer, message: cmd.ReleaseCredit, now: int
    ) -> Decision | Rejection:
        if state.promised.get(message.transfer) != message.group:
            return Decision()
        return Decision([ev.CreditReleased(message.group, message.transfer, message.destination)])

    def _prepare_acknowledged(
        self, state: Customer, message: cmd.PrepareCredit, outcome: Rejection | None, now: int
    ) -> Decision:
        group = state.groups.get(message.group)
        if group is None:
            release = cmd.ReleaseCredit(
                message.group, message.transfer, message.source, message.destination
            )
            to = str(customer_of(message.destination))
            return Decision(messages=[Message(to, release)] if outcome is None else ())
        if outcome is not None:
            return self._void_group(message, group, outcome)
        prepared = ev.GroupPrepared(message.group, message.transfer)
        if group.waiting != [message.transfer]:
            return Decision([prepared])
        return self._carry_out(state, message.group, group, prepared, now)

    def _void_group(self, message: cmd.PrepareCredit, group: Group, outcome: Rejection) -> Decision:
        index = next(i for i, leg in enumerate(group.legs) if leg.transfer == message.transfer)
        return Decision(
            [ev.GroupEnded(message.group)],
            _all_refused(group.legs, index, outcome),
            [
                Message(
                    str(customer_of(leg.destination)),
                    cmd.ReleaseCredit(message.group, leg.transfer, leg.source, leg.destination),
                )
                for leg in group.legs
                if leg.transfer in group.prepared
            ],
            answers=message.group,
            fingerprint=group.fingerprint,
        )

    def _carry_out(
        self,
        state: Customer,
        group_id: bytes,
        group: Group,
        prepared: ev.GroupPrepared,
        now: int,
    ) -> Decision:
        events: list[ev.Event] = [prepared, ev.GroupEnded(group_id)]
        messages = []
        for leg in group.legs:
            events.append(leg)
            if leg.destination in state.accounts:
                events.append(_received(leg))
            else:
                messages.append(self.credit_message(leg, now, group_id))
        reply = _all_completed(group.legs, now)
        results = zip(group.legs, reply.results, strict=True)
        return Decision(
            events,
            reply,
            messages,
            answers=group_id,
            fingerprint=group.fingerprint,
            parts=[(leg.transfer, leg.fingerprint, result) for leg, result in results],
        )


def _received(sent: ev.TransferSent) -> ev.TransferReceived:
    return ev.TransferReceived(
        sent.transfer, sent.source, sent.destination, sent.credited, sent.credited_currency
    )


def _all_completed(legs: Any, now: int) -> cmd.LinkedReply:
    return cmd.LinkedReply(tuple(receipt(leg, TransferStatus.COMPLETED, now) for leg in legs))


def _all_refused(legs: Any, index: int, refusal: Rejection) -> cmd.LinkedReply:
    linked = Rejection(Code.LINKED_FAILED.value)
    return cmd.LinkedReply(tuple(refusal if i == index else linked for i in range(len(legs))))

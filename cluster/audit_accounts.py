"""Proof of the customers' accounts: balances, histories, and the money that is on its way."""

from __future__ import annotations

from collections import Counter
from typing import Any

from actors.accounts import accounts_codec
from cluster.audit import Findings, KindAudit
from domain.accounts.adjustment import AdjustmentStatus
from domain.accounts.brokerage import discrepancies
from domain.accounts.commands import AccountStatus, Credit, TransferStatus
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import Policy
from domain.money import CURRENCIES, format_amount
from domain.orders import ACCOUNTS, UNIT
from persistence.accounts.projection import KIND_ADJUSTMENT
from persistence.database import Connection


class AccountsAudit(KindAudit):
    """Replays all accounts."""

    kind = ACCOUNTS
    noun = "customer"

    def __init__(self, connection: Connection, findings: Findings) -> None:
        super().__init__(connection, findings, AccountsMachine(Policy({}, {})), accounts_codec())
        self.transit: Counter[str] = Counter()
        self._sent: dict[tuple[str, int], Credit] = {}
        self._settled: set[tuple[str, int]] = set()

    def track(self, stream: str, record: Any) -> None:
        """Follow the money between partitions, message by message."""
        for sent in record.sent:
            if isinstance(sent.body, Credit):
                self._sent[stream, sent.seq] = sent.body
        for received in record.received:
            for seq, outcome in received.outcomes:
                if outcome is None:
                    self._settled.add((received.origin, seq))
        # What was refused has come back in the turn that noted it.
        self._settled.update((stream, seq) for seq in record.acknowledged)

    def compare_transit(self) -> None:
        """What is in transit in the ledger is what messages carry."""
        in_transit = self.house().get("transit", Counter())
        under_way = self._sent.keys() - self._settled
        for message in under_way:
            self.transit[self._sent[message].currency] += self._sent[message].amount
        for asset in CURRENCIES:
            if in_transit[asset] != self.transit[asset]:
                self.found(
                    f"{in_transit[asset]} {asset} are in transit, but the messages on their way"
                    f" carry {self.transit[asset]}."
                )
        self.counts["messages_in_transit"] = len(under_way)

    async def compare_accounts(self) -> None:
        """Balances, states and histories of all accounts agree with each other."""
        moved = await self._moved()
        stored = {
            row["id"]: row
            for row in await self.connection.fetch("SELECT id, currency, status FROM accounts")
        }
        for _, entity in self.entities():
            for account in entity.state.accounts.values():
                self.counts["accounts"] += 1
                row = stored.pop(account.id, None)
                if row is None or row["currency"] != account.currency:
                    self.found(f"Account {account.id} is not in the table of accounts.")
                elif AccountStatus(row["status"]) != account.status:
                    self.found(f"Account {account.id} has another status in the table.")
                if account.posted != moved.pop(account.id, 0):
                    self.found(f"The history of account {account.id} gives another balance.")
                if account.available < 0 or account.held < 0:
                    left = format_amount(account.available, account.currency)
                    self.found(f"Account {account.id} has {left} available.")
        for number in [*stored, *(n for n, amount in moved.items() if amount)]:
            self.found(f"Account {number} is in the tables and not in the journal.")

    async def _moved(self) -> dict[int, int]:
        """The balance of each account by its history."""
        rows = await self.connection.fetch(
            """
            SELECT account, sum(amount)::bigint AS amount FROM (
                SELECT source AS account, -(amount + fee) AS amount FROM transfers
                WHERE source IS NOT NULL AND status <> $1
                UNION ALL
                SELECT destination, credited FROM transfers
                WHERE destination IS NOT NULL AND status = $2
            ) AS sides GROUP BY account""",
            int(TransferStatus.RETURNED),
            int(TransferStatus.COMPLETED),
        )
        return {row["account"]: row["amount"] for row in rows}

    async def compare_pending(self) -> None:
        """Each pending transfer is on its way, and nothing else is."""
        rows = await self.connection.fetch(
            "SELECT id FROM transfers WHERE status = $1", int(TransferStatus.PENDING)
        )
        pending = {row["id"].bytes for row in rows}
        on_their_way = {
            credit.transfer
            for message, credit in self._sent.items()
            if message not in self._settled
        }
        for transfer in pending - on_their_way:
            self.found(f"Transfer {transfer.hex()} is pending, but nothing is on its way.")
        for transfer in on_their_way - pending:
            self.found(f"Transfer {transfer.hex()} is on its way, but not pending.")

    async def compare_adjustments(self) -> None:
        """What the house gave by adjustments is what the history says, and those that wait do."""
        given = self.house().get("adjustments", Counter())
        rows = await self.connection.fetch(
            """
            SELECT t.currency, sum(CASE WHEN t.source IS NULL THEN t.amount ELSE -t.amount END)
                ::bigint AS amount, bool_and(a.status IS NOT DISTINCT FROM $2) AS posted
            FROM transfers t LEFT JOIN adjustments a ON a.id = t.id
                AND a.amount = CASE WHEN t.source IS NULL THEN t.amount ELSE -t.amount END
            WHERE t.kind = $1 GROUP BY t.currency""",
            KIND_ADJUSTMENT,
            int(AdjustmentStatus.POSTED),
        )
        moved = {row["currency"]: row["amount"] for row in rows if row["posted"]}
        for asset in sorted({*given, *(row["currency"] for row in rows)}):
            if given[asset] != -moved.get(asset, 0):
                self.found(f"The history of adjustments in {asset} gives another sum.")
        pending = await self.connection.fetch(
            "SELECT id FROM adjustments WHERE status = $1", int(AdjustmentStatus.PENDING)
        )
        waiting = {
            number for _, entity in self.entities() for number in entity.state.adjustments or ()
        }
        self.counts["adjustments_pending"] = len(waiting)
        for number in waiting ^ {row["id"].bytes for row in pending}:
            self.found(f"Adjustment {number.hex()} waits only in the journal or in the table.")

    def compare_brokerages(self) -> None:
        """What is held is what open orders can cost, and what was funded is what is there."""
        for key, entity in self.entities():
            if entity.state.brokerage is not None:
                self.counts["brokerages"] += 1
                for wrong in discrepancies(entity.state.brokerage):
                    self.found(f"The brokerage of customer {key}: {wrong}.")
        funded = self.house().get("brokerage", Counter())
        for currency, about in CURRENCIES.items():
            units = UNIT // about.scale
            left = funded[currency] * units + funded[f"{currency}.8"]
            if left:
                self.found(
                    f"{currency}: brokerages hold what was funded but for {left} units of 10^-8."
                )

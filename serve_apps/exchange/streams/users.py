"""Customers' own events in one replica: heard over Redis, passed on to their connections.

Only the channels of customers that are connected here are listened to. Balances are read again
when something has happened, for all connections of the customer at once, and told if they differ.
Best effort: after a lost connection to Redis, what is open and what is held must be asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from actors.userdata import CustomerNews, channel_of, decode_news
from domain.accounts.trading import BalanceView, BrokerageView, ReadBrokerage
from persistence.database import OUTAGES
from persistence.tasks import end_tasks
from serve_apps.exchange.streams import execution

log = structlog.get_logger("kontor.users")

BACK_OFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
SUBSCRIBED_S: Final = 1.0
Deliver = Callable[[bytes], None]


class Accounts(Protocol):
    """What is needed of ``actors.accounts.AccountsClient``."""

    async def call(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Ask a customer's entity."""


class Catalogue(Protocol):
    """What is needed of the replica's copy of the instruments."""

    def get(self, symbol: str, /) -> execution.Terms | None:
        """One instrument."""


class _Customer:
    """Somebody who is connected."""

    def __init__(self) -> None:
        self.deliveries: list[Deliver] = []
        self.balances: dict[str, BalanceView] | None = None
        self.ready = asyncio.Event()
        self.stale = asyncio.Event()
        self.at = 0
        self.task: asyncio.Task[None] | None = None


class Users:
    """Connections of customers to this replica."""

    def __init__(
        self,
        *,
        connection: redis.asyncio.Redis,
        accounts: Accounts,
        catalogue: Catalogue,
        clock: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._catalogue = catalogue
        self._clock = clock
        self._channel = connection.pubsub()
        self._customers: dict[int, _Customer] = {}
        self._changed = asyncio.Event()
        self._somebody = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: set[int] = set()

    async def start(self) -> None:
        """Listen, as soon as somebody is there."""
        self._tasks = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(self._keep_channels()),
        ]

    async def stop(self) -> None:
        """Pass nothing on any more."""
        tasks = [customer.task for customer in self._customers.values() if customer.task]
        await end_tasks([*self._tasks, *tasks])
        await self._channel.aclose()  # type: ignore[no-untyped-call]

    def subscribe(self, customer: int, deliver: Deliver) -> Callable[[], None]:
        """Hand each event of a customer to ``deliver``, as JSON; call the result to end it."""
        known = self._customers.get(customer)
        if known is None:
            known = self._customers[customer] = _Customer()
            known.task = asyncio.create_task(self._keep_balances(customer, known))
            self._changed.set()
        known.deliveries.append(deliver)

        def end() -> None:
            if deliver in known.deliveries:
                known.deliveries.remove(deliver)
            if not known.deliveries and self._customers.get(customer) is known:
                del self._customers[customer]
                if known.task is not None:
                    known.task.cancel()
                self._changed.set()

        return end

    async def ready(self, customer: int) -> None:
        """Wait, a moment at most, until what happens to this customer will be heard."""
        known = self._customers.get(customer)
        if known is not None:
            try:
                async with asyncio.timeout(SUBSCRIBED_S):
                    await known.ready.wait()
            except TimeoutError:
                log.warning("customer_not_heard", customer=customer)

    # -- inside ---------------------------------------------------------------------------

    async def _keep_channels(self) -> None:
        """Listen to the channels of those who are here, and of nobody else."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            here = set(self._customers)
            try:
                if new := here - self._asked:
                    await self._channel.subscribe(*map(channel_of, new))
                    self._asked |= new
                    self._somebody.set()
                if gone := self._asked - here:
                    await self._channel.unsubscribe(*map(channel_of, gone))
                    self._asked -= gone
            except (RedisError, OSError) as error:
                log.warning("customer_channel_lost", error=repr(error))
                await asyncio.sleep(0.5)
                self._changed.set()

    async def _listen(self) -> None:
        failures = 0
        while True:
            if not self._channel.subscribed:
                self._somebody.clear()
                await self._somebody.wait()
            try:
                message = await self._channel.get_message(timeout=30.0)
                failures = 0
                if message is not None:
                    self._take(message)
            except (RedisError, OSError) as error:
                pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)]
                failures += 1
                log.warning("customer_channel_lost", error=repr(error), retry_in_s=pause_s)
                await asyncio.sleep(pause_s)

    def _take(self, message: dict[str, Any]) -> None:
        customer = int(message["channel"].rpartition(b":")[2])
        known = self._customers.get(customer)
        if known is None:
            return
        if message["type"] == "subscribe":
            known.ready.set()
            known.stale.set()
        elif message["type"] == "message":
            try:
                self._pass_on(known, decode_news(message["data"]))
            except msgspec.DecodeError as error:
                log.warning("customer_message_unreadable", error=str(error))

    def _pass_on(self, known: _Customer, news: CustomerNews) -> None:
        now = self._clock()
        events: list[bytes] = []
        for item in news.orders:
            known.at = max(known.at, item.at)
            terms = self._catalogue.get(item.report.symbol)
            if terms is not None:
                events += execution.executions(item, terms, now)
        for moved in news.funds:
            known.at = max(known.at, moved.at)
            events.append(execution.funds(moved, now))
        for event in events:
            _deliver(known, event)
        known.stale.set()

    async def _keep_balances(self, customer: int, known: _Customer) -> None:
        """Read balances when something has happened, and tell those that have changed."""
        while True:
            await known.stale.wait()
            known.stale.clear()
            at = known.at
            try:
                view = await self._accounts.call(
                    ReadBrokerage(customer, orders=False), timeout_s=5.0
                )
            except OUTAGES as error:
                view = error
            if not isinstance(view, BrokerageView):
                await asyncio.sleep(0.5)
                known.stale.set()
                continue
            before = known.balances
            known.balances = {balance.asset: balance for balance in view.balances}
            if before is None and not at:
                continue  # nothing has happened yet
            changed = _changed(before or {}, known.balances)
            if changed:
                _deliver(known, execution.position(changed, at, self._clock()))


def _changed(before: dict[str, BalanceView], now: dict[str, BalanceView]) -> list[BalanceView]:
    changed = [balance for asset, balance in now.items() if before.get(asset) != balance]
    return changed + [BalanceView(asset, 0, 0) for asset in before if asset not in now]


def _deliver(known: _Customer, event: bytes) -> None:
    for deliver in tuple(known.deliveries):
        deliver(event)

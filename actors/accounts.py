"""Customers' accounts on Ray: the actor that hosts them and the client that reaches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actors.durable.actor import ActorConfig, DurableActor
from actors.durable.client import DurableClient
from actors.durable.hosts import Recipe
from actors.durable.options import Options, Projection, Publisher
from actors.durable.records import Codec
from actors.durable.routing import slot_of
from actors.live import LivePublisher
from actors.userdata import CustomerPublisher
from domain.accounts.commands import Command, EntityMessage, Outcome, Reply
from domain.accounts.events import Event
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import Policy
from domain.accounts.state import Customer
from persistence.accounts import AccountsProjection
from persistence.database import Pool, open_pool

KIND: Final = "accounts"


def accounts_codec() -> Codec[Any, Any]:
    """The accounts context's types on the wire and in the journal."""
    return Codec(Customer, Event, Command, EntityMessage, Reply, Outcome)


class AccountActor(DurableActor):
    """Hosts the accounts of the customers in its slots."""

    def __init__(self, config: ActorConfig, policy: Policy) -> None:
        self._policy = policy
        super().__init__(config)

    def machine(self) -> AccountsMachine:
        return AccountsMachine(self._policy)

    def codec(self) -> Codec[Any, Any]:
        return accounts_codec()

    def projection(self) -> Projection:
        return AccountsProjection(slot_of)

    def publisher(self) -> Publisher:
        if self.config.redis_url is None:
            return super().publisher()
        live, customers = (
            LivePublisher(self.config.redis_url),
            CustomerPublisher(self.config.redis_url),
        )

        def publish(at: int, events: list[tuple[str, Any]], news: list[Any]) -> None:
            live.publish(at, events)
            customers.publish(at, events, news)

        return publish


class AccountsClient:
    """Carries out commands on accounts; a reply is durable."""

    def __init__(self, pool: Pool, client: DurableClient) -> None:
        self._pool = pool
        self._client = client

    @classmethod
    async def connect(cls, database_url: str, *, name: str) -> AccountsClient:
        """A client inside any process that is connected to Ray; ``name`` shows in Postgres."""
        pool = await open_pool(database_url, name=name, size_max=2)
        machine = AccountsMachine(Policy({}, {}))
        client = DurableClient(pool, KIND, machine, accounts_codec())
        await client.open()
        return cls(pool, client)

    async def call(self, command: Command, *, timeout_s: float = 10.0) -> Reply:
        """Carry out one command. ``Unavailable`` when the outcome stays unknown that long."""
        reply: Reply = await self._client.call(command, timeout_s=timeout_s)
        return reply

    async def call_many(
        self, commands: Sequence[Command], *, timeout_s: float = 30.0
    ) -> list[Reply]:
        """Carry out many; replies in the same order, those of one customer done in order."""
        return await self._client.call_many(commands, timeout_s=timeout_s)

    async def close(self) -> None:
        """Give links and connections back."""
        await self._client.close()
        await self._pool.close()


def accounts_recipe(
    *, database_url: str, redis_url: str | None, policy: Policy, options: Options | None = None
) -> Recipe:
    """How the actors are made that host accounts."""
    config = ActorConfig(KIND, database_url, redis_url, options or Options())
    return Recipe(AccountActor, config, (policy,))

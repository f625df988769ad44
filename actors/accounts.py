"""Customers' accounts on Ray: the actor that hosts them and the client that reaches them."""

from __future__ import annotations

from typing import Any, Final

from actors.durable.actor import ActorConfig, DurableActor
from actors.durable.client import Caller
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


class AccountsClient(Caller[Command, Reply]):
    """Carries out commands on accounts; a reply is durable."""

    @classmethod
    async def connect(cls, database_url: str, *, name: str) -> AccountsClient:
        """A client inside any process that can reach the partitions; ``name`` shows in Postgres."""
        return await cls.connected(
            database_url, name, KIND, AccountsMachine(Policy({}, {})), accounts_codec()
        )


def accounts_recipe(
    *, database_url: str, redis_url: str | None, policy: Policy, options: Options | None = None
) -> Recipe:
    """How the actors are made that host accounts."""
    config = ActorConfig(KIND, database_url, redis_url, options or Options())
    return Recipe(AccountActor, config, (policy,))

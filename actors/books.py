"""Order books on Ray: the actor that hosts them and the client that reaches them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from actors.durable.actor import ActorConfig, DurableActor
from actors.durable.client import Caller
from actors.durable.hosts import Recipe
from actors.durable.options import Options, Projection, Publisher
from actors.durable.records import Codec
from actors.marketdata import MarketPublisher
from domain.orders import BOOKS
from domain.trading.commands import Command, Message, Outcome, Reply
from domain.trading.events import Event
from domain.trading.machine import BooksMachine
from domain.trading.orderbook import OrderBook, OrderBookState
from persistence.trading.projection import BooksProjection

KIND: Final = BOOKS
_NAMED_MAX: Final = 4
"""So many books the name of an actor tells one by one."""


def _stored(value: Any) -> OrderBookState:
    """msgspec's hook for states that are not its own types."""
    if type(value) is OrderBook:
        return value.snapshot()
    raise TypeError(f"{type(value).__name__} cannot be stored")


class BooksCodec(Codec[Any, Any]):
    """The trading context's types on the wire and in the journal."""

    def __init__(self) -> None:
        super().__init__(
            OrderBookState, Event, Command, Message, Reply, Outcome | None, enc_hook=_stored
        )
        decode = msgspec.msgpack.Decoder(OrderBookState).decode
        self.decode_entity = lambda state: OrderBook.restore(decode(state))


class OrderBookActor(DurableActor):
    """Hosts the order books in its slots; one that is pinned has an actor to itself."""

    def __repr__(self) -> str:
        name, partition = type(self).__name__, self._partition
        pinned: list[str] = list(self.config.pinned)
        books: list[str] = []
        if partition is not None:
            pinned, books = partition.describe()["private"], partition.hosted()
        if pinned:
            return f"{name}({' '.join(pinned)})"
        number = self.config.stream.rpartition("/")[2]
        more = f" and {len(books) - _NAMED_MAX} more" if len(books) > _NAMED_MAX else ""
        return (
            " ".join([f"{name}(p{number}{':' if books else ''}", *books[:_NAMED_MAX]]) + more + ")"
        )

    def machine(self) -> BooksMachine:
        return BooksMachine()

    def codec(self) -> Codec[Any, Any]:
        return BooksCodec()

    def projection(self) -> Projection:
        return BooksProjection()

    def publisher(self) -> Publisher:
        if self.config.redis_url is None:
            return super().publisher()
        self._market = MarketPublisher(self.config.redis_url)
        return self._market.publish


class BooksClient(Caller[Command, Reply]):
    """Asks books, and lists and halts instruments; a reply is durable."""

    @classmethod
    async def connect(cls, database_url: str, *, name: str) -> BooksClient:
        """A client inside any process that can reach the partitions; ``name`` shows in Postgres."""
        return await cls.connected(database_url, name, KIND, BooksMachine(), BooksCodec())


def books_recipe(
    *, database_url: str, redis_url: str | None, options: Options | None = None
) -> Recipe:
    """How the actors are made that host order books."""
    return Recipe(OrderBookActor, ActorConfig(KIND, database_url, redis_url, options or Options()))

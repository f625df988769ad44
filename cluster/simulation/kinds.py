"""The kinds of entities that a simulated platform hosts: their rules and their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from actors.accounts import accounts_codec
from actors.books import BooksCodec
from actors.durable.records import Codec
from domain.accounts import commands as cmd
from domain.accounts.machine import AccountsMachine
from domain.accounts.policy import FeeRate, Policy
from domain.durable import Machine
from domain.trading.commands import Reply as BookReply
from domain.trading.machine import BooksMachine

POLICY = Policy(
    fees={"USD": FeeRate(50, 10), "EUR": FeeRate(25, 0)},
    daily_limits={"USD": 60_000},
    holds_max=6,
)


class Kind(NamedTuple):
    """One kind: its name, its rules, its types on the wire, and those of its stored answers;
    ``gateway`` is what its callers are called."""

    name: str
    machine: Callable[[], Machine[Any]]
    codec: Callable[[], Codec[Any, Any]]
    replies: Any
    gateway: str

    def decoder(self) -> Callable[[bytes], Any]:
        """Reads stored answers."""
        return msgspec.msgpack.Decoder(self.replies).decode


ACCOUNTS = Kind("accounts", lambda: AccountsMachine(POLICY), accounts_codec, cmd.Reply, "gateway")
BOOKS = Kind("books", BooksMachine, BooksCodec, BookReply, "desk")

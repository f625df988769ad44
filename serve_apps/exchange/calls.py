"""What a request has become when it is handed on, whichever way it came in."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from domain.accounts.commands import Command
from domain.durable import Rejection, Unavailable
from serve_apps.exchange.errors import failed
from serve_apps.exchange.keys import ApiKey
from serve_apps.exchange.limits import OrderCount
from serve_apps.exchange.orders import digest
from serve_apps.exchange.parameters import Parameters

if TYPE_CHECKING:
    from serve_apps.exchange.desk import Desk

Access = Literal["anyone", "key", "read", "trade"]
"""Nobody in particular; the holder of a key, unsigned; a signed request with this scope."""


class Call:
    """A request that has been read, and whose sender is known.

    ``mark`` is the request's signature: the same request, sent again, has the same. ``count`` is
    set when orders have been counted.
    """

    __slots__ = ("_key", "address", "content", "content_type", "count", "mark", "now", "params")

    def __init__(
        self, params: Parameters, now: int, *, key: ApiKey | None = None, mark: str = ""
    ) -> None:
        self.params = params
        self.now = now
        self.mark = mark
        self.address = ""
        self.content: Any = None
        self.content_type = b""
        self.count: OrderCount | None = None
        self._key = key

    @property
    def key(self) -> ApiKey:
        """With which key the request was signed."""
        assert self._key is not None
        return self._key

    @property
    def user(self) -> int:
        """Whose request it is."""
        return self.key.user

    def number(self, purpose: str) -> bytes:
        """What stands for this request for ever, so that it is carried out once.

        A request without a signature, of a session that has logged on, is always a new one.
        """
        if not self.mark:
            return secrets.token_bytes(16)
        return digest(self.user, purpose, self.mark)


def client_from(number: bytes) -> str:
    """An order id of 22 characters, for an order whose client has chosen none."""
    return base64.urlsafe_b64encode(number)[:22].decode()


class Ticket:
    """A command for the customer's entity, and what its reply means to the client."""

    __slots__ = ("command", "finish")

    def __init__(self, command: Command, finish: Callable[[Any], Any]) -> None:
        self.command = command
        self.finish = finish

    def answer(self, reply: Any) -> Any:
        """The answer to the client. Raises ``Refused``."""
        if isinstance(reply, Rejection | Unavailable):
            raise failed(reply)
        return self.finish(reply)


Ask = Callable[["Desk", Call], Awaitable[Any]]
Order = Callable[["Desk", Call], Ticket | Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the dialect can do.

    ``method`` and ``path`` on REST, ``name`` on the websocket; one of them may be empty. Either
    ``ask`` answers, or ``order`` makes a ticket: many of these travel together. ``weight`` counts
    against the address, for ``trade`` against the customer. ``status`` where an answer says so.
    With ``fresh_s`` the answer is the same for everybody, and may be kept for so long.
    """

    name: str
    method: str
    path: str
    access: Access
    summary: str
    weight: int | Callable[[Parameters], int] = 1
    ask: Ask | None = None
    order: Order | None = None
    ours: bool = False
    batch: bool = False
    fresh_s: int = 0

    def cost(self, params: Parameters) -> int:
        """The weight of a request."""
        weight = self.weight
        return weight if isinstance(weight, int) else weight(params)


class Answer:
    """An answer with a status of its own: a partial success, or a body that is encoded already."""

    __slots__ = ("body", "content_type", "status")

    def __init__(
        self, body: Any, status: int = 200, content_type: bytes = b"application/json"
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type

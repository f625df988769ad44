"""What the dialect says when something is refused: one table of codes, texts and statuses.

The texts matter: clients tell errors apart by them. ``Refused`` ends the reading of a request;
what an order book or an account refuses comes as a code from there and is looked up here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from domain.durable import Rejection, Unavailable


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """An error as the dialect writes it."""

    code: int
    msg: str
    data: Any = None


class Refused(Exception):
    """A request is refused with a code of the dialect; nothing was done.

    ``retry_after_s`` is for 429 and 418: in how many seconds to ask again.
    """

    def __init__(
        self, code: int, msg: str, status: int = 400, *, retry_after_s: int = 0, data: Any = None
    ) -> None:
        super().__init__(code, msg)
        self.code = code
        self.msg = msg
        self.status = status
        self.retry_after_s = retry_after_s
        self.data = data

    @property
    def body(self) -> ErrorBody:
        """What is answered."""
        return ErrorBody(self.code, self.msg, self.data)


def missing(name: str) -> Refused:
    """A parameter that must be there is not."""
    return Refused(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def illegal(name: str, legal: str) -> Refused:
    """A parameter has characters that it may not have."""
    return Refused(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def invalid(name: str) -> Refused:
    """A parameter has a value that it may not have."""
    return Refused(-1130, f"Data sent for parameter '{name}' is not valid.")


def filter_failure(name: str) -> Refused:
    """An order breaks a rule of its instrument."""
    return Refused(-1013, f"Filter failure: {name}")


def bad_symbol() -> Refused:
    """There is no such instrument."""
    return Refused(-1121, "Invalid symbol.")


def no_such_order() -> Refused:
    """The customer has no such order."""
    return Refused(-2013, "Order does not exist.")


def outcome_unknown() -> Refused:
    """Nobody knows yet whether it was carried out."""
    return Refused(
        -1007,
        "Timeout waiting for response from backend server."
        " Send status unknown; execution status unknown.",
        504,
    )


def unavailable() -> Refused:
    """Something that is needed to answer is away; nothing was done."""
    return Refused(-1001, "Internal error; unable to process your request. Please try again.", 503)


def failure(status: int) -> Refused:
    """What went wrong before a request was understood, or was not foreseen at all."""
    if status == 413:
        return Refused(-1101, "Too many parameters sent for this endpoint.", status)
    if status == 503:
        return unavailable()
    return Refused(-1000, "An unknown error occurred while processing the request.", status)


_BALANCE: Final = "Account has insufficient balance for requested action."
_CLOSED: Final = "Market is closed."
_DUPLICATE: Final = "Duplicate order sent."
_BUSY: Final = (
    "Server is currently overloaded with other requests. Please try again in a few minutes."
)
_CLIENT_ID: Final = (
    "Illegal characters found in parameter 'newClientOrderId';"
    " legal range is '^[a-zA-Z0-9-_.:/]{1,36}$'."
)
_NOT_ATTEMPTED: Final = "The action before it was refused, so it was not attempted."
_UNSUPPORTED: Final = "Unsupported order combination"

PLACE: Final[dict[str, tuple[int, str]]] = {
    "insufficient_balance": (-2010, _BALANCE),
    "unknown_customer": (-2010, _BALANCE),
    "not_open": (-2010, _BALANCE),
    "duplicate_client_id": (-2010, _DUPLICATE),
    "duplicate_order": (-2010, _DUPLICATE),
    "id_reused": (-2010, _DUPLICATE),
    "would_match": (-2010, "Order would immediately match and take."),
    "would_trigger": (-2010, "Order would trigger immediately."),
    "market_halted": (-2010, _CLOSED),
    "market_closed": (-2010, _CLOSED),
    "unknown_instrument": (-1121, "Invalid symbol."),
    "unknown_symbol": (-1121, "Invalid symbol."),
    "no_liquidity": (-2010, "Order book liquidity is less than symbol minimum quantity."),
    "too_many_orders": (-1013, "Filter failure: MAX_NUM_ORDERS"),
    "filter_price": (-1013, "Filter failure: PRICE_FILTER"),
    "filter_band": (-1013, "Filter failure: PERCENT_PRICE"),
    "filter_notional": (-1013, "Filter failure: NOTIONAL"),
    "filter_quantity": (-1013, "Filter failure: LOT_SIZE"),
    "filter_display": (-1013, "Filter failure: ICEBERG_PARTS"),
    "client_id_invalid": (-1100, _CLIENT_ID),
    "expiry_invalid": (-1130, "Data sent for parameter 'goodTillDate' is not valid."),
    "not_attempted": (-2010, _NOT_ATTEMPTED),
    "previous_refused": (-2010, _NOT_ATTEMPTED),
    "unsupported": (-1014, _UNSUPPORTED),
    "overloaded": (-1008, _BUSY),
}
"""Why an order is not taken, as accounts and books say it."""

CANCEL: Final[dict[str, tuple[int, str]]] = {
    "unknown_order": (-2011, "Unknown order sent."),
    "overloaded": PLACE["overloaded"],
}
"""Why an order is not cancelled."""

AMEND: Final[dict[str, tuple[int, str]]] = {
    "unknown_order": (-2013, "Order does not exist."),
    "amend_quantity": (-2038, "Order amend (quantity increase) is not supported."),
    "no_change": (-2038, "The requested action would change no state; rejecting"),
    "filter_quantity": PLACE["filter_quantity"],
    "filter_notional": PLACE["filter_notional"],
    "overloaded": PLACE["overloaded"],
}
"""Why an order is not amended."""


def placing(code: str) -> Refused:
    """An account or a book has refused an order."""
    number, text = PLACE.get(code, (-2010, "This action is disabled on this account."))
    return Refused(number, text, 503 if number == -1008 else 400)


def cancelling(code: str) -> Refused:
    """An account or a book has refused to cancel."""
    number, text = CANCEL.get(code, (-2011, "Unknown order sent."))
    return Refused(number, text)


def amending(code: str) -> Refused:
    """An account or a book has refused to amend."""
    number, text = AMEND.get(code, (-2038, "Order amend is not supported for this symbol."))
    return Refused(number, text)


def failed(reply: Rejection | Unavailable) -> Refused:
    """A whole command has no result."""
    return placing(reply.code) if isinstance(reply, Rejection) else outcome_unknown()

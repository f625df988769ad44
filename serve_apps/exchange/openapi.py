"""The description of the trading API, made from its table: at ``/api/v3/openapi.json``.

A document of its own beside the platform's: parameters come in queries and forms, requests are
signed, and errors are the dialect's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from serve_apps.exchange.batch import ROWS_MAX
from serve_apps.exchange.calls import Operation
from serve_apps.exchange.orders import PREVENTIONS, SIDES, TIMES, TYPES

_ORDER: Final = (
    "*symbol *side *type timeInForce quantity quoteOrderQty price stopPrice icebergQty"
    " newClientOrderId newOrderRespType selfTradePreventionMode goodTillDate"
)
_NAMED: Final = "*symbol orderId origClientOrderId"
_TIMES: Final = "startTime endTime limit"

PARAMETERS: Final[dict[str, str]] = {
    "POST order": _ORDER,
    "POST order/test": _ORDER + " computeCommissionRates",
    "POST order/cancelReplace": _ORDER
    + " *cancelReplaceMode cancelOrderId cancelOrigClientOrderId cancelNewClientOrderId"
    " orderRateLimitExceededMode",
    "PUT order/amend/keepPriority": _NAMED + " *newQty newClientOrderId",
    "DELETE order": _NAMED + " newClientOrderId",
    "GET order": _NAMED,
    "DELETE openOrders": "*symbol",
    "GET openOrders": "symbol",
    "GET allOrders": "*symbol orderId " + _TIMES,
    "GET myTrades": "*symbol orderId fromId " + _TIMES,
    "GET myPreventedMatches": "*symbol orderId preventedMatchId",
    "GET account": "omitZeroBalances",
    "POST countdownCancelAll": "symbol *countdownTime",
    "PUT userDataStream": "*listenKey",
    "DELETE userDataStream": "*listenKey",
    "GET exchangeInfo": "symbol symbols symbolStatus showPermissionSets",
    "GET depth": "*symbol limit",
    "GET trades": "*symbol limit",
    "GET historicalTrades": "*symbol fromId limit",
    "GET aggTrades": "*symbol fromId " + _TIMES,
    "GET klines": "*symbol *interval " + _TIMES,
    "GET uiKlines": "*symbol *interval " + _TIMES,
    "GET avgPrice": "*symbol",
    "GET ticker/24hr": "symbol symbols type",
    "GET ticker/price": "symbol symbols",
    "GET ticker/bookTicker": "symbol symbols",
}
"""Names of the parameters of each operation; those with a star must be sent."""

_CHOICES: Final[dict[str, list[str]]] = {
    "side": list(SIDES),
    "type": list(TYPES),
    "timeInForce": list(TIMES),
    "selfTradePreventionMode": list(PREVENTIONS),
    "newOrderRespType": ["ACK", "RESULT", "FULL"],
    "cancelReplaceMode": ["STOP_ON_FAILURE", "ALLOW_FAILURE"],
    "orderRateLimitExceededMode": ["DO_NOTHING", "CANCEL_ONLY"],
}
_INTEGERS: Final = frozenset(
    {
        "orderId",
        "fromId",
        "limit",
        "startTime",
        "endTime",
        "countdownTime",
        "goodTillDate",
        "timestamp",
        "preventedMatchId",
    }
)
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["code", "msg"],
    "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}},
}
_BATCH: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["symbol"],
    "properties": {
        "symbol": {"type": "string"},
        "rows": {
            "type": "array",
            "maxItems": ROWS_MAX,
            "description": (
                "In ticks and lots. Place: [1, side, type, timeInForce, price, quantity, client,"
                " trigger, display, selfTrade, expiresAt, budget]; cancel: [2, order, client];"
                " amend: [3, order, quantity, client]; cancel all: [4]."
            ),
            "items": {"type": "array"},
        },
        "orders": {
            "type": "array",
            "maxItems": ROWS_MAX,
            "description": "With the parameters of POST /api/v3/order.",
            "items": {"type": "object"},
        },
    },
}


def description(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for path in operation.path.split():
            paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kontor trading API",
            "version": "3",
            "description": (
                "Requests of `read` and `trade` are signed: parameters `timestamp` and"
                " `signature`, the latter HMAC-SHA256 of query string and body in hex."
                " On the websocket `/ws-api/v3` the same operations have the names in `x-method`."
            ),
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-MBX-APIKEY"}},
        },
    }


def _operation(operation: Operation, path: str) -> dict[str, Any]:
    names = PARAMETERS.get(f"{operation.method} {path.removeprefix('/api/v3/')}", "").split()
    if operation.access in ("read", "trade"):
        names += ["*timestamp", "recvWindow", "*signature"]
    found: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [_parameter(name) for name in names],
        "responses": {
            "200": {"description": "Done"},
            "default": {
                "description": "Refused; any 5xx means that the outcome is unknown",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "security": [] if operation.access == "anyone" else [{"key": []}],
        "x-access": operation.access,
    }
    if operation.fresh_s:
        found["responses"]["304"] = {"description": "As `If-None-Match` says, it is known already"}
    if operation.name:
        found["x-method"] = operation.name
    if operation.ours:
        found["description"] = "Ours, on top of the dialect."
    if operation.batch:
        kinds = ("application/json", "application/msgpack")
        content = {"schema": _BATCH}
        found["requestBody"] = {"required": True, "content": dict.fromkeys(kinds, content)}
    return found


def _parameter(name: str) -> dict[str, Any]:
    plain = name.removeprefix("*")
    schema: dict[str, Any] = {"type": "integer" if plain in _INTEGERS else "string"}
    if plain in _CHOICES:
        schema["enum"] = _CHOICES[plain]
    return {"name": plain, "in": "query", "required": name != plain, "schema": schema}

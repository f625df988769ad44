"""Examples for the API's description; a test reads each one as what it is an example of."""

from __future__ import annotations

from typing import Any, Final

_ACCOUNT: Final = "48201937560092"
_OTHER: Final = "73015528410059"
_AT: Final = "2026-11-20T09:30:00.125000Z"

USER: Final[dict[str, Any]] = {
    "id": "4820193756",
    "email": "ann@example.com",
    "name": "Ann Example",
}
TOKEN: Final[dict[str, Any]] = {
    "token": "kontor_6n0fJ0Xc1Zb9QpXo2hVwq0m8m1YyC3nT4u5R7s8t9a0",
    "expires_at": "2027-02-18T09:30:00.000000Z",
    "user": USER,
}
ACCOUNT: Final[dict[str, Any]] = {
    "id": _ACCOUNT,
    "name": "US dollar",
    "currency": "USD",
    "status": "open",
    "balance": "100.00",
    "held": "20.00",
    "available": "80.00",
    "opened_at": _AT,
}
PROFILE: Final[dict[str, Any]] = {
    **USER,
    "accounts": [ACCOUNT],
    "limits": [{"currency": "USD", "limit": "10000.00", "used": "12.50"}],
}
SESSION: Final[dict[str, Any]] = {
    "id": "17",
    "kind": "api",
    "current": True,
    "created_at": _AT,
    "last_seen_at": _AT,
    "expires_at": "2027-02-18T09:30:00.000000Z",
    "ip": "192.0.2.7",
    "user_agent": "curl/8.5.0",
}
TRANSFER_FORM: Final[dict[str, Any]] = {
    "from": _ACCOUNT,
    "to": _OTHER,
    "amount": "12.50",
    "reference": "Rent November",
}
TRANSFER: Final[dict[str, Any]] = {
    "id": "0f6c2b8e5d3a4719a2c4e6f8091b3d5f",
    "status": "completed",
    "from": _ACCOUNT,
    "to": _OTHER,
    "amount": "12.50",
    "fee": "0.13",
    "currency": "USD",
    "credited": "12.50",
    "credited_currency": "USD",
    "rate": None,
    "reference": "Rent November",
    "reason": "",
    "at": _AT,
}
HISTORY: Final[dict[str, Any]] = {
    **TRANSFER,
    "kind": "transfer",
    "direction": "out",
    "completed_at": "2026-11-20T09:30:00.131000Z",
}
HOLD: Final[dict[str, Any]] = {
    "id": "c1a9d0e8b7f64523910fe2d3c4b5a697",
    "account": _ACCOUNT,
    "amount": "20.00",
    "currency": "USD",
    "expires_at": "2026-11-27T09:30:00.125000Z",
    "purpose": "Deposit for a bicycle",
}
QUOTE: Final[dict[str, Any]] = {
    "from": "USD",
    "to": "EUR",
    "rate": "0.858351",
    "quote": "lKNVU0SjRVVSzjMphTjPAAZB",
    "expires_at": "2026-11-20T09:30:30.125000Z",
    "amount": "10.00",
    "fee": "0.00",
    "credited": "8.58",
}
_BALANCE: Final[dict[str, Any]] = {
    "asset": "USD",
    "total": "250.00000000",
    "held": "100.00000000",
    "available": "150.00000000",
}
BROKERAGE_MOVE: Final[dict[str, Any]] = {
    "id": "7fa4c2d19be0438896a5d3f2e1c0b987",
    "account": _ACCOUNT,
    "amount": "50.00",
    "currency": "USD",
    "balance": _BALANCE,
    "at": _AT,
}
BROKERAGE: Final[dict[str, Any]] = {
    "base": "USD",
    "total": "1250.00000000",
    "open_orders": 1,
    "balances": [
        {
            "asset": "BTC",
            "total": "0.01000000",
            "held": "0.00000000",
            "available": "0.01000000",
            "symbol": "BTCUSD",
            "price": "100000.00000000",
            "value": "1000.00000000",
        },
        {**_BALANCE, "symbol": None, "price": None, "value": "250.00000000"},
    ],
}
BATCH: Final[dict[str, Any]] = {
    "transfers": [
        {"id": "payroll-11-001", "from": _ACCOUNT, "to": _OTHER, "amount": "1200.00"},
        {
            "id": "payroll-11-002",
            "from": _ACCOUNT,
            "to": _OTHER,
            "amount": "80.00",
            "group": "bonus",
        },
    ]
}
BATCH_RESULT: Final[dict[str, Any]] = {
    "results": [
        {"id": "payroll-11-001", "status": "completed", "transfer": TRANSFER["id"]},
        {
            "id": "payroll-11-002",
            "status": "rejected",
            "transfer": "5b1d3f0f6c2b8e5d3a4719a2c4e6f809",
            "code": "insufficient_funds",
        },
    ]
}

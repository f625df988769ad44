"""Whose request it is: key, time window and signature of what the dialect calls SIGNED requests."""

from __future__ import annotations

import re
from typing import Final

from serve_apps.exchange.errors import Refused, missing
from serve_apps.exchange.keys import ApiKey, ApiKeys
from serve_apps.exchange.parameters import Parameters, moment, text

WINDOW_MS: Final = 5_000
WINDOW_MAX_MS: Final = 60_000
AHEAD_MAX_US: Final = 1_000_000

_WINDOW: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?", re.ASCII)


def rejected_key() -> Refused:
    """There is no such key, or it does not permit this from there."""
    return Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)


async def find_key(keys: ApiKeys, text: str) -> ApiKey:
    """The key with which a request comes. Raises ``Refused`` (-2014, -2015)."""
    if not text or len(text) > 200:
        raise Refused(-2014, "API-key format invalid.", 401)
    key = keys.known(text) or await keys.find(text)
    if key is None:
        raise rejected_key()
    return key


def check_time(params: Parameters, now_us: int) -> None:
    """The request is neither from the future nor too old. Raises ``Refused`` (-1021, ...)."""
    at = moment(params, "timestamp")
    if at is None:
        raise missing("timestamp")
    window_us = WINDOW_MS * 1_000
    asked = text(params, "recvWindow")
    if asked:
        if _WINDOW.fullmatch(asked) is None:
            raise missing("recvWindow")
        whole, _, fraction = asked.partition(".")
        window_us = int(whole) * 1_000 + int(fraction.ljust(3, "0"))
        if window_us > WINDOW_MAX_MS * 1_000:
            raise Refused(-1131, "recvWindow must be less than 60000.")
    if at >= now_us + AHEAD_MAX_US:
        raise Refused(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_us - at > window_us:
        raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_signature(key: ApiKey, payload: bytes, signature: str) -> None:
    """The request was made by whoever holds the key's secret. Raises ``Refused`` (-1022)."""
    if not signature:
        raise missing("signature")
    if not key.signed(payload, signature):
        raise Refused(-1022, "Signature for this request is not valid.")

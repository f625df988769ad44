"""Rejection codes as HTTP answers (RFC 9457): one table for the whole platform.

A refusal that depends on how things stand (balance, status) is a 409, one that would be refused
at any time a 422.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from domain.accounts.codes import Code
from domain.accounts.trading import OrderCode
from domain.durable import Rejection
from domain.identity.permissions import RoleCode
from domain.identity.rules import IdentityCode
from domain.trading.rules import BookCode

CONTENT_TYPE: Final = b"application/problem+json"

STATUS: Final[dict[str, int]] = {
    # The request as such
    "malformed_body": 400,
    "malformed_query": 400,
    "cursor_invalid": 400,
    "idempotency_key_required": 400,
    "idempotency_key_invalid": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "body_invalid": 422,
    "too_many_transfers": 422,
    "rate_limited": 429,
    "internal_error": 500,
    "unavailable": 503,
    "outcome_unknown": 503,
    # API keys
    "label_invalid": 422,
    "scopes_invalid": 422,
    "networks_invalid": 422,
    "public_key_invalid": 422,
    "too_many_keys": 409,
    # Webhooks
    "url_invalid": 422,
    "kinds_invalid": 422,
    "too_many_webhooks": 409,
    "webhook_disabled": 409,
    # Notifications
    "notification_kind_unknown": 422,
    "notification_channel_unknown": 422,
    "notification_fixed": 422,
    # Identity
    IdentityCode.TOO_MANY_ATTEMPTS: 429,
    IdentityCode.BUSY: 503,
    IdentityCode.EMAIL_INVALID: 422,
    IdentityCode.NAME_INVALID: 422,
    IdentityCode.PASSWORD_TOO_SHORT: 422,
    IdentityCode.PASSWORD_TOO_LONG: 422,
    IdentityCode.PASSWORD_TOO_SIMPLE: 422,
    IdentityCode.EMAIL_TAKEN: 409,
    IdentityCode.CREDENTIALS_INVALID: 401,
    IdentityCode.SECOND_FACTOR_REQUIRED: 401,
    IdentityCode.TICKET_INVALID: 401,
    IdentityCode.PASSWORD_WRONG: 422,
    IdentityCode.CODE_INVALID: 422,
    IdentityCode.CODE_USED: 422,
    IdentityCode.LINK_INVALID: 422,
    IdentityCode.SECOND_FACTOR_ON: 409,
    IdentityCode.SECOND_FACTOR_OFF: 409,
    IdentityCode.SECOND_FACTOR_MISSING: 403,
    IdentityCode.CONFIRMATION_REQUIRED: 403,
    IdentityCode.CONFIRMATION_UNKNOWN: 404,
    IdentityCode.CONFIRMATION_CHANGED: 409,
    IdentityCode.CONFIRMATION_USED: 409,
    IdentityCode.CONFIRMATION_LOCKED: 409,
    IdentityCode.CONFIRMATION_EXPIRED: 409,
    IdentityCode.CONFIRMATION_OPEN: 409,
    IdentityCode.ACCOUNTS_IN_USE: 409,
    IdentityCode.ROLES_HELD: 409,
    IdentityCode.UNAUTHENTICATED: 401,
    IdentityCode.FORM_EXPIRED: 403,
    "account_own": 409,
    # Roles
    RoleCode.ROLE_UNKNOWN: 422,
    RoleCode.USER_UNKNOWN: 404,
    RoleCode.ROLE_OWN: 409,
    RoleCode.ROLE_HELD: 409,
    RoleCode.ROLE_NOT_HELD: 409,
    RoleCode.ADMINISTRATOR_EXISTS: 409,
    RoleCode.LAST_ADMINISTRATOR: 409,
    # Accounts
    Code.ID_REUSED: 422,
    Code.AMOUNT_INVALID: 422,
    Code.TOO_MANY_DECIMALS: 422,
    Code.AMOUNT_NOT_POSITIVE: 422,
    Code.AMOUNT_TOO_LARGE: 422,
    Code.TEXT_INVALID: 422,
    Code.REFERENCE_TOO_LONG: 422,
    Code.SAME_ACCOUNT: 422,
    Code.UNKNOWN_CUSTOMER: 404,
    Code.UNKNOWN_SOURCE_ACCOUNT: 404,
    Code.UNKNOWN_DESTINATION_ACCOUNT: 422,
    Code.UNKNOWN_CURRENCY: 422,
    Code.ACCOUNT_CLOSED: 409,
    Code.ACCOUNT_FROZEN: 409,
    Code.DESTINATION_CLOSED: 409,
    Code.CURRENCY_MISMATCH: 422,
    Code.RATE_REQUIRED: 422,
    Code.QUOTE_INVALID: 422,
    Code.QUOTE_EXPIRED: 409,
    Code.AMOUNT_TOO_SMALL: 422,
    Code.HOLD_UNKNOWN: 404,
    Code.HOLD_EXCEEDED: 409,
    Code.EXPIRY_INVALID: 422,
    Code.DAILY_LIMIT_EXCEEDED: 409,
    Code.INSUFFICIENT_FUNDS: 409,
    Code.ACCOUNT_NOT_EMPTY: 409,
    Code.TOO_MANY_ACCOUNTS: 409,
    Code.TOO_MANY_HOLDS: 409,
    Code.LINKED_FAILED: 409,
    Code.REASON_MISSING: 422,
    "canary_not_possible": 409,
    Code.ADJUSTMENT_UNKNOWN: 404,
    Code.ADJUSTMENT_OWN: 409,
    Code.ADJUSTMENT_MAKER: 409,
    Code.ADJUSTMENT_CHANGED: 409,
    Code.ADJUSTMENT_EXPIRED: 409,
    Code.TOO_MANY_ADJUSTMENTS: 409,
    Code.ASSET_INVALID: 422,
    # Orders, as far as the customer's side refuses them
    OrderCode.FILTER_QUANTITY: 422,
    OrderCode.FILTER_PRICE: 422,
    OrderCode.FILTER_NOTIONAL: 422,
    OrderCode.CLIENT_ID_INVALID: 422,
    OrderCode.DUPLICATE_CLIENT_ID: 409,
    OrderCode.TOO_MANY_ORDERS: 409,
    OrderCode.UNKNOWN_ORDER: 404,
    OrderCode.NOT_ATTEMPTED: 409,
    OrderCode.INSUFFICIENT_BALANCE: 409,
    # Instruments
    BookCode.SYMBOL_INVALID: 422,
    BookCode.RULES_INVALID: 422,
    BookCode.UNKNOWN_INSTRUMENT: 404,
    BookCode.ALREADY_LISTED: 409,
    BookCode.STATUS_INVALID: 409,
    BookCode.TIME_INVALID: 422,
}
"""Code to HTTP status. A code that is missing here is a bug that a test names."""

SENTENCES: Final[dict[str, str]] = {
    "malformed_body": "The body cannot be read.",
    "malformed_query": "A parameter of the query cannot be read.",
    "cursor_invalid": "The cursor is not one that this list has given.",
    "idempotency_key_required": "This request needs an Idempotency-Key header.",
    "idempotency_key_invalid": "An Idempotency-Key has 1 to 255 printable ASCII characters.",
    "not_found": "There is nothing here.",
    "method_not_allowed": "This address does not know the method.",
    "request_timeout": "The body did not arrive in time.",
    "body_too_large": "The body is larger than allowed.",
    "unsupported_media_type": "The body is of a type that is not understood here.",
    "body_invalid": "A field of the body is missing or wrong.",
    "too_many_transfers": "A batch has 1 to 8,190 transfers.",
    "rate_limited": "You ask more often than is allowed. Wait as long as Retry-After says.",
    "internal_error": "Something went wrong on our side.",
    "unavailable": "The service is not available for the moment. Try again.",
    "outcome_unknown": (
        "It is not known yet whether this was carried out. Ask again with the same key."
    ),
    "label_invalid": "A label has 1 to 80 printable characters.",
    "scopes_invalid": "The scopes are read, trade or both.",
    "networks_invalid": "A network is an address or a network in CIDR form; 30 at most.",
    "public_key_invalid": "This is no Ed25519 public key in PEM.",
    "notification_kind_unknown": "There is no such kind of notification.",
    "notification_channel_unknown": "This kind is not told over this channel.",
    "notification_fixed": "Notifications about security cannot be switched off.",
    "too_many_keys": "You have as many keys as one may. Revoke one first.",
    "url_invalid": "This is no address that messages can be sent to.",
    "kinds_invalid": "One of the kinds is none that webhooks are told of.",
    "too_many_webhooks": "You have as many endpoints as one may. Delete one first.",
    "canary_not_possible": "This cannot be done with the canary now.",
    "webhook_disabled": "The endpoint is switched off. Switch it on again first.",
    IdentityCode.TOO_MANY_ATTEMPTS: "Too many attempts have failed. Wait a little and try again.",
    IdentityCode.BUSY: "Too many people are logging in at the moment. Try again in a second.",
    IdentityCode.EMAIL_INVALID: "This is not an e-mail address.",
    IdentityCode.NAME_INVALID: "A name has 1 to 100 characters.",
    IdentityCode.PASSWORD_TOO_SHORT: "A password has at least 8 characters.",
    IdentityCode.PASSWORD_TOO_LONG: "A password has at most 256 characters.",
    IdentityCode.PASSWORD_TOO_SIMPLE: "This password is too easy to guess.",
    IdentityCode.EMAIL_TAKEN: "Somebody has already signed up with this e-mail address.",
    IdentityCode.CREDENTIALS_INVALID: "E-mail address and password do not belong together.",
    IdentityCode.SECOND_FACTOR_REQUIRED: "A code of your second factor is needed to log in.",
    IdentityCode.TICKET_INVALID: "This login took too long. Start again with the password.",
    IdentityCode.PASSWORD_WRONG: "This is not your present password.",
    IdentityCode.CODE_INVALID: "This code is wrong, or too old.",
    IdentityCode.CODE_USED: "This code was used already, and each counts once. Wait for the next:"
    " there is another every 30 seconds.",
    IdentityCode.LINK_INVALID: "This link was used, is too old, or was replaced by a newer one.",
    IdentityCode.SECOND_FACTOR_ON: "The second factor is on already.",
    IdentityCode.SECOND_FACTOR_OFF: "The second factor is not on.",
    IdentityCode.SECOND_FACTOR_MISSING: (
        "This needs a second factor. Set one up on the page Profile and security."
    ),
    IdentityCode.CONFIRMATION_REQUIRED: "Confirm this with a code of your second factor.",
    IdentityCode.CONFIRMATION_UNKNOWN: "There is no such confirmation in this session.",
    IdentityCode.CONFIRMATION_CHANGED: "Something else than this was confirmed. Confirm it anew.",
    IdentityCode.CONFIRMATION_USED: "The confirmation was used already. Confirm anew.",
    IdentityCode.CONFIRMATION_LOCKED: "Five codes were wrong. Start again.",
    IdentityCode.CONFIRMATION_EXPIRED: "Ten minutes are over. Start again.",
    IdentityCode.CONFIRMATION_OPEN: "The code for this confirmation has not been given yet.",
    IdentityCode.ACCOUNTS_IN_USE: (
        "There is still money, a hold, an open order or a payment on its way."
    ),
    IdentityCode.ROLES_HELD: "Have your roles taken back before you leave.",
    IdentityCode.UNAUTHENTICATED: "Log in first.",
    IdentityCode.FORM_EXPIRED: "This form is too old or was sent from elsewhere. Load it again.",
    Code.ID_REUSED: "This key was used before with another body.",
    Code.AMOUNT_INVALID: "An amount is digits with an optional decimal point.",
    Code.TOO_MANY_DECIMALS: "The amount has more decimals than its currency.",
    Code.AMOUNT_NOT_POSITIVE: "The amount must be more than zero.",
    Code.AMOUNT_TOO_LARGE: "The amount is larger than one movement may be.",
    Code.TEXT_INVALID: "A text has a character that cannot be stored.",
    Code.REFERENCE_TOO_LONG: "A reference has at most 140 characters.",
    Code.SAME_ACCOUNT: "Source and destination are the same account.",
    Code.UNKNOWN_CUSTOMER: "The customer has no accounts here.",
    Code.UNKNOWN_SOURCE_ACCOUNT: "You have no such account.",
    Code.UNKNOWN_DESTINATION_ACCOUNT: "No account has this number.",
    Code.UNKNOWN_CURRENCY: "No accounts are kept in this currency.",
    Code.ACCOUNT_CLOSED: "The account is closed.",
    Code.ACCOUNT_FROZEN: "The account is frozen: it receives, but nothing leaves it.",
    Code.DESTINATION_CLOSED: "The account to be credited is closed.",
    Code.CURRENCY_MISMATCH: "The destination is kept in another currency.",
    Code.RATE_REQUIRED: "There is no exchange rate for these currencies at the moment.",
    Code.QUOTE_INVALID: "The quote is not one of ours, or is for another transfer.",
    Code.QUOTE_EXPIRED: "The quote's time is over. Ask for a new one.",
    Code.AMOUNT_TOO_SMALL: "The amount converts to less than the smallest unit.",
    Code.HOLD_UNKNOWN: "No such hold is active.",
    Code.HOLD_EXCEEDED: "The hold does not hold that much any more.",
    Code.EXPIRY_INVALID: "It would end in the past, or too far in the future.",
    Code.DAILY_LIMIT_EXCEEDED: "Your limit of the day for this currency would be passed.",
    Code.INSUFFICIENT_FUNDS: "Less is available than amount and fee need.",
    Code.ACCOUNT_NOT_EMPTY: "The account has a balance, a hold or a payment on its way.",
    Code.TOO_MANY_ACCOUNTS: "You have opened as many accounts as one may.",
    Code.TOO_MANY_HOLDS: "You have as many active holds as one may.",
    Code.LINKED_FAILED: "Another transfer of the same linked group was refused.",
    Code.REASON_MISSING: "Say why.",
    "account_own": "Nobody does this to accounts of their own. Ask a colleague.",
    RoleCode.ROLE_UNKNOWN: "There is no such role to give or take.",
    RoleCode.USER_UNKNOWN: "Nobody has signed up with this.",
    RoleCode.ROLE_OWN: "Nobody gives a role to themselves. Ask another administrator.",
    RoleCode.ROLE_HELD: "They hold the role already.",
    RoleCode.ROLE_NOT_HELD: "They do not hold the role.",
    RoleCode.ADMINISTRATOR_EXISTS: "There is an administrator already. Ask them for the role.",
    RoleCode.LAST_ADMINISTRATOR: (
        "There would be no administrator left. Give the role to somebody else first."
    ),
    Code.ADJUSTMENT_UNKNOWN: "This adjustment does not wait for a decision any more.",
    Code.ADJUSTMENT_OWN: "Nobody makes or checks an adjustment of their own accounts.",
    Code.ADJUSTMENT_MAKER: "Who has made an adjustment does not check it.",
    Code.ADJUSTMENT_CHANGED: "The adjustment is not the one that you have seen. Look again.",
    Code.ADJUSTMENT_EXPIRED: "Nobody has decided the adjustment in time.",
    Code.TOO_MANY_ADJUSTMENTS: "As many adjustments of this customer wait as may.",
    Code.ASSET_INVALID: "An asset has a name of 2 to 10 capitals and digits, no currency's.",
    OrderCode.FILTER_QUANTITY: "The quantity is not one that this instrument allows.",
    OrderCode.FILTER_PRICE: "The price is missing, or not one that this instrument allows.",
    OrderCode.FILTER_NOTIONAL: "The order is worth less, or more, than this instrument allows.",
    OrderCode.CLIENT_ID_INVALID: "An order id of your own has at most 36 printable characters.",
    OrderCode.DUPLICATE_CLIENT_ID: "You have used this order id before.",
    OrderCode.TOO_MANY_ORDERS: "You have as many open orders as one may.",
    OrderCode.UNKNOWN_ORDER: "You have no such open order.",
    OrderCode.NOT_ATTEMPTED: "Not placed, because what it was to follow was refused.",
    OrderCode.INSUFFICIENT_BALANCE: "Less is available than the order could cost.",
    BookCode.SYMBOL_INVALID: "Base and quote are two names of 2 to 10 capitals and digits.",
    BookCode.RULES_INVALID: "A field of the listing cannot be read, or does not fit the others.",
    BookCode.UNKNOWN_INSTRUMENT: "Nothing is listed under this symbol.",
    BookCode.ALREADY_LISTED: "This symbol is or was an instrument's; it is never given again.",
    BookCode.STATUS_INVALID: "The instrument is not in a state in which that can be done.",
    BookCode.TIME_INVALID: "The time is not in the future.",
}
"""Code to a sentence for people."""

_encode: Final = msgspec.json.Encoder().encode


def status_of(code: str) -> int:
    """The HTTP status that goes with a rejection code."""
    return STATUS.get(code, 422)


def sentence(code: str) -> str:
    """What to tell people."""
    return SENTENCES.get(code, code)


def explain(refused: Rejection | None) -> str:
    """What to tell people, with how long to wait where that is known."""
    if refused is None:
        return ""
    wait = refused.fields.get("retry_after")
    if wait is None:
        return sentence(refused.code)
    return f"Too many attempts have failed. Try again in {wait} seconds."


def problem(rejection: Rejection, extra: Mapping[str, object] | None = None) -> bytes:
    """A problem document. ``type`` is relative: codes are documented where the API is."""
    code = str(rejection.code)
    document: dict[str, object] = {
        "type": f"/api/docs#{code}",
        "title": sentence(code),
        "status": status_of(code),
        "code": code,
    }
    if rejection.fields:
        document["fields"] = rejection.fields
    document.update(extra or {})
    return _encode(document)

"""From a template and values to a page: the environment, and how amounts and times look.

May read the templates that come with the package, nothing else.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from domain.accounts.commands import AccountStatus, TransferStatus
from domain.money import CURRENCIES, RATE_SCALE, format_amount
from serve_apps.identity.devices import browser_name
from serve_apps.pages.exchange import figures
from serve_apps.problems import sentence

TEMPLATES: Final = Path(__file__).parent / "templates"
MINUS: Final = "\u2212"
THIN_SPACE: Final = "\u2009"
_NO_BREAK: Final = "\u00a0"

NOTICES: Final[dict[str, str]] = {
    "welcome": "Welcome to Kontor. Your accounts are open.",
    "opened": "The account is open.",
    "closed": "The account is closed.",
    "renamed": "Your name is changed.",
    "revoked": "The session is ended.",
    "others-ended": "All other sessions and tokens are ended.",
    "password-changed": "The password is changed. All other sessions are ended.",
    "password-set": "The password is set. Log in with it.",
    "verified": "The e-mail address is confirmed.",
    "link-sent": "The link is on its way.",
    "second-factor-off": "The second factor is off.",
    "left": "Your accounts are closed. Goodbye.",
    "funded": "The money is at the exchange.",
    "withdrawn": "The money is back on your account.",
    "listed": "The instrument is listed.",
    "instrument-changed": "The instrument is changed.",
    "key-revoked": "The key is revoked.",
    "webhook-deleted": "The endpoint is deleted.",
    "webhook-pinged": "A test is on its way.",
    "webhook-enabled": "The endpoint is switched on again.",
    "resent": "The message is sent again.",
    "preferences": "What you hear of is changed.",
    "logged-out": "You are logged out.",
    "frozen": "The account is frozen. Its owner is told.",
    "unfrozen": "The freeze is taken off. The owner is told.",
    "limit-set": "The limit is set.",
    "proposed": "The adjustment is proposed. Somebody else decides.",
    "adjusted": "The adjustment is posted. The customer is told.",
    "not-adjusted": "The adjustment is refused. Nothing was moved.",
    "role-given": "The role is given. It counts within seconds.",
    "role-taken": "The role is taken. It counts within seconds.",
}
"""What ``?notice=`` may say; nothing else that stands in a URL is ever shown as a message."""

STATUS_WORDS: Final = {
    TransferStatus.PENDING: "On its way",
    TransferStatus.COMPLETED: "Completed",
    TransferStatus.RETURNED: "Returned",
}
ACCOUNT_WORDS: Final = {
    AccountStatus.OPEN: "Open",
    AccountStatus.FROZEN: "Frozen",
    AccountStatus.CLOSED: "Closed",
}


def money(amount: int, currency: str, *, sign: bool = False) -> str:
    """Minor units for people: thousands apart, a real minus, and a plus where ``sign`` asks."""
    whole, dot, fraction = format_amount(abs(amount), currency).partition(".")
    text = f"{int(whole):,}{dot}{fraction}"
    if amount < 0:
        return MINUS + text
    return "+" + text if sign and amount > 0 else text


def account_digits(account: int | str) -> str:
    """An account number in groups: ``1234 5678 9012 34``."""
    text = str(account)
    return _NO_BREAK.join(text[start : start + 4] for start in range(0, len(text), 4))


def as_datetime(at: datetime | int) -> datetime:
    """Microseconds since the epoch, or a time, as an aware time in UTC."""
    if isinstance(at, int):
        return datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
    return at.astimezone(UTC)


def time_tag(at: datetime | int, form: str = "long") -> Markup:
    """A ``<time>`` in UTC: ``day``, ``short`` (no year if it is this one), ``minute``,
    ``long`` (with seconds) or ``clock``.
    """
    moment = as_datetime(at)
    this_year = moment.year == datetime.now(UTC).year
    patterns = {
        "day": "{0.day} {0:%b %Y}",
        "short": "{0.day} {0:%b, %H:%M}" if this_year else "{0.day} {0:%b %Y}",
        "minute": "{0.day} {0:%b %Y, %H:%M}",
        "long": "{0.day} {0:%B %Y, %H:%M:%S} UTC",
        "clock": "{0:%H:%M:%S}",
    }
    shown = patterns[form].format(moment)
    exact = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact, f"{moment:%Y-%m-%d %H:%M:%S} UTC", shown
    )


def rate_digits(rate: int) -> str:
    """A scaled rate with at least four decimals and no more than are needed of six."""
    whole, fraction = divmod(rate * 1_000_000 // RATE_SCALE, 1_000_000)
    digits = f"{fraction:06d}".rstrip("0").ljust(4, "0")
    return f"{whole}.{digits}"


@functools.cache
def static_version(static_dir: str) -> str:
    """A mark that changes when the built assets do, so that browsers may keep them for ever."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(static_dir).rglob("*")) if static_dir else ():
        if path.is_file():
            stat = path.stat()
            digest.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}".encode())
    return digest.hexdigest()


@functools.cache
def make_environment(static_dir: str) -> jinja2.Environment:
    """Templates with everything escaped, and an error for every name that is not there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(
        money=money,
        digits=account_digits,
        time=time_tag,
        rate=rate_digits,
        sentence=sentence,
        browser=browser_name,
        hex=bytes.hex,
        price=figures.price,
        quantity=figures.quantity,
        quote_value=figures.value,
        holding=figures.holding,
        trimmed=figures.trimmed,
        compact=figures.compact,
        change=figures.percent,
        rate_percent=figures.rate_percent,
    )
    environment.globals.update(
        CURRENCIES=CURRENCIES,
        STATUS_WORDS=STATUS_WORDS,
        ACCOUNT_WORDS=ACCOUNT_WORDS,
        SIDE_WORDS=figures.SIDE_WORDS,
        TYPE_WORDS=figures.TYPE_WORDS,
        ORDER_WORDS=figures.ORDER_WORDS,
        KIND_WORDS=figures.KIND_WORDS,
        version=static_version(static_dir),
    )
    return environment


def render(environment: jinja2.Environment, template: str, values: Mapping[str, Any]) -> str:
    """One page as text."""
    return environment.get_template(template).render(values)

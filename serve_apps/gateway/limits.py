"""How often one may ask: by address, session, customer, and strictly where guessing pays.

Two mechanisms, because they must be true of different things. Every request is counted in memory
(``serve_apps.gateway.counts``) with the cost of its route: exact within a tenth of a second, and
free. What a stranger may try only a few times (passwords, codes, sign-ups, mails to others) is
asked of Redis each time by the library ``limits``, so that it is exact over all replicas.
While Redis is away, requests and logins go on by each replica's own counts. What gives something
away to whoever asks, a welcome bonus or a mail to any address, is refused until it is back.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, cast

import limits
import msgspec
import redis.asyncio
import redis.exceptions
import structlog
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import STRATEGIES, RateLimiter

from domain.durable import Rejection
from serve_apps.gateway.counts import KEYS_MAX, Key, SharedCounts, Window

log = structlog.get_logger("kontor.limits")

Strategy = Literal["fixed-window", "moving-window", "sliding-window-counter"]
Header = tuple[bytes, bytes]

SHARED_FACTOR: Final = 20
"""Clients whose address nobody knows share this many times what one address may."""

UNKNOWN_SESSION_COST: Final = 5
"""What a token costs that is none: it has to be looked for in Postgres."""

REDIS_TIMEOUT_S: Final = 0.5
REDIS_PAUSE_S: Final = 1.0
"""How long Redis is not asked after it has failed to answer."""

_IPV6_NETWORK: Final = 64
_REFUSING: Final = ("sign_up", "password_reset")
"""What gives something away: refused while Redis is away."""


class RequestLimits(msgspec.Struct, frozen=True):
    """What is allowed, in the notation of ``limits`` (``60/minute;600/hour``).

    ``address``, ``session`` and ``customer`` are one window each, in units of cost: of whoever has
    no session, of a session or token, and of all of a customer's together. The others are strict:
    by the address, and (``_subject``) by what is aimed at: an e-mail address, or a user.
    """

    address: str = "6000/minute"
    session: str = "60000/minute"
    customer: str = "120000/minute"
    strategy: Strategy = "moving-window"
    login: str = "60/minute;600/hour"
    login_subject: str = "20/minute;100/hour"
    sign_up: str = "60/minute;300/hour"
    sign_up_subject: str = "20/minute;60/hour"
    password_reset: str = "20/minute;60/hour"
    password_reset_subject: str = "3/minute;10/hour"
    second_factor: str = "60/minute;300/hour"
    second_factor_subject: str = "10/minute;50/hour"


STRICT: Final = ("login", "sign_up", "password_reset", "second_factor")


def check(settings: RequestLimits) -> None:
    """Raise ``ValueError`` for a limit that cannot be read, or that has the wrong form."""
    for name in ("address", "session", "customer"):
        if len(limits.parse_many(getattr(settings, name))) != 1:
            raise ValueError(f"the limit {name} must be a single one, such as 600/minute")
    for name in STRICT:
        limits.parse_many(getattr(settings, name))
        limits.parse_many(getattr(settings, f"{name}_subject"))


@dataclass(frozen=True, slots=True)
class _Rule:
    """A window of requests, counted by their cost."""

    name: str
    amount: int
    seconds: int

    @property
    def policy(self) -> bytes:
        """As ``RateLimit-Policy`` has it."""
        return b'"%b";q=%d;w=%d' % (self.name.encode(), self.amount, self.seconds)


def _rule(name: str, text: str) -> _Rule:
    item = limits.parse(text)
    return _Rule(name, item.amount, item.get_expiry())


class Told(NamedTuple):
    """What an answer says of the limits: ``RateLimit`` and its policy, and whether it is over."""

    headers: tuple[Header, ...]
    refused: Rejection | None = None


class _Member:
    """The windows of a session and of its customer, as long as both are the current ones."""

    __slots__ = ("keys", "session", "total", "until", "version")

    def __init__(self, session: Window, total: Window, keys: tuple[Key, Key]) -> None:
        self.session = session
        self.total = total
        self.keys = keys
        self.until = 0.0
        self.version = 0


class Gate:
    """Lets requests through, or not. ``open`` before the first one."""

    def __init__(self, settings: RequestLimits, counts: SharedCounts) -> None:
        check(settings)
        self._counts = counts
        self._address = _rule("address", settings.address)
        self._session = _rule("session", settings.session)
        self._customer = _rule("customer", settings.customer)
        self._shared = replace(self._address, amount=self._address.amount * SHARED_FACTOR)
        self._address_policy = (b"ratelimit-policy", self._address.policy)
        self._shared_policy = (b"ratelimit-policy", self._shared.policy)
        self._member_policy = (
            b"ratelimit-policy",
            self._session.policy + b", " + self._customer.policy,
        )
        self._session_left = b'"session";r=%d;t=%d'
        self._members: dict[int, _Member] = {}
        self._pressed: dict[str, float] = {}
        self._strict = _Strict(settings)

    def open(self, redis_client: redis.asyncio.Redis) -> None:
        """Count strictly with this Redis from now on."""
        self._strict.open(redis_client)

    def charge_address(self, address: str, cost: int) -> Told:
        """Count a request of somebody without a session."""
        rule, policy, now = self._address, self._address_policy, self._counts.now()
        if not address:
            rule, policy = self._shared, self._shared_policy
        window = self._counts.window((rule.name, network_of(address), rule.seconds), now)
        over = window.used + cost > rule.amount
        if over:
            self._press(network_of(address), now)
        else:
            window.untold += cost
        return self._told(rule, policy, rule.amount - window.used, now, over)

    def exhausted(self, address: str) -> bool:
        """Whether an address was refused in this interval: no session is looked for any more."""
        if not self._pressed:
            return False
        until = self._pressed.get(network_of(address), 0.0)
        return until > self._counts.now()

    def _press(self, network: str, now: float) -> None:
        if len(self._pressed) >= KEYS_MAX:
            self._pressed.clear()
        seconds = self._address.seconds
        self._pressed[network] = (int(now) // seconds + 1) * seconds

    def charge_member(self, session: int, customer: int, cost: int) -> Told:
        """Count a request by a session, whichever way it came."""
        counts, rule, whole = self._counts, self._session, self._customer
        now = counts.now()
        member = self._members.get(session)
        if member is None or now >= member.until or member.version != counts.version:
            member = self._follow(session, customer, now)
        window, total = member.session, member.total
        left = rule.amount - window.known - window.untold
        if cost > left:
            counts.touch(member.keys)
            return self._told(rule, self._member_policy, left, now, True)
        rest = whole.amount - total.known - total.untold
        if cost > rest:
            counts.touch(member.keys)
            return self._told(whole, self._member_policy, rest, now, True)
        if not window.untold:
            counts.touch(member.keys)
        window.untold += cost
        total.untold += cost
        shown = self._session_left % (left - cost, rule.seconds - int(now) % rule.seconds)
        return Told((self._member_policy, (b"ratelimit", shown)))

    def _follow(self, session: int, customer: int, now: float) -> _Member:
        """Look up the windows of a session; they are good until one of them is over."""
        counts, rule, whole = self._counts, self._session, self._customer
        keys = (
            (rule.name, str(session), rule.seconds),
            (whole.name, str(customer), whole.seconds),
        )
        member = _Member(counts.window(keys[0], now), counts.window(keys[1], now), keys)
        member.until = min((int(now) // key[2] + 1) * key[2] for key in keys)
        member.version = counts.version
        if len(self._members) >= KEYS_MAX:
            self._members.clear()
        self._members[session] = member
        return member

    async def admit(self, name: str, address: str, subject: str) -> Rejection | None:
        """Whether one may try ``name`` (one of ``STRICT``) once more; the attempt counts."""
        return await self._strict.admit(name, network_of(address), subject)

    def _told(self, rule: _Rule, policy: Header, left: int, now: float, over: bool) -> Told:
        wait = rule.seconds - int(now) % rule.seconds
        shown = b'"%b";r=%d;t=%d' % (rule.name.encode(), max(0, left), wait)
        headers = (policy, (b"ratelimit", shown))
        return Told(headers, _refusal(rule.name, wait) if over else None)


class _Strict:
    """Attempts, counted one by one over all replicas."""

    def __init__(self, settings: RequestLimits) -> None:
        self._name = settings.strategy
        self._strategy = cast(Callable[[Any], RateLimiter], STRATEGIES[settings.strategy])
        self._near: RateLimiter = self._strategy(MemoryStorage())
        self._far: RateLimiter | None = None
        self._away_until = 0.0
        self._limits: Mapping[str, tuple[Sequence[limits.RateLimitItem], ...]] = {
            name: (
                limits.parse_many(getattr(settings, name)),
                limits.parse_many(getattr(settings, f"{name}_subject")),
            )
            for name in STRICT
        }

    def open(self, redis_client: redis.asyncio.Redis) -> None:
        """Count with this Redis."""
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=f"kontor:attempts:{self._name}",  # each strategy keeps its own kind of value
            connection_pool=redis_client.connection_pool,  # type: ignore[arg-type]
        )
        self._far = self._strategy(storage)

    async def admit(self, name: str, network: str, subject: str) -> Rejection | None:
        """Count an attempt, by whom and at whom."""
        by_address, by_subject = self._limits[name]
        digest = hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()[:32]
        attempts = [(item if network else _shared(item), "of", network) for item in by_address]
        attempts += [(item, "at", digest) for item in by_subject if subject]
        if self._far is not None and time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(REDIS_TIMEOUT_S):
                    return await _try(self._far, name, attempts)
            except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
                log.warning("attempts_not_shared", error=repr(error))
                self._away_until = time.monotonic() + REDIS_PAUSE_S
        if name in _REFUSING:
            return Rejection("unavailable")
        return await _try(self._near, name, attempts)


Attempt = tuple[limits.RateLimitItem, str, str]


async def _try(limiter: RateLimiter, name: str, attempts: Sequence[Attempt]) -> Rejection | None:
    for item, kind, key in attempts:
        if not await limiter.hit(item, name, kind, key):
            stats = await limiter.get_window_stats(item, name, kind, key)
            return _refusal(name, max(1, round(stats.reset_time - time.time())))
    return None


def _shared(item: limits.RateLimitItem) -> limits.RateLimitItem:
    """What those may together whose address nobody knows."""
    return type(item)(item.amount * SHARED_FACTOR, item.multiples, item.namespace)


def _refusal(policy: str, wait_s: int) -> Rejection:
    return Rejection("rate_limited", {"policy": policy, "retry_after": str(wait_s)})


@functools.lru_cache(8_192)
def network_of(address: str) -> str:
    """By what an address is counted: with IPv6 one customer has a whole network of 64 bits."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, _IPV6_NETWORK), strict=False))

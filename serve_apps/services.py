"""What a replica works with: its settings, and its connections while it is open.

One ``Services`` is made for each replica and handed to everything that answers requests; there
are no globals. It may reach Postgres through ``persistence`` and actors through their clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis.asyncio
import structlog

from actors.operations import Operations
from actors.rates import RateBook, RateSettings
from domain.accounts.commands import Command, Reply
from domain.accounts.policy import Policy
from domain.orders import ACCOUNTS, BOOKS
from domain.trading.commands import Command as BookCommand
from domain.trading.commands import Reply as BookReply
from persistence.database import Pool, close_pool, open_pool
from persistence.tasks import end_tasks
from serve_apps.directory import Directory
from serve_apps.exchange.catalogue import Catalogue
from serve_apps.exchange.keys import ApiKeys
from serve_apps.exchange.limits import LimitSettings
from serve_apps.gateway.counts import SharedCounts
from serve_apps.gateway.limits import Gate, RequestLimits
from serve_apps.hot_reads import HotReads
from serve_apps.security import Passwords, Security, SecuritySettings
from serve_apps.sessions import Sessions

if TYPE_CHECKING:
    from serve_apps.exchange.streams.market import Market
    from serve_apps.exchange.streams.users import Users

log = structlog.get_logger("kontor.services")

JOB_INTERVAL_S: Final = 30.0


class Accounts(Protocol):
    """What is needed of ``actors.accounts.AccountsClient``; tests bring their own."""

    async def call(self, command: Command, *, timeout_s: float = 10.0) -> Reply:
        """Carry out one command; what it answers is durable."""

    async def call_many(
        self, commands: Sequence[Command], *, timeout_s: float = 30.0
    ) -> list[Reply]:
        """Carry out many commands; answers come in the same order."""

    async def close(self) -> None:
        """Let go of all connections."""


class Books(Protocol):
    """What is needed of ``actors.books.BooksClient``; tests bring their own."""

    async def call(self, command: BookCommand, *, timeout_s: float = 10.0) -> BookReply:
        """Carry out one command; what it answers is durable."""

    async def close(self) -> None:
        """Let go of all connections."""


Connect = Callable[["AppConfig"], Awaitable[Accounts]]
ConnectBooks = Callable[["AppConfig"], Awaitable[Books]]


async def connect_accounts(config: AppConfig) -> Accounts:
    """The real client, over links to the account partitions."""
    from actors.accounts import AccountsClient  # brings Ray along, which tests do without

    return await AccountsClient.connect(config.database_url, name=config.name)


async def connect_books(config: AppConfig) -> Books:
    """The real client, over links to the partitions of order books."""
    from actors.books import BooksClient

    return await BooksClient.connect(config.database_url, name=config.name)


@dataclass(frozen=True, slots=True)
class AppConfig:
    """Everything that the ingress needs to know; made by the composition root.

    ``via_header`` is where our own HAProxy tells the address of its client, and ``forwarded_hops``
    how many proxies before it add to ``X-Forwarded-For``: see ``serve_apps.gateway.front``.
    ``access_log`` is the path of a file, or empty for none. ``dashboard_url`` is where Ray's own
    pages are. ``mail_dir`` holds the mails that development catches at ``mail_port``, and is empty
    where mail is really sent. ``private_webhooks`` allows endpoints in our own network.
    ``side`` is ``canary`` for the version that runs beside the stable one. ``cors_origins`` are
    sites whose pages may use the API. A body that takes longer than ``body_s`` to arrive, or a
    handler than ``answer_s`` to answer, is given up.
    """

    database_url: str
    redis_url: str
    secret_key: bytes
    policy: Policy
    public_url: str = "http://localhost:8080"
    secure_cookies: bool = False
    dev_mode: bool = False
    staff_factor: bool = False
    static_dir: str = ""
    name: str = "serve"
    version: str = ""
    via_header: str = ""
    forwarded_hops: int = 0
    currencies: tuple[str, ...] = ("USD", "CNY", "EUR")
    bonus_currency: str = "USD"
    bonus_amount: int = 100_00
    rates: RateSettings = field(default_factory=RateSettings)
    quote_s: int = 30
    session_idle_s: int = 12 * 3_600
    session_max_s: int = 14 * 86_400
    token_idle_s: int = 30 * 86_400
    token_max_s: int = 90 * 86_400
    pool_size: int = 8
    access_log: str = ""
    dashboard_url: str = ""
    mail_dir: str = ""
    mail_port: int = 0
    private_webhooks: bool = False
    side: str = "stable"
    body_size_max: int = 4 * 1024 * 1024
    limits: LimitSettings = field(default_factory=LimitSettings)
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    cors_origins: tuple[str, ...] = ()
    body_s: float = 20.0
    answer_s: float = 45.0
    connect_accounts: Connect = connect_accounts
    connect_books: ConnectBooks = connect_books


async def _leave_as_it_is(connection: object) -> None:
    """Nothing here changes a connection's settings, so giving it back needs no round trip."""


class Services:
    """A replica's connections. ``open`` before the first request, ``close`` after the last."""

    pool: Pool
    redis: redis.asyncio.Redis
    accounts: Accounts
    books: Books
    market: Market
    user_streams: Users
    operations: Operations

    def __init__(self, config: AppConfig, *, clock: Callable[[], datetime] | None = None) -> None:
        self.config = config
        self.now = clock or utc_now
        self.passwords = Passwords()
        self.sessions = Sessions(self.now)
        self.api_keys = ApiKeys(config.secret_key, self.now)
        self.security = Security(security_settings(config), self.sessions)
        self.rates = RateBook(config.rates)
        self.counts = SharedCounts(time.time if clock is None else lambda: clock().timestamp())
        self.gate = Gate(config.request_limits, self.counts)
        self.directory = Directory()
        self.hot_reads = HotReads()
        self.catalogue = Catalogue()
        self._jobs: list[asyncio.Task[None]] = []
        self._woken: dict[str, asyncio.Event] = {}

    async def open(self, jobs: Mapping[str, Job] | None = None) -> None:
        """Connect to everything and start what runs in the background."""
        config = self.config
        self.pool = await open_pool(
            config.database_url,
            name=f"kontor {config.name}",
            size_max=config.pool_size,
            reset=_leave_as_it_is,
        )
        self.redis = redis.asyncio.Redis.from_url(config.redis_url, socket_connect_timeout=5)
        self.counts.open(self.redis)
        self.gate.open(self.redis)
        self.directory.open(self.pool)
        await self.catalogue.open(self.pool, config.database_url)
        await self.sessions.open(self.pool, self.redis)
        await self.api_keys.open(self.pool, self.redis)
        await self.passwords.open()
        await self.rates.refresh(self.now())
        self.accounts = await config.connect_accounts(config)
        self.books = await config.connect_books(config)
        self.operations = Operations(self.pool, (ACCOUNTS, BOOKS))
        for name, job in (jobs or {}).items():
            self._jobs.append(asyncio.create_task(self._run(name, job)))

    async def close(self) -> None:
        """Stop the background work and let go of all connections."""
        await end_tasks(self._jobs)
        await self.catalogue.close()
        await self.api_keys.close()
        await self.sessions.close()
        await self.accounts.close()
        await self.books.close()
        self.operations.close()
        await self.counts.close()
        await self.redis.aclose()
        self.passwords.close()
        await close_pool(self.pool)

    def wake(self, job: str) -> None:
        """Have a background job look at once whether there is something to do."""
        if job in self._woken:
            self._woken[job].set()

    async def _run(self, name: str, job: Job) -> None:
        woken = self._woken[name] = asyncio.Event()
        while True:
            woken.clear()
            try:
                await job(self)
            except Exception:
                log.exception("job_failed", job=name)  # the next round tries again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(JOB_INTERVAL_S):
                    await woken.wait()

    async def ready(self) -> dict[str, str]:
        """What is missing to answer requests: empty when all is well."""
        missing: dict[str, str] = {}
        checks: dict[str, Callable[[], Awaitable[Any]]] = {
            "postgres": lambda: self.pool.fetchval("select 1"),
            "redis": lambda: self.redis.ping(),
        }
        for name, check in checks.items():
            try:
                async with asyncio.timeout(2):
                    await check()
            except Exception as error:
                missing[name] = type(error).__name__
        return missing


Job = Callable[[Services], Awaitable[None]]


def utc_now() -> datetime:
    """The time of day, aware."""
    return datetime.now(UTC)


def security_settings(config: AppConfig) -> SecuritySettings:
    """The part of the settings that is about sessions and forms."""
    return SecuritySettings(
        secret_key=config.secret_key,
        public_url=config.public_url,
        secure_cookies=config.secure_cookies,
        session_idle_s=config.session_idle_s,
        session_max_s=config.session_max_s,
        token_idle_s=config.token_idle_s,
        token_max_s=config.token_max_s,
    )

"""Traders who insist on answers while everything breaks, and what must be true of them afterwards.

Each sends batches of orders and cancels over the trading API, with an id for the batch and one for
each order, and repeats a batch without an answer until it has one. What was acknowledged is then
looked for in the journals of the books, which nobody can have touched meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec

from actors.accounts import AccountsClient
from actors.books import BooksClient, BooksCodec
from cluster.audit import rows_of
from cluster.chaos.load import REQUEST_TIMEOUT_S, Customer, sign_up
from cluster.chaos.pace import Pace
from cluster.chaos.running import Running
from cluster.datafolder import DataFolder
from cluster.errors import Exit, StartError
from domain.accounts.trading import BrokerageReply, FundBrokerage, IssueAsset
from domain.durable import Rejection
from domain.orders import BOOKS, UNIT, OrderStatus, OrderType, Place, Side, TimeInForce, Update
from domain.trading.commands import InstrumentReply, ListInstrument
from domain.trading.events import OrdersExpired, OrdersWorked, StatusChanged
from domain.trading.rules import About, InstrumentType, Rules
from persistence.database import Pool, open_pool
from persistence.journal import streams
from serve_apps.exchange.keys import SCOPES, make_key

RULES: Final = Rules("TRY", "USD", tick=10**6, lot=10**3, notional_min=500, orders_max=1_000)
"""A cent a whole one, and a hundred-thousandth of one."""
SYMBOL: Final = RULES.symbol
_PRICES: Final = (6_400_000, 6_450_000)
_LOTS: Final = (10, 60)
_COINS: Final = 50 * UNIT
_OPEN_MAX: Final = 40
_PAUSE_S: Final = 0.05
_REFUSED: Final = frozenset({400, 401, 403, 404, 409})
_WRONG_MAX: Final = 20
_PLACE, _CANCEL = 1, 2


class Trader(msgspec.Struct):
    """A customer with a brokerage and an API key. ``orders`` are open as far as is known."""

    customer: Customer
    key: str
    secret: bytes
    orders: list[str] = []

    def signed(self, params: dict[str, str], body: bytes) -> str:
        """A query with time and signature."""
        query = urlencode({**params, "timestamp": str(time.time_ns() // 1_000_000)})
        signature = hmac.digest(self.secret, query.encode() + body, "sha256").hex()
        return f"{query}&signature={signature}"


async def open_traders(running: Running, count: int, *, first: int = 0) -> list[Trader]:
    """Customers who have signed up, funded a brokerage and made a key."""
    customers = await sign_up(running.url, count, first=first)
    secret_key = DataFolder(running.data_dir).secret()
    await _list_instrument(running)
    accounts = await AccountsClient.connect(running.database_url(), name="chaos")
    pool = await open_pool(running.database_url(), name="chaos", size_max=1)
    try:
        traders = []
        for customer in customers:
            mark = customer.user.to_bytes(15, "big")
            for command in (
                FundBrokerage(mark + b"f", b"", int(customer.account), customer.funds // 2),
                IssueAsset(mark + b"i", b"", customer.user, RULES.base, _COINS),
            ):
                reply = await accounts.call(command)
                if not isinstance(reply, BrokerageReply):
                    raise StartError(f"A trader cannot begin: {reply}", Exit.NOT_RUNNING)
            made = await make_key(
                pool, secret_key, customer.user, "chaos", SCOPES, now=datetime.now(UTC)
            )
            if isinstance(made, Rejection):
                raise StartError(f"A trader gets no key: {made.code}", Exit.NOT_RUNNING)
            traders.append(Trader(customer, made.key, made.secret.encode()))
        return traders
    finally:
        await pool.close()
        await accounts.close()


async def _list_instrument(running: Running) -> None:
    """What the traders trade."""
    books = await BooksClient.connect(running.database_url(), name="chaos")
    try:
        about = About(InstrumentType.CRYPTO, "What is tried out")
        reply = await books.call(ListInstrument(b"chaos instrument", b"", SYMBOL, RULES, about))
        if not isinstance(reply, InstrumentReply):
            raise StartError(f"There is no instrument to trade: {reply}", Exit.NOT_RUNNING)
    finally:
        await books.close()


class TradingLoad:
    """One worker for each trader."""

    def __init__(self, url: str, traders: Sequence[Trader], seed: int) -> None:
        self.placed: dict[tuple[int, int], str] = {}
        """Acknowledged orders by customer and number: the client's id."""
        self.cancelled: set[tuple[int, int]] = set()
        self.refused: Counter[str] = Counter()
        self.batches = 0
        self.repeated = 0
        self.wrong: list[str] = []
        self._url = url
        self._traders = traders
        self._chance = random.Random(seed)
        self.pace = Pace(len(traders))
        self._stop = False
        self._count = 0

    async def run(self) -> None:
        """Trade until told to stop; then finish what is under way."""
        limits = httpx.Limits(max_connections=len(self._traders))
        async with httpx.AsyncClient(
            base_url=self._url, timeout=REQUEST_TIMEOUT_S, limits=limits
        ) as client:
            await asyncio.gather(*(self._work(client, w) for w in range(len(self._traders))))

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop = True

    async def _work(self, client: httpx.AsyncClient, worker: int) -> None:
        trader = self._traders[worker]
        while not self._stop:
            rows = self._rows(trader)
            with self.pace.asking(worker):
                answers = await self._insist(client, trader, rows)
            self._note(trader, rows, answers)
            self.batches += 1

    def _rows(self, trader: Trader) -> list[list[Any]]:
        chance = self._chance
        rows: list[list[Any]] = []
        while trader.orders and (len(trader.orders) > _OPEN_MAX or chance.random() < 0.5):
            index = chance.randrange(len(trader.orders))
            rows.append([_CANCEL, 0, trader.orders.pop(index)])
        for _ in range(chance.randint(1, 4)):
            self._count += 1
            client_id = f"c{trader.customer.user}-{self._count}"
            side = chance.choice((Side.BUY, Side.SELL))
            rows.append(
                [_PLACE, int(side), int(OrderType.LIMIT), int(TimeInForce.GTC),
                 chance.randint(*_PRICES), chance.randint(*_LOTS), client_id]
            )  # fmt: skip
        return rows

    async def _insist(
        self, client: httpx.AsyncClient, trader: Trader, rows: list[list[Any]]
    ) -> list[Any]:
        """The answers to a batch, however often it takes; empty when it is refused as a whole."""
        self._count += 1
        body = msgspec.json.encode({"symbol": SYMBOL, "rows": rows})
        params = {"batch": f"b{trader.customer.user}-{self._count}"}
        headers = {"X-MBX-APIKEY": trader.key, "content-type": "application/json"}
        while True:
            query = trader.signed(params, body)
            try:
                answer = await client.post(
                    f"/api/v3/batchOrders?{query}", content=body, headers=headers
                )
            except httpx.HTTPError:
                answer = None
            # Only the platform itself speaks JSON: a proxy without a gateway behind it does not.
            if answer is not None and "json" not in answer.headers.get("content-type", ""):
                answer = None
            if answer is not None and answer.status_code == 200:
                found: list[Any] = answer.json()["rows"]
                return found
            if answer is not None and answer.status_code in _REFUSED:
                self._complain(f"a batch was refused: {answer.status_code} {answer.text[:200]}")
                return []
            self.repeated += 1
            await asyncio.sleep(_PAUSE_S)

    def _note(self, trader: Trader, rows: list[list[Any]], answers: list[Any]) -> None:
        user = trader.customer.user
        for row, (ref, client_id, status, _, _, code, _) in zip(rows, answers, strict=False):
            if code:
                self.refused[code] += 1
                continue
            if row[0] == _CANCEL:
                self.cancelled.add((user, ref))
                continue
            if client_id != row[6]:
                self._complain(f"order {row[6]} was answered as {client_id}")
            if self.placed.setdefault((user, ref), client_id) != client_id:
                self._complain(f"two orders of {user} have the number {ref}")
            if status < OrderStatus.FILLED:
                trader.orders.append(client_id)

    def _complain(self, wrong: str) -> None:
        if len(self.wrong) < _WRONG_MAX:
            self.wrong.append(wrong)


class BookHistory:
    """What the journals of the books say of each order, by customer and number."""

    def __init__(self) -> None:
        self.placed: Counter[tuple[int, int]] = Counter()
        self.status: dict[tuple[int, int], int] = {}
        self.trades = 0

    async def read(self, pool: Pool) -> None:
        """Read all journals of books."""
        decode = BooksCodec().decode_turn
        async with pool.acquire() as connection:
            for kind, stream, _ in await streams(connection):  # type: ignore[arg-type]
                if kind == BOOKS:
                    await self._read(rows_of(connection, stream), decode)  # type: ignore[arg-type]

    async def _read(self, rows: AsyncIterator[Any], decode: Any) -> None:
        async for row in rows:
            for _, event in decode(row.entries).events:
                if type(event) is OrdersWorked:
                    for action, update in zip(event.actions, event.updates, strict=True):
                        self._worked(event.customer, action, update)
                if type(event) in (OrdersWorked, StatusChanged, OrdersExpired):
                    self.trades += len(getattr(event, "trades", ()))
                    for touched in event.touched:
                        self._is(touched.customer, touched.update)

    def _worked(self, customer: int, action: Any, update: Update) -> None:
        if update.code:
            return
        if type(action) is Place:
            self.placed[customer, action.ref] += 1
        self._is(customer, update)

    def _is(self, customer: int, update: Update) -> None:
        key = (customer, update.ref)
        self.status[key] = max(self.status.get(key, 0), int(update.status))


async def judge_trading(load: TradingLoad, pool: Pool, rest_s: float) -> tuple[list[str], int]:
    """What is wrong with the acknowledged orders and cancels; and how many trades there were.

    Every acknowledged order came to its book once, every acknowledged cancel ended its order, and
    the tables that customers read have each trade once, within ``rest_s``.
    """
    findings = list(load.wrong)
    history = BookHistory()
    await history.read(pool)
    for key, client_id in load.placed.items():
        if history.placed[key] != 1:
            findings.append(
                f"order {client_id} was acknowledged as {key} and is {history.placed[key]} times"
                " in the journal of its book"
            )
    findings += [
        f"the cancel of order {key} was acknowledged, and the order was not ended"
        for key in load.cancelled
        if history.status.get(key, 0) < OrderStatus.FILLED
    ]
    twice = [key for key, count in history.placed.items() if count > 1]
    findings += [f"order {key} came to its book more than once" for key in twice]
    stored = -1
    deadline = time.monotonic() + rest_s
    while stored != history.trades and time.monotonic() < deadline:
        stored = await pool.fetchval("SELECT count(*) FROM trades")
        await asyncio.sleep(0.2)
    if stored < history.trades:
        findings.append(f"the books have made {history.trades} trades, the table has {stored}")
    return findings, history.trades

"""Who makes the demo's markets: a maker with levels on both sides, and a taker who trades with it.

Both use the public trading API with API keys, as any customer's program would; nothing here knows
the platform from within. Every second or so one instrument is quoted anew around a price that
drifts, and most of the time something is traded in it. An outage is waited for; a refusal is of no
consequence, the next round quotes again.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import random
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import msgspec
import structlog

log = structlog.get_logger("kontor.bot")

ROUND_S: Final = 1.3
LEVELS: Final = 8
TIMEOUT_S: Final = 5.0
AGAIN_S: Final = 5.0
BUSY: Final = {"BTCUSD": 6, "ETHUSD": 3}
"""How much more often than the others these are quoted."""

_UNIT: Final = Decimal(10) ** 8
_PLACE, _CANCEL = 1, 2
_BUY, _SELL = 1, 2
_GTC, _IOC = 1, 2
_LIMIT, _MARKET, _LIMIT_MAKER = 1, 2, 3
_VALUE: Final = 4_000
"""About what a level is worth, in the quote asset."""

_TRADES: Final = 0.9
_PULL: Final = 0.02
_DRIFT: Final = 0.0006


class Refused(Exception):
    """The API said no; the text is its answer."""


class Client:
    """Signs requests of one API key; ``http`` has the address of the platform."""

    def __init__(self, http: httpx.AsyncClient, key: str, secret: str) -> None:
        self._http = http
        self._key = key
        self._secret = secret.encode()

    async def ask(self, method: str, path: str, **params: str) -> Any:
        """A signed request with its parameters in the query."""
        query = self._signed(params, b"")
        return await _answer(self._http, method, f"{path}?{query}", {"X-MBX-APIKEY": self._key})

    async def batch(self, symbol: str, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Carry out rows on an instrument; their answers, in order."""
        body = msgspec.json.encode({"symbol": symbol, "rows": rows})
        query = self._signed({}, body)
        headers = {"X-MBX-APIKEY": self._key, "content-type": "application/json"}
        path = f"/api/v3/batchOrders?{query}"
        answer = await _answer(self._http, "POST", path, headers, body)
        found: list[Any] = answer["rows"]
        return found

    def _signed(self, params: Mapping[str, str], body: bytes) -> str:
        query = urlencode({**params, "timestamp": str(time.time_ns() // 1_000_000)})
        signature = hmac.digest(self._secret, query.encode() + body, "sha256").hex()
        return f"{query}&signature={signature}"


async def _answer(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Any:
    response = await http.request(method, path, headers=dict(headers or {}), content=body)
    if response.status_code >= 400:
        raise Refused(f"{response.status_code} {response.text[:200]}")
    return msgspec.json.decode(response.content)


class Quoted:
    """One instrument as the maker sees it. Prices are ticks, quantities lots."""

    def __init__(self, symbol: str, tick: Decimal, lot: Decimal, reference: Decimal) -> None:
        self.symbol = symbol
        self.tick = tick
        self.stale = False
        """Whether orders may have been filled that are still counted on."""
        self.home = max(1.0, float(reference / tick))
        """Where the price comes from and is drawn back to."""
        self.mid = self.home
        self.lots = max(1, round(_VALUE / float(reference * lot)))
        self.step = max(1.0, self.home * 0.00025)
        self.orders: dict[int, tuple[int, int]] = {}
        """The maker's orders as far as known: number to side and price."""

    def drift(self, chance: random.Random) -> None:
        """A step of the price, drawn back a little to where it comes from."""
        pull = _PULL * math.log(self.home / self.mid)
        self.mid *= math.exp(pull * 0.1 + chance.gauss(0.0, _DRIFT))

    def wanted(self) -> list[tuple[int, int]]:
        """Side and price of the levels that there should be, the best first."""
        levels = []
        for level in range(LEVELS):
            distance = self.step * (0.5 + level * (1 + level / 8))
            levels.append((_BUY, max(1, math.floor(self.mid - distance))))
            levels.append((_SELL, max(2, math.ceil(self.mid + distance))))
        return levels

    def rows(self, chance: random.Random) -> list[list[Any]]:
        """Cancels and new orders that bring what is there nearer to what is wanted."""
        wanted = self.wanted()
        free = list(wanted)
        gone: list[int] = []
        for number, (side, price) in self.orders.items():
            near = next(
                (w for w in free if w[0] == side and abs(w[1] - price) <= self.step / 2), None
            )
            if near is None:
                gone.append(number)
            else:
                free.remove(near)
        rows: list[list[Any]] = [[_CANCEL, number, ""] for number in gone]
        for side, price in free:
            quantity = max(1, round(self.lots * chance.uniform(0.4, 1.6)))
            rows.append([_PLACE, side, _LIMIT_MAKER, _GTC, price, quantity])
        return rows

    def adopt(self, row: Any) -> None:
        """Count on an order that is open."""
        side = _BUY if row["side"] == "BUY" else _SELL
        self.orders[row["orderId"]] = (side, round(Decimal(row["price"]) / self.tick))

    def note(self, rows: Sequence[Sequence[Any]], answers: Sequence[Any]) -> None:
        """Keep track of what was placed and cancelled."""
        for row, answer in zip(rows, answers, strict=True):
            number, refused = answer[0], bool(answer[5])
            if row[0] == _CANCEL:
                self.orders.pop(row[1], None)
            elif not refused:
                self.orders[number] = (row[1], row[4])


class Bot:
    """Quotes and trades until cancelled. ``references`` are prices to begin with, by symbol."""

    def __init__(
        self,
        url: str,
        maker: tuple[str, str],
        taker: tuple[str, str],
        references: Mapping[str, str],
        *,
        round_s: float = ROUND_S,
        seed: int | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._keys = (maker, taker)
        self._references = {symbol: Decimal(text) for symbol, text in references.items()}
        self._round_s = round_s
        self._chance = random.Random(seed)
        self._transport = transport
        self.quoted: dict[str, Quoted] = {}
        self.rounds = 0

    async def run(self) -> None:
        """Make markets; begin anew after an outage."""
        while True:
            try:
                async with httpx.AsyncClient(
                    base_url=self._url, timeout=TIMEOUT_S, transport=self._transport
                ) as http:
                    await self._trade(http)
            except (httpx.HTTPError, Refused, msgspec.MsgspecError) as error:
                log.info("bot_waits", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(AGAIN_S)

    async def _trade(self, http: httpx.AsyncClient) -> None:
        maker, taker = (Client(http, *key) for key in self._keys)
        await self._begin(http, maker)
        symbols = list(self.quoted)
        weights = [BUSY.get(symbol, 1) for symbol in symbols]
        for quoted in self.quoted.values():
            await self._quote(maker, quoted)
            await asyncio.sleep(self._round_s / 10)
        while True:
            started = time.monotonic()
            (symbol,) = self._chance.choices(symbols, weights)
            quoted = self.quoted[symbol]
            try:
                quoted.drift(self._chance)
                await self._quote(maker, quoted)
                if self._chance.random() < _TRADES:
                    await self._take(taker, quoted)
                    quoted.stale = True
            except Refused as error:
                log.info("bot_refused", symbol=symbol, error=str(error))
            self.rounds += 1
            await asyncio.sleep(max(0.0, self._round_s - (time.monotonic() - started)))

    async def _begin(self, http: httpx.AsyncClient, maker: Client) -> None:
        """Learn what there is, where prices are, and which orders are left from before."""
        info = await _answer(http, "GET", "/api/v3/exchangeInfo")
        prices = {
            row["symbol"]: Decimal(row["price"])
            for row in await _answer(http, "GET", "/api/v3/ticker/price")
        }
        self.quoted = {}
        for row in info["symbols"]:
            symbol = row["symbol"]
            reference = self._references.get(symbol)
            if reference is None:
                continue
            filters = {one["filterType"]: one for one in row["filters"]}
            tick = Decimal(filters["PRICE_FILTER"]["tickSize"])
            lot = Decimal(filters["LOT_SIZE"]["stepSize"])
            quoted = self.quoted[symbol] = Quoted(symbol, tick, lot, reference)
            last = prices.get(symbol)
            if last:
                quoted.mid = float(last / tick)
        for row in await maker.ask("GET", "/api/v3/openOrders"):
            left = self.quoted.get(row["symbol"])
            if left is not None:
                left.adopt(row)

    async def _quote(self, maker: Client, quoted: Quoted) -> None:
        if quoted.stale:
            quoted.stale = False
            left = await maker.ask("GET", "/api/v3/openOrders", symbol=quoted.symbol)
            quoted.orders = {}
            for row in left:
                quoted.adopt(row)
        rows = quoted.rows(self._chance)
        if rows:
            quoted.note(rows, await maker.batch(quoted.symbol, rows))

    async def _take(self, taker: Client, quoted: Quoted) -> None:
        """Buy or sell a little at the best price; where there is nothing to sell, buy."""
        quantity = max(1, round(quoted.lots * self._chance.uniform(0.05, 0.9)))
        sides = [_BUY, _SELL] if self._chance.random() < 0.5 else [_SELL, _BUY]
        for side in sides:
            reach = quoted.step * 3
            price = round(quoted.mid + (reach if side == _BUY else -reach))
            row = [_PLACE, side, _LIMIT, _IOC, max(1, price), quantity]
            (answer,) = await taker.batch(quoted.symbol, [row])
            if not answer[5]:
                return

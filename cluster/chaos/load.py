"""Customers that pay each other over HTTP and insist on an answer, and what each was told.

A payment without an answer is sent again with its key until it is acknowledged or refused, so that
in the end the outcome of each is known. What a customer has waited, repeats included, is the pause
that a fault has caused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec

from cluster.chaos.pace import Pace
from domain.money import parse_amount
from serve_apps.accounts import command_id

REQUEST_TIMEOUT_S: Final = 15.0
_PAUSE_S: Final = 0.05
_TOO_MUCH: Final = "90000000.00"
_TOO_MUCH_SHARE: Final = 0.1
_BATCH: Final = 25
_REFUSED: Final = frozenset({400, 409, 422})
_WRONG_MAX: Final = 20


class Customer(msgspec.Struct):
    """Somebody with a token, a dollar account and, before the load, ``funds`` in cents."""

    user: int
    token: str
    account: str
    funds: int

    @property
    def headers(self) -> dict[str, str]:
        """What a request of the customer carries."""
        return {"Authorization": f"Bearer {self.token}"}


class Payment(msgspec.Struct, frozen=True):
    """What was acknowledged, in cents."""

    source: int
    destination: int
    amount: int


async def sign_up(url: str, count: int, *, first: int = 0) -> list[Customer]:
    """Make customers the way customers do, numbered from ``first``."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        return [await _sign_up(client, first + number) for number in range(count)]


async def _sign_up(client: httpx.AsyncClient, number: int) -> Customer:
    body = {
        "email": f"chaos{number}@example.org",
        "name": f"Customer {number}",
        "password": secrets.token_urlsafe(16),
    }
    answer = await client.post("/api/signup/", json=body)
    answer.raise_for_status()
    said = answer.json()
    user, token = int(said["user"]["id"]), said["token"]
    account, funds = await dollars(client, user, token)
    return Customer(user, token, account, funds)


async def dollars(client: httpx.AsyncClient, user: int, token: str) -> tuple[str, int]:
    """The number and the balance in cents of a customer's dollar account."""
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.get(f"/api/user/{user}/", headers=headers)
    answer.raise_for_status()
    account = next(a for a in answer.json()["accounts"] if a["currency"] == "USD")
    return account["id"], parse_amount(account["balance"], "USD")


class Load:
    """``singles`` workers pay one at a time, ``batches`` workers many in one request."""

    def __init__(
        self, url: str, customers: Sequence[Customer], *, singles: int, batches: int
    ) -> None:
        self.acknowledged: dict[str, Payment] = {}
        self.refused: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.repeated = 0
        self.wrong: list[str] = []
        self.seconds = 0.0
        self._url = url
        self._customers = customers
        self._work = [self._single] * singles + [self._batch] * batches
        self.pace = Pace(len(self._work))
        self._stop = False

    # -- what chaos asks ------------------------------------------------------------------

    async def run(self) -> None:
        """Keep paying until told to stop; then finish what is under way."""
        limits = httpx.Limits(max_connections=len(self._work))
        started = time.monotonic()
        async with httpx.AsyncClient(
            base_url=self._url, timeout=REQUEST_TIMEOUT_S, limits=limits
        ) as client:
            await asyncio.gather(*(self._worker(client, w) for w in range(len(self._work))))
        self.seconds = time.monotonic() - started

    def stop(self) -> None:
        """Begin nothing more."""
        self._stop = True

    # -- the work -------------------------------------------------------------------------

    async def _worker(self, client: httpx.AsyncClient, worker: int) -> None:
        while not self._stop:
            with self.pace.asking(worker):
                await self._work[worker](client)

    def _note(self, wrong: str) -> None:
        if len(self.wrong) < _WRONG_MAX:
            self.wrong.append(wrong)

    async def _ask(
        self, client: httpx.AsyncClient, path: str, body: Any, headers: dict[str, str]
    ) -> httpx.Response | None:
        """One request; ``None`` when there was no answer that says anything."""
        answer = None
        with contextlib.suppress(httpx.HTTPError):
            answer = await client.post(path, json=body, headers=headers)
        status = "no answer" if answer is None else str(answer.status_code)
        self.answers[status] += 1
        # Only the platform itself speaks JSON: a proxy without a gateway behind it does not.
        ours = answer is not None and "json" in answer.headers.get("content-type", "")
        if answer is not None and ours and answer.status_code < 500:
            return answer
        self.repeated += 1
        await asyncio.sleep(_PAUSE_S)
        return None

    def _amount(self) -> str:
        if random.random() < _TOO_MUCH_SHARE:
            return _TOO_MUCH
        return f"0.{random.randint(1, 99):02d}"

    async def _single(self, client: httpx.AsyncClient) -> None:
        source, destination = random.sample(self._customers, 2)
        key, amount = secrets.token_hex(8), self._amount()
        body = {"from": source.account, "to": destination.account, "amount": amount}
        headers = {**source.headers, "Idempotency-Key": key}
        path = f"/api/user/{source.user}/transaction/"
        while (answer := await self._ask(client, path, body, headers)) is None:
            pass
        identity = command_id(source.user, "transaction", key).hex()
        said = answer.json()
        if answer.status_code == 201:
            self._acknowledge(said["id"], identity, source, destination, amount)
        elif answer.status_code in _REFUSED and said.get("code") == "insufficient_funds":
            self._refuse(identity, amount)
        else:
            self._note(f"unexpected answer {answer.status_code}: {answer.text[:200]}")

    async def _batch(self, client: httpx.AsyncClient) -> None:
        source = random.choice(self._customers)
        others = [customer for customer in self._customers if customer is not source]
        left = {
            secrets.token_hex(8): (random.choice(others), self._amount()) for _ in range(_BATCH)
        }
        path = f"/api/user/{source.user}/transaction/batch/"
        while left:
            transfers = [
                {"id": key, "from": source.account, "to": other.account, "amount": amount}
                for key, (other, amount) in left.items()
            ]
            answer = await self._ask(client, path, {"transfers": transfers}, source.headers)
            if answer is None:
                continue
            if answer.status_code != 200:
                self._note(f"unexpected answer {answer.status_code}: {answer.text[:200]}")
                return
            for result in answer.json()["results"]:
                if result["status"] == "unknown":
                    self.answers["unknown in a batch"] += 1
                    continue
                other, amount = left.pop(result["id"])
                identity = command_id(source.user, "transaction/batch", result["id"]).hex()
                # Pending: a repeat of what has left the source and is durably on its way.
                if result["status"] in {"completed", "pending"}:
                    self._acknowledge(result["transfer"], identity, source, other, amount)
                elif result.get("code") == "insufficient_funds":
                    self._refuse(identity, amount)
                else:
                    self._note(f"unexpected result {result}")

    def _acknowledge(
        self, transfer: str, identity: str, source: Customer, destination: Customer, amount: str
    ) -> None:
        if transfer != identity:
            self._note(f"transfer {identity} was acknowledged as {transfer}")
        if identity in self.acknowledged:
            self._note(f"transfer {identity} was acknowledged to two requests")
        if amount == _TOO_MUCH:
            self._note(f"transfer {identity} of more than there is was accepted")
        cents = parse_amount(amount, "USD")
        parties = int(source.account), int(destination.account)
        self.acknowledged[identity] = Payment(*parties, cents)

    def _refuse(self, identity: str, amount: str) -> None:
        if amount != _TOO_MUCH:
            self._note(f"transfer {identity} of {amount} was refused for want of funds")
        self.refused.add(identity)

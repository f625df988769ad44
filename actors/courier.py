"""The courier: sends what people are to be told by mail and to their webhooks.

There is one for the whole platform. What is to be sent stands in Postgres (``deliveries``); the
courier claims it, sends it and notes what came of it, in that order, so that nothing is lost
wherever it dies: what it sent without noting it is sent again, under the same name. Nothing is
promised of the order. Several connections to the mail server, and many webhooks, are at work at
once; of one endpoint only a few, so that a slow one does not hold up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, Final, cast

import msgspec
import structlog

from actors.letters import Write, message_name, webhook_body
from actors.mail import Mailer, SmtpSettings
from actors.sending import (
    MAIL_PAUSES_S,
    WEBHOOK_PAUSES_S,
    Away,
    Later,
    Never,
    Outcome,
    Sent,
    pause,
    reason,
)
from actors.vault import WEBHOOKS, InvalidTag, Vault
from actors.webhooks import Webhooks
from persistence import deliveries as store
from persistence import webhooks as endpoints
from persistence.database import OUTAGES, Connection, Pool
from persistence.deliveries import Delivery, Sending, Standing
from persistence.notifications import TO_SEND
from persistence.tasks import end_tasks

log = structlog.get_logger(__name__)

MAIL_BATCH: Final = 16
LEASE_S: Final = 120.0
"""So long a claim lasts. No batch takes longer: what is left of one is given back in time."""
LEASE_BEGIN: Final = 1 / 3
"""In this part of the lease mails of a batch are begun: one may take a minute and a half."""
ENDPOINT_AT_ONCE: Final = 2
WEBHOOKS_AT_ONCE: Final = 64
POLL_S: Final = 5.0
LOOK_EVERY_S: Final = 5.0
PURGE_EVERY_S: Final = 3_600.0
REST_MIN_S: Final = 1.0
REST_MAX_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class CourierSettings:
    """How things are sent; ``private`` allows webhooks to addresses of our own network."""

    secret_key: bytes = field(repr=False)
    public_url: str
    smtp: SmtpSettings = field(default_factory=SmtpSettings)
    connections: int = 4
    private: bool = False
    mail_pauses_s: tuple[float, ...] = MAIL_PAUSES_S
    webhook_pauses_s: tuple[float, ...] = WEBHOOK_PAUSES_S
    webhook_timeout_s: float = 10.0
    failing_max: timedelta = endpoints.FAILING_MAX
    lease_s: float = LEASE_S
    poll_s: float = POLL_S
    rest_min_s: float = REST_MIN_S
    rest_max_s: float = REST_MAX_S


class Courier:
    """Sends on and on. ``run`` it as a task."""

    def __init__(
        self,
        pool: Pool,
        settings: CourierSettings,
        write: Write,
        chance: Random,
        *,
        who: str = "courier",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sent: Counter[str] = Counter()
        self.state: dict[str, str] = {"email": "starting", "webhook": "starting"}
        self._pool = pool
        self._settings = settings
        self._write = write
        self._chance = chance
        self._who = who
        self._clock = clock
        self._vault = Vault(settings.secret_key, WEBHOOKS)
        self._wakes: dict[Sending, asyncio.Event] = {
            "email": asyncio.Event(),
            "webhook": asyncio.Event(),
        }
        self._standing: dict[str, Standing] = {}
        self._purged_at = float("-inf")

    def describe(self) -> dict[str, Any]:
        """How it goes; at once, without asking anybody."""
        troubles = [f"{name}: {how}" for name, how in self.state.items() if how != "running"]
        about: dict[str, Any] = {"state": "; ".join(troubles) or "running", "sent": self.sent}
        for channel, counts in self._standing.items():
            about[channel] = msgspec.structs.asdict(counts)
        return about

    def load(self) -> str:
        """What there is to do, in a few words."""
        words = {"email": "mail", "webhook": "webhooks"}
        return ", ".join(
            f"{word}: {counts.due} due, {counts.dead} dead"
            for name, word in words.items()
            if (counts := self._standing.get(name)) is not None
        )

    async def run(self) -> None:
        """Send until cancelled. Whatever fails is tried again."""
        webhooks = Webhooks(
            private=self._settings.private,
            timeout_s=self._settings.webhook_timeout_s,
            agent="Kontor",
        )
        mailers = [Mailer(self._settings.smtp) for _ in range(self._settings.connections)]
        work = [
            self._listen(),
            self._look(),
            self._again("webhook", lambda: self.send_webhooks(webhooks)),
            *(self._mails(mailer) for mailer in mailers),
        ]
        tasks = {asyncio.create_task(one) for one in work}
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
            await webhooks.close()
            for mailer in mailers:
                await mailer.close()

    # -- mail -----------------------------------------------------------------------------

    async def _mails(self, mailer: Mailer) -> None:
        """Send mail over one connection, which rests while the server is away."""
        rest_s = self._settings.rest_min_s

        async def work() -> bool:
            nonlocal rest_s
            try:
                more = await self.send_mails(mailer)
            except Away as error:
                self._tell("email", f"away: {error}")
                await self._rest(rest_s * self._chance.uniform(0.8, 1.2))
                rest_s = min(2 * rest_s, self._settings.rest_max_s)
                return True
            rest_s = self._settings.rest_min_s
            return more

        await self._again("email", work, idle=mailer.close)

    async def _rest(self, rest_s: float) -> None:
        """Leave the server alone; for less long when there is something new to send."""
        wake = self._wakes["email"]
        await asyncio.sleep(min(rest_s, self._settings.rest_min_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, rest_s - self._settings.rest_min_s)):
                await wake.wait()

    async def send_mails(self, mailer: Mailer) -> bool:
        """Send a batch; whether there was one. Raises ``Away``, with the batch given back."""
        begun = self._clock()
        batch = await self._claim("email", MAIL_BATCH)
        left = [delivery.id for delivery in batch]
        try:
            for delivery in batch:
                if self._clock() - begun > self._settings.lease_s * LEASE_BEGIN:
                    break
                outcome = await self._send_mail(mailer, delivery)
                self.state["email"] = "running"
                await self._note(delivery, outcome, self._settings.mail_pauses_s)
                left.remove(delivery.id)
        finally:
            if left:
                await store.release(self._pool, self._who, left)
        return bool(batch)

    async def _send_mail(self, mailer: Mailer, delivery: Delivery) -> Outcome:
        if delivery.closed and not delivery.urgent:
            return Never("The login is closed")
        try:
            mail = self._write(delivery)
        except (ValueError, KeyError) as error:
            return Later(reason("It cannot be written", error))
        return await mailer.send(mail)

    # -- webhooks -------------------------------------------------------------------------

    async def send_webhooks(self, webhooks: Webhooks) -> bool:
        """Send all webhooks that are due; whether there were any."""
        at_work: dict[asyncio.Task[None], str] = {}
        wake = self._wakes["webhook"]
        found = False
        try:
            while await self._begin_webhooks(webhooks, at_work) or at_work:
                found = True
                woken = asyncio.create_task(wake.wait())
                done, _ = await asyncio.wait(
                    {*at_work, woken},
                    timeout=self._settings.poll_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                woken.cancel()
                wake.clear()
                for task in [task for task in at_work if task in done]:
                    del at_work[task]
                    task.result()
            return found
        finally:
            await end_tasks(at_work)

    async def _begin_webhooks(
        self, webhooks: Webhooks, at_work: dict[asyncio.Task[None], str]
    ) -> int:
        """Begin what is due and has room; how many that were."""
        room = WEBHOOKS_AT_ONCE - len(at_work)
        if not room:
            return 0
        busy = Counter(at_work.values())
        full = [target for target, count in busy.items() if count >= ENDPOINT_AT_ONCE]
        batch = await self._claim("webhook", room, full)
        too_many = []
        for delivery in batch:
            if busy[delivery.target] >= ENDPOINT_AT_ONCE:
                too_many.append(delivery.id)
                continue
            busy[delivery.target] += 1
            task = asyncio.create_task(self._send_webhook(webhooks, delivery))
            at_work[task] = delivery.target
        if too_many:
            await store.release(self._pool, self._who, too_many)
        return len(batch) - len(too_many)

    async def _send_webhook(self, webhooks: Webhooks, delivery: Delivery) -> None:
        endpoint = delivery.endpoint
        if delivery.closed:
            outcome: Outcome = Never("The login is closed")
        elif endpoint is None or not endpoint.open:
            outcome = Never("The endpoint is deleted or switched off")
        else:
            try:
                keys = self._keys(endpoint)
            except InvalidTag:
                outcome = Later("The endpoint's secret was sealed with another key")
            else:
                name = message_name(delivery)
                outcome = await webhooks.send(endpoint.url, keys, name, webhook_body(delivery))
        await self._note(delivery, outcome, self._settings.webhook_pauses_s)

    def _keys(self, endpoint: store.Endpoint) -> list[bytes]:
        owner = str(endpoint.id)
        sealed = [endpoint.secret, *([endpoint.previous] if endpoint.previous else [])]
        return [self._vault.open(owner, secret) for secret in sealed]

    # -- both -----------------------------------------------------------------------------

    async def _claim(
        self, channel: Sending, limit: int, without: list[str] | None = None
    ) -> list[Delivery]:
        lease_s = self._settings.lease_s
        return await store.claim(
            self._pool, channel, self._who, limit=limit, lease_s=lease_s, without=without or []
        )

    async def _note(
        self, delivery: Delivery, outcome: Outcome, pauses_s: tuple[float, ...]
    ) -> None:
        """Write down what came of a delivery, and of the endpoint that it went to."""
        endpoint = delivery.endpoint
        if endpoint is None or not endpoint.open or delivery.closed:
            await self._note_delivery(self._pool, delivery, outcome, pauses_s)
            return
        async with self._pool.acquire() as proxy, proxy.transaction():
            connection = cast(Connection, proxy)
            # First the endpoint, then deliveries: whoever switches one off locks in this order.
            await self._note_endpoint(connection, endpoint.id, outcome)
            await self._note_delivery(connection, delivery, outcome, pauses_s)

    async def _note_endpoint(self, connection: Connection, number: int, outcome: Outcome) -> None:
        if isinstance(outcome, Sent):
            await endpoints.note_ok(connection, number)
            return
        gone = isinstance(outcome, Never) and outcome.gone
        limit = self._settings.failing_max
        told = (
            "It has answered that it is gone."
            if gone
            else f"It has taken nothing for {limit.days} days. Last: {outcome.reason}"
        )
        if await endpoints.note_failing(connection, number, told, gone=gone, failing_max=limit):
            log.info("webhook switched off", endpoint=number, reason=outcome.reason)

    async def _note_delivery(
        self,
        database: store.Database,
        delivery: Delivery,
        outcome: Outcome,
        pauses_s: tuple[float, ...],
    ) -> None:
        if isinstance(outcome, Sent):
            await store.note_sent(database, delivery.id, outcome.status)
            self.sent[delivery.channel] += 1
            return
        pause_s = None
        if isinstance(outcome, Later):
            pause_s = pause(delivery.attempts + 1, pauses_s, self._chance)
        if pause_s is None:
            log.warning("given up", delivery=delivery.id, reason=outcome.reason)
            await store.note_dead(database, delivery.id, outcome.reason, outcome.status)
        else:
            assert isinstance(outcome, Later)
            pause_s = max(pause_s, outcome.after_s)
            await store.note_later(database, delivery.id, outcome.reason, outcome.status, pause_s)

    # -- in the background ----------------------------------------------------------------

    def _tell(self, channel: Sending, state: str) -> None:
        if self.state[channel] != state:
            log.warning("courier", channel=channel, state=state)
        self.state[channel] = state

    async def _again(
        self,
        channel: Sending,
        work: Callable[[], Awaitable[bool]],
        idle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Do the work whenever there is some: woken by Postgres, and looking by itself."""
        wake = self._wakes[channel]
        while True:
            try:
                wake.clear()
                if await work():
                    continue
                if not self.state[channel].startswith("away"):
                    self.state[channel] = "running"
                if idle is not None:
                    await idle()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_s):
                        await wake.wait()
            except OUTAGES as error:
                self._tell(channel, f"waiting: {reason(type(error).__name__, error)}")
                await asyncio.sleep(0.5)
            except Exception as error:
                self._tell(channel, f"stuck: {reason(type(error).__name__, error)}")
                log.exception("courier is stuck", channel=channel)
                await asyncio.sleep(REST_MIN_S)

    async def _listen(self) -> None:
        """Be woken when there is something to send."""

        def wake(connection: object, process: int, channel: str, payload: object) -> None:
            for name, event in self._wakes.items():
                if payload in (name, ""):
                    event.set()

        while True:
            with contextlib.suppress(*OUTAGES):
                async with self._pool.acquire() as connection:
                    await connection.add_listener(TO_SEND, wake)
                    for event in self._wakes.values():
                        event.set()
                    try:
                        while True:  # else nobody would notice that it is gone
                            await asyncio.sleep(self._settings.poll_s)
                            await connection.execute("SELECT 1")
                    finally:
                        with contextlib.suppress(*OUTAGES):
                            await connection.remove_listener(TO_SEND, wake)
            await asyncio.sleep(0.5)

    async def _look(self) -> None:
        """See now and then how much is left, and clear away what is long done."""
        while True:
            try:
                for channel in self._wakes:
                    self._standing[channel] = await store.standing(self._pool, channel)
                late = self._clock() - self._purged_at > PURGE_EVERY_S
                if late and await store.purge(self._pool) < store.PURGE_MAX:
                    self._purged_at = self._clock()
            except OUTAGES as error:
                log.info("courier does not see", error=repr(error))
            await asyncio.sleep(LOOK_EVERY_S)

"""The notifier against a real Postgres: each event is told once, to whom it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis.asyncio

from actors import notifier as notifier_module
from actors.notifications.announcing import CHANNEL, Announcer, decode_told
from actors.notifier import CURSOR, Notifier
from actors.notifying import relay
from domain.accounts import events as ev
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import account_number
from domain.notifications import KINDS, Channel, Kind
from domain.orders import OrderStatus, Update
from persistence import notifications as store
from persistence.database import Pool
from persistence.following import Overtaken
from persistence.trading.catalogue import Instrument
from tests.persistence.test_notifications import ANN, BEN, notice, people, tell
from tests.persistence.trading.tape import START, Tape

ANN_USD, ANN_EUR, BEN_USD = account_number(ANN, 0), account_number(ANN, 2), account_number(BEN, 0)


async def tape_of(pool: Pool) -> Tape:
    """Streams of which nothing has been read, and two people."""
    await people(pool)
    tape = Tape(pool, 1)
    await tape.open()
    return tape


def received(number: int, source: int, destination: int) -> tuple[str, ev.TransferReceived]:
    """A payment that has arrived."""
    transfer = number.to_bytes(16, "big")
    event = ev.TransferReceived(transfer, source, destination, 12_50, "USD")
    return str(destination // 10_000), event


class Heard:
    """Who was woken, and what was there to see at that moment."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.heads: dict[int, int] = {}

    async def announce(self, users: Collection[int]) -> None:
        """As replicas do: see what there is."""
        self.heads |= await store.heads(self.pool, list(users))


async def read_all(pool: Pool, **options: Any) -> Heard:
    """Until nothing is left."""
    heard = Heard(pool)
    notifier = Notifier(pool, heard.announce, **options)
    while await notifier.step():
        pass
    return heard


async def shown(pool: Pool, user: int) -> list[tuple[str, dict[str, str]]]:
    """What a person was told, in order; with values that the kind's texts know."""
    found = await store.after(pool, {user: 0}, 1_000)
    assert [row.seq for row in found] == list(range(1, len(found) + 1))
    for row in found:
        assert row.values.keys() == KINDS[Kind(row.kind)].example.keys()
    return [(row.kind, row.values) for row in found]


async def test_payments_are_told_to_whom_they_concern(pool: Pool) -> None:
    tape = await tape_of(pool)
    tape.turn("accounts/0", [received(1, ANN_USD, BEN_USD), received(2, ANN_USD, ANN_EUR)])
    returned = ev.TransferReturned(
        b"3" * 16, ANN_USD, BEN_USD, 700, 30, "USD", 700, "USD", "destination_closed", 1
    )
    tape.turn("accounts/1", [(str(ANN), returned)])
    await tape.flush()
    heard = await read_all(pool)
    assert heard.heads == {ANN: 1, BEN: 1}
    assert await shown(pool, BEN) == [
        (
            "transfer_received",
            {
                "amount": "12.50",
                "currency": "USD",
                "account": str(BEN_USD),
                "counterparty": str(ANN_USD),
                "name": "Ann B.",
                "transfer": "00" * 15 + "01",
            },
        )
    ]
    ((kind, values),) = await shown(pool, ANN)
    assert (kind, values["reason"], values["amount"]) == (
        "transfer_returned",
        "destination_closed",
        "7.00",
    )
    assert (values["account"], values["name"]) == (str(ANN_USD), "Ben C.")


async def test_what_the_back_office_does_is_told(pool: Pool) -> None:
    tape = await tape_of(pool)
    events = [
        ev.StatusChanged(ANN_USD, AccountStatus.FROZEN),
        ev.StatusChanged(ANN_USD, AccountStatus.OPEN),
        ev.StatusChanged(ANN_USD, AccountStatus.FROZEN),
        ev.StatusChanged(ANN_USD, AccountStatus.CLOSED),
        ev.AdjustmentPosted(b"a" * 16, ANN_USD, "USD", -3_00, "Charged twice", 7, 8, START),
    ]
    tape.turn("accounts/1", [(str(ANN), event) for event in events])
    await tape.flush()
    await read_all(pool)
    told = await shown(pool, ANN)
    assert [kind for kind, _ in told] == [
        "account_frozen",
        "account_unfrozen",
        "account_frozen",
        "adjustment_posted",
    ]
    assert told[-1][1]["amount"] == "-3.00"
    targets = await pool.fetch("SELECT target FROM deliveries WHERE channel = 'email'")
    assert [row["target"] for row in targets] == ["ann@example.com"] * 4


async def test_orders_are_told_to_those_who_chose_so(pool: Pool) -> None:
    tape = await tape_of(pool)
    await store.choose(pool, ANN, {(Kind.ORDER_FILLED, Channel.APP): True})
    now = datetime.now(UTC)
    listed = Instrument(
        "BTCUSD", "crypto", "Bitcoin", "", "BTC", "USD", 10**6, 10**4, 1, 9, 9, 1, 1, 9, 0, 0, 0,
        0, 0, "trading", "", None, now, now,
    )  # fmt: skip
    columns = Instrument.__struct_fields__
    await pool.execute(
        f"INSERT INTO instruments ({', '.join(columns)})"
        f" VALUES ({', '.join(f'${place + 1}' for place in range(len(columns)))})",
        *msgspec.structs.astuple(listed),
    )

    def worked(user: int, *updates: Update) -> tuple[str, Any]:
        return str(user), ev.OrdersWorked(b"t" * 16, user, "BTCUSD", START, updates)

    def settled(user: int, *updates: Update) -> tuple[str, Any]:
        return str(user), ev.OrdersSettled(user, "BTCUSD", START, updates)

    filled = Update(1, OrderStatus.FILLED, 5_000, 5_000, 31_250_00 * 5_000)
    tape.turn(
        "accounts/1",
        [
            worked(ANN, Update(1, OrderStatus.PARTIALLY_FILLED, 5_000, 10, 10)),
            settled(ANN, filled, Update(2, OrderStatus.CANCELED, 5, 0, 0)),
            worked(ANN, filled, Update(3, OrderStatus.FILLED, 1, 1, 1, (), "unknown_order")),
            worked(BEN, filled),
        ],
    )
    await tape.flush()
    await read_all(pool)
    assert await shown(pool, ANN) == [
        (
            "order_filled",
            {
                "symbol": "BTCUSD",
                "quantity": "0.50",
                "base": "BTC",
                "value": "15625.00",
                "quote": "USD",
                "order": "1",
            },
        )
    ]
    assert await shown(pool, BEN) == []


async def test_killed_anywhere_it_tells_nothing_twice_and_leaves_nothing_out(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies after each step of its work in turn, the last before the commit included."""

    class Killed(Exception):
        pass

    tape = await tape_of(pool)
    monkeypatch.setattr(notifier_module, "SLICE", 3)
    killed = sent = 0
    steps = ((CURSOR, "advance"), (store, "_choices"), (store, "notify_many"))
    for owner, name in steps * 4:
        for _ in range(2):
            events = [received(sent + place, ANN_USD, BEN_USD) for place in range(1, 6)]
            sent += len(events)
            tape.turn(f"accounts/{sent // 5 % 2}", events)
        await tape.flush()
        step = getattr(owner, name)

        async def dies(*arguments: Any, step: Any = step) -> None:
            await step(*arguments)
            raise Killed

        monkeypatch.setattr(owner, name, dies)
        try:
            await read_all(pool, chunk_bytes=400)
        except Killed:
            killed += 1
        monkeypatch.setattr(owner, name, step)
        if killed % 2:
            await read_all(pool, chunk_bytes=400)
    assert killed == 12
    await read_all(pool)
    told = [values["transfer"] for _, values in await shown(pool, BEN)]
    assert sorted(told) == [f"{number:032x}" for number in range(1, sent + 1)]


async def test_two_at_once_tell_nothing_twice(pool: Pool) -> None:
    tape = await tape_of(pool)
    for number in range(60):
        tape.turn(f"accounts/{number % 2}", [received(number, ANN_USD, BEN_USD)])
    await tape.flush()

    async def read() -> None:
        notifier = Notifier(pool, Heard(pool).announce, chunk_bytes=200)
        while True:
            try:
                if not await notifier.step():
                    return
            except Overtaken:
                continue

    await asyncio.gather(read(), read())
    assert len(await shown(pool, BEN)) == 60


async def test_an_event_that_comes_again_is_told_once(pool: Pool) -> None:
    """Positions lost, as after a restore: keys remember."""
    tape = await tape_of(pool)
    tape.turn("accounts/0", [received(1, ANN_USD, BEN_USD)])
    tape.turn("accounts/0", [(str(BEN), ev.StatusChanged(BEN_USD, AccountStatus.FROZEN))])
    await tape.flush()
    await read_all(pool)
    await pool.execute("UPDATE notified SET seq = 0")
    heard = await read_all(pool)
    assert heard.heads == {}
    assert len(await shown(pool, BEN)) == 2


async def test_its_lag_is_told(pool: Pool) -> None:
    tape = await tape_of(pool)
    notifier = Notifier(pool, Heard(pool).announce, poll_s=0.01, rest=0)
    tape.turn("accounts/0", [received(1, ANN_USD, BEN_USD)])
    await tape.flush()
    await notifier.step()
    await notifier._look()
    about = notifier.describe()
    assert (about["position"], about["lag"], about["told"]) == (1, 0, 1)
    tape.turn("accounts/0", [received(2, ANN_USD, BEN_USD)])
    await tape.flush()
    notifier._looked_at = float("-inf")
    await notifier._look()
    about = notifier.describe()
    assert about["lag"] == 1
    assert about["behind_s"] > 0


async def test_it_rests_between_its_transactions(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine times as long as each took, a second at most."""
    monkeypatch.setattr(notifier_module, "SLICE", 2)
    tape = await tape_of(pool)
    tape.turn("accounts/0", [received(number, ANN_USD, BEN_USD) for number in range(1, 6)])
    await tape.flush()
    rests: list[float] = []

    class Watched(Notifier):
        async def _breathe(self, took: float) -> None:
            rests.append(self._pause(took) / took)
            assert self._pause(60.0) == 1.0

    await Watched(pool, Heard(pool).announce).step()
    assert rests == pytest.approx([9.0, 9.0])
    assert len(await shown(pool, BEN)) == 5


async def test_what_others_tell_is_announced(pool: Pool, database_url: str, redis_url: str) -> None:
    await people(pool)
    announcer = Announcer(redis_url)
    relaying = asyncio.create_task(relay(database_url, announcer))
    client = redis.asyncio.Redis.from_url(redis_url)
    async with client.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe(CHANNEL)
        async with asyncio.timeout(10):
            message = None
            key = 0
            while message is None:
                key += 1
                async with pool.acquire() as proxy, proxy.transaction():
                    told = notice(ANN, f"k{key}")
                    await store.notify(proxy, ANN, told.kind, told.values, key=told.key)  # type: ignore[arg-type]
                message = await channel.get_message(timeout=0.1)
    assert decode_told(message["data"]) == [ANN]
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    await announcer.close()
    await client.aclose()


async def test_who_is_deleted_meanwhile_stops_nobody(pool: Pool) -> None:
    tape = await tape_of(pool)
    tape.turn("accounts/0", [received(1, BEN_USD, ANN_USD), received(2, ANN_USD, BEN_USD)])
    await tape.flush()
    await pool.execute("DELETE FROM users WHERE id = $1", ANN)
    await read_all(pool)
    ((_, values),) = await shown(pool, BEN)
    assert values["name"] == ""


async def test_what_is_old_is_forgotten_unless_it_is_still_to_be_sent(pool: Pool) -> None:
    await people(pool)
    changed = notice(ANN, "mail", Kind.PASSWORD_CHANGED)
    await tell(pool, notice(ANN, "a"), notice(ANN, "b"), changed, notice(BEN, "c"))
    await pool.execute("UPDATE notifications SET at = now() - interval '3 years' WHERE key <> 'b'")
    await read_all(pool)
    rows = await pool.fetch("SELECT key FROM notifications ORDER BY id")
    assert [row["key"] for row in rows] == ["b", "mail"]
    assert await tell(pool, notice(ANN, "d")) == {ANN: 4}


async def test_many_are_told_in_one_go(pool: Pool) -> None:
    await people(pool)
    assert await tell(pool, *(notice(ANN, f"k{index}") for index in range(500))) == {ANN: 500}

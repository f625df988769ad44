"""Make a recording with the present code: ``python -m tests.golden.record NAME COMMIT``.

A short, rich run of partitions over a real Postgres: each type of event and message, groups,
holds, conversions, returns, refusals, slots that move, pinned customers, and a market in which
they trade; at last all partitions are killed with checkpoints behind them, tails that no
checkpoint has, money and orders on their way in every manner, and a slot between two owners.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from actors.accounts import KIND
from actors.durable.placement import scale
from actors.durable.records import Moving
from actors.durable.routing import slot_of
from cluster.books import check
from cluster.embedded import DATABASE, EmbeddedPostgres
from cluster.processes import instance_of, runtime_folder
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.adjustment import (
    AdjustmentReply,
    DecideAdjustment,
    ProposeAdjustment,
    adjustment_digest,
)
from domain.accounts.commands import AccountStatus, Rate
from domain.accounts.numbers import account_number
from domain.accounts.trading import WakeCustomer
from domain.orders import BOOKS
from domain.trading import events as book_events
from persistence.database import connection, open_pool
from persistence.journal import prepare_streams
from persistence.migrate import available, migrate
from persistence.placement import pin, retarget, unpin
from tests.golden.exchange import BOOK, Exchange
from tests.golden.recording import JOURNALS, TYPE, Recording, digest, plain
from tests.golden.shapes import shapes
from tests.golden.site import GoldenSite, balances, count_types
from tests.persistence.site import CURRENCIES

DAY = 86_400_000_000
FIRST, SECOND, THIRD = "accounts/0", "accounts/1", "accounts/2"
USD, CNY, EUR = 0, 1, 2
MAKER = 2_000_000_001


class Scenario:
    """What customers do. Each step asks through ``say``, which notes command and answer."""

    def __init__(self, site: GoldenSite) -> None:
        self.site = site
        self.here = site.customers(FIRST, 4)
        self.there = site.customers(SECOND, 4)
        self.traveller = site.customers(FIRST, 5)[-1]
        self.exchange = Exchange(site, self.here[2], self.there[1], self.there[0])

    async def open(self) -> None:
        """Eight customers with three accounts each; some have more, a limit, a closed account."""
        site = self.site
        for customer in (*self.here, *self.there, self.traveller):
            await site.say(
                cmd.OpenCustomer(site.id(), b"o", customer, CURRENCIES, "USD", 1_000_000)
            )
        for customer in (self.here[0], self.there[0]):
            await site.say(cmd.OpenAccount(site.id(), b"a", customer, "EUR", "Ferien — 休假"))
        await site.say(cmd.OpenAccount(site.id(), b"a", self.here[0], "GBP", "Not a currency"))
        await site.say(cmd.SetDailyLimit(site.id(), b"l", self.here[1], "USD", 75_000))
        for account, status in (
            (account_number(self.there[1], EUR), AccountStatus.CLOSED),
            (account_number(self.there[2], USD), AccountStatus.FROZEN),
            (account_number(self.here[3], USD), AccountStatus.FROZEN),
            (account_number(self.here[3], USD), AccountStatus.OPEN),
        ):
            await site.say(cmd.SetAccountStatus(site.id(), b"s", account, status))

    async def pay(self) -> None:
        """Transfers within and between partitions, conversions, returns, refusals, repeats."""
        site, rate = self.site, Rate(7_200_000_000, self.site.now + DAY)
        for giver, taker in zip(self.here, (*self.there[1:], self.here[0]), strict=True):
            reference = f"Rent of {giver}: café, 房租"
            await site.say(self._usd(giver, taker, 12_345, reference=reference))
            await site.say(self._usd(taker, giver, 1_000))
        for other in (self.here[0], self.here[1], self.there[0]):
            to = account_number(other, CNY)
            source = account_number(self.here[0], USD)
            await site.say(site.transfer(source, to, 20_000, "CNY", rate=rate))
        for account in (
            account_number(self.there[0], 9),
            account_number(self.here[1], 9),
            account_number(self.there[1], EUR),
        ):
            await site.say(site.transfer(account_number(self.here[2], USD), account, 500, "USD"))
        refused = self._usd(self.here[0], self.there[0], 99_999_999)
        await site.say(refused)
        await site.say(refused)
        await site.say(self._usd(self.here[1], self.there[0], 74_000))
        paid, _ = site.asked[-3]
        await site.say(cmd.Transfer(paid.id, b"other", *_rest(paid)))

    async def move(self) -> None:
        """A third partition, two pinned customers, one of them unpinned; and payments after."""
        site = self.site
        await scale(site.pool, KIND, 3)
        await site.start(THIRD)
        await site.moved()
        for customer in (self.here[1], self.there[3]):
            await site.start(await pin(site.pool, KIND, str(customer)))
            await site.moved()
        await self.pay()
        homes = dict.fromkeys(map(slot_of, map(str, (*self.here, self.traveller))), FIRST)
        homes.update(dict.fromkeys(map(slot_of, map(str, self.there)), SECOND))
        await retarget(site.pool, KIND, homes)
        await site.moved()
        await unpin(site.pool, KIND, str(self.there[3]))
        await site.moved()

    async def depart(self) -> None:
        """A slot leaves its owner while nobody is there to adopt it."""
        site = self.site
        await site.local.kill(THIRD)
        await retarget(site.pool, KIND, {slot_of(str(self.traveller)): THIRD})
        async with asyncio.timeout(10):
            while not await site.pool.fetchval("SELECT count(*) FROM handovers"):
                site.partitions[FIRST].nudge()
                await asyncio.sleep(0.02)

    async def hold(self) -> None:
        """Holds that are posted in part, voided, expired, and one that stays."""
        site, giver = self.site, self.here[0]
        holds = []
        for customer in (giver, self.there[0]):
            for days in (1, 1, 1, 30):
                account = account_number(customer, USD)
                command = cmd.ReserveHold(
                    site.id(), b"h", account, 10_000, site.now + days * DAY, "order 7"
                )
                await site.say(command)
                holds.append((customer, command.id))
        for customer, hold in holds[:2]:
            for to, release in ((self.there[1], False), (self.here[1], True)):
                part = (customer, hold, 2_000, account_number(to, USD), "USD", "Fill", release)
                await site.say(cmd.PostHold(site.id(), b"p", *part))
        for customer, hold in (holds[2], holds[4]):
            await site.say(cmd.VoidHold(site.id(), b"v", customer, hold))
        site.now += 2 * DAY
        for customer in (giver, self.there[0]):
            await site.say(cmd.ExpireHolds(customer))

    async def adjust(self) -> None:
        """Adjustments that expire, are posted both ways, refused, and one that waits."""
        site, account = self.site, account_number(self.here[1], USD)
        await self._propose(account, 1)
        site.now += 8 * DAY
        await site.say(WakeCustomer(self.here[1]))
        for amount, approve in ((250, True), (-100, True), (70, False)):
            seen = await self._propose(account, amount)
            digest = adjustment_digest(
                seen.id, seen.account, seen.currency, seen.amount, seen.reason, seen.maker,
                seen.expires_at,
            )  # fmt: skip
            for checker in (MAKER, MAKER + 1):
                decision = (self.here[1], seen.id, digest, checker, approve, "Looked at it")
                await site.say(DecideAdjustment(site.id(), b"d", *decision))
        await self._propose(account_number(self.there[1], USD), 9)

    async def _propose(self, account: int, amount: int) -> AdjustmentReply:
        reason = "Fee charged twice — 更正"
        command = ProposeAdjustment(self.site.id(), b"p", account, amount, reason, MAKER)
        await self.site.say(command)
        _, seen = self.site.asked[-1]
        assert isinstance(seen, AdjustmentReply), seen
        return seen

    async def link(self) -> None:
        """Groups to both partitions that are carried out, refused, and of own accounts."""
        site, giver = self.site, self.here[0]
        good = (account_number(self.there[0], USD), account_number(self.here[1], USD))
        bad = account_number(self.there[0], 9)
        own = (account_number(giver, CNY), account_number(giver, EUR))
        rate = Rate(900_000_000, site.now + DAY)
        for to in (good, (*good, bad), (account_number(self.there[1], USD), bad)):
            await site.say(self._group(giver, to))
        legs = tuple(
            site.transfer(account_number(giver, USD), account, 3_000, currency, rate=rate)
            for account, currency in zip(own, ("CNY", "EUR"), strict=True)
        )
        await site.say(cmd.LinkedTransfers(site.id(), b"g", legs))

    async def on_their_way(self) -> list[Any]:
        """Commands that are not answered any more: what they sent stays between partitions."""
        site = self.site
        site.deaf.update((SECOND, BOOK))
        taken: list[Any] = [
            self._usd(self.here[0], self.there[0], 4_321, reference="taken, not noted"),
            site.transfer(
                account_number(self.here[1], USD), account_number(self.there[0], 9), 50, "USD"
            ),
            self._group(self.here[2], (account_number(self.there[3], USD),)),
            *self.exchange.taken(),
        ]
        await self._leave(taken)
        site.closed.update((FIRST, SECOND, THIRD, BOOK))
        stuck: list[Any] = [
            self._usd(self.there[3], self.here[3], 777, reference="never arrived"),
            self._usd(self.here[3], self.there[3], 888),
            self._group(
                self.there[0],
                (account_number(self.here[0], USD), account_number(self.here[1], USD)),
            ),
            *self.exchange.stuck(),
        ]
        await self._leave(stuck)
        return [*taken, *stuck]

    async def _leave(self, commands: list[Any]) -> None:
        """Ask without waiting for the answers, which do not come."""
        site = self.site
        before = sum(partition.scribe.committed_seq for partition in site.partitions.values())
        for command in commands:
            partition = site.partitions[site.owner(site.machine.key(command))]
            site.left.append(asyncio.ensure_future(partition.submit([command])))
            await asyncio.sleep(0.2)
        assert sum(p.scribe.committed_seq for p in site.partitions.values()) > before

    def _usd(self, source: int, destination: int, amount: int, **fields: Any) -> cmd.Transfer:
        return self.site.transfer(
            account_number(source, USD), account_number(destination, USD), amount, **fields
        )

    def _group(self, giver: int, destinations: tuple[int, ...]) -> cmd.LinkedTransfers:
        site = self.site
        legs = tuple(site.transfer(account_number(giver, USD), to, 1_500) for to in destinations)
        return cmd.LinkedTransfers(site.id(), b"g", legs)


def _rest(command: cmd.Transfer) -> tuple[Any, ...]:
    """The fields of a transfer after its id and fingerprint."""
    return tuple(getattr(command, name) for name in command.__struct_fields__[2:])


async def perform(url: str, dump: Any, commit: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Play the scenario; ``dump`` is called when both partitions have been killed."""
    pool = await open_pool(url, name="golden", size_max=8)
    try:
        await prepare_streams(pool, KIND, 2)
        await prepare_streams(pool, BOOKS, 1)
        site = GoldenSite(pool)
        await site.start(FIRST, SECOND)
        scenario = Scenario(site)
        await scenario.open()
        await scenario.exchange.open()
        await scenario.exchange.orders()
        await scenario.pay()
        await scenario.move()
        await scenario.exchange.replace()
        await scenario.exchange.supervise()
        await scenario.hold()
        await scenario.adjust()
        await scenario.depart()
        await site.checkpointed()
        site.no_more_checkpoints()
        await scenario.link()
        await scenario.exchange.again()
        left = await scenario.on_their_way()
        await site.crash()
        await dump()
        expected, manifest = await _stopped(site, commit)
        site.closed.clear()
        site.deaf.clear()
        await site.quiet()
        answered = len(site.asked)
        for command in left:
            await site.say(command)
        expected["settled"] = await site.states()
        expected["asked"] = [
            {
                "command": site.codec.encode(command).hex(),
                "reply": site.codec.encode(reply).hex(),
                "command_reads": plain(command),
                "reply_reads": plain(reply),
                "answered after the stop": index >= answered,
                "kind": kind,
            }
            for index, ((command, reply), kind) in enumerate(
                zip(site.asked, site.kinds, strict=True)
            )
        ]
        expected["shipments"] = [
            {"to": to, "wire": wire.hex(), "reads": plain(site.codec.decode_shipment(wire))}
            for to, wire in site.shipments
        ]
        manifest["commands"] = _counted(part["command_reads"] for part in expected["asked"])
        manifest["replies"] = _counted(part["reply_reads"] for part in expected["asked"])
        manifest["balances when settled"] = balances(expected["settled"])
        manifest["state when settled, SHA-256"] = digest(expected["settled"])
        await site.stop()
        report = await check(pool)
        assert report.ok, report.findings
        return manifest, expected
    finally:
        await pool.close()


async def _stopped(site: GoldenSite, commit: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is there after the kill, read by the code that wrote it."""
    rows = await site.journal()
    report = await check(site.pool)
    assert report.ok, report.findings
    tails = await site.pool.fetch(
        """
        SELECT j.stream, count(*) AS rows, count(*) FILTER (WHERE j.seq > c.seq) AS tail
        FROM journal j JOIN checkpoints c USING (stream) GROUP BY j.stream ORDER BY j.stream"""
    )
    adopting = [row[0] for row in await site.pool.fetch("SELECT DISTINCT stream FROM handovers")]
    assert adopting == [THIRD]
    names = [row["stream"] for row in tails]
    site.closed.update(names)
    await site.start(*names)
    site.no_more_checkpoints()
    await site.moved()
    states = await site.states(adopting)
    events, messages, moves = count_types(rows)
    assert set(moves) == {kind.__name__ for kind in Moving.__args__}, moves
    kinds = {kind.__name__ for kind in ev.Event.__args__}
    kinds |= {f"books.{kind.__name__}" for kind in book_events.Event.__args__}
    assert set(events) == kinds, set(events) ^ kinds
    # What customers tell themselves is told within a turn.
    told = {kind.__name__ for kind in cmd.EntityMessage.__args__} - {"PlaceLater"}
    assert set(messages) == told, messages
    assert all(row["tail"] for row in tails if row["stream"] in {FIRST, SECOND, BOOK}), tails
    assert all(states[stream]["partition"]["outbox"] for stream in (FIRST, SECOND, BOOK))
    expected = {"journal": rows, "stopped": states}
    manifest = {
        "recorded with": commit,
        "schema": max(migration.version for migration in available()),
        "streams": {
            row["stream"]: {
                "rows": row["rows"],
                "of them after the checkpoint": row["tail"],
                "messages on their way": len(states[row["stream"]]["partition"]["outbox"]),
                "customers": len(states[row["stream"]]["entities"]),
                "state, SHA-256": digest(states[row["stream"]]),
            }
            for row in tails
        },
        "events": dict(sorted(events.items())),
        "messages": dict(sorted(messages.items())),
        "moves": dict(sorted(moves.items())),
        "adopting": adopting,
        "in transit": report.in_transit,
        "sums": report.sums,
        "balances": balances(states),
    }
    return expected, manifest


def _counted(parts: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part[TYPE]] = counts.get(part[TYPE], 0) + 1
    return dict(sorted(counts.items()))


def main() -> None:
    """Record into a folder that does not exist yet."""
    name, commit = sys.argv[1], sys.argv[2]
    recording = Recording(JOURNALS / name)
    folder = Path(tempfile.mkdtemp(prefix="kontor-golden-"))
    instance = instance_of(folder)
    server = EmbeddedPostgres(
        folder / "postgres",
        runtime_folder(instance),
        folder / "postgres.log",
        instance=instance,
        fsync=False,
    )
    try:
        server.start()
        texts: list[str] = []

        def pg_dump() -> str:
            options = ("--no-owner", "--no-privileges", "--restrict-key=golden")
            command = [str(server.binaries / "pg_dump"), *options, f"--dbname={server.url()}"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        async def dump() -> None:
            texts.append(await asyncio.to_thread(pg_dump))

        async def work() -> tuple[dict[str, Any], dict[str, Any]]:
            async with connection(server.url(DATABASE), name="golden") as conn:
                await migrate(conn)
            return await perform(server.url(DATABASE), dump, commit)

        manifest, expected = asyncio.run(work())
        recording.write(manifest, shapes(), expected, texts[0])
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(runtime_folder(instance), ignore_errors=True)


if __name__ == "__main__":
    main()

"""Faults: each does its damage, waits, and takes back what a world without it would not have."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from random import Random

import msgspec

from actors.durable.placement import balanced
from actors.durable.routing import slot_of
from cluster.simulation.model import Violation
from cluster.simulation.network import Weather
from cluster.simulation.plan import Fault
from cluster.simulation.platform import Platform, Process
from cluster.simulation.store import Faults
from persistence.journal import GENESIS, SLOTS, Checkpoint, Corrupt, JournalRow, check_link


class Damage:
    """Something stored that is not what was written. ``name`` must be in the reason to halt."""

    def __init__(self, stream: str, kind: str, name: str, restore: Callable[[], None]) -> None:
        self.stream = stream
        self.kind = kind
        self.name = name
        self.restore = restore
        self.seq = 0
        self.key = ""


class Trouble:
    """What goes wrong, one task for each fault, and the operator who repairs damage."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.calm = Weather(platform.setup.resets, platform.setup.repeats)
        self.quiet = Faults(
            commit_fails=platform.setup.fails,
            answer_lost=platform.setup.fails,
            read_fails=platform.setup.fails / 2,
            slow=0.02,
            slow_s=0.2,
        )
        self.damage: dict[str, Damage] = {}
        self._history: list[Damage] = []
        self._storms = 0
        self._kinds: dict[str, Callable[[Fault, str], Awaitable[None]]] = {
            "crash": self._crash,
            "replace": self._replace,
            "pause": self._pause,
            "overtake": self._overtake,
            "stop": self._stop,
            "fail": self._fail,
            "forgetful": self._forgetful,
            "slow": self._slow,
            "away": self._away,
            "restart": self._restart,
            "cut": self._cut,
            "storm": self._storm,
            "clock": self._clock,
            "corrupt": self._corrupt,
            "move": self._move,
            "scale": self._scale,
            "pin": self._pin,
            "unpin": self._unpin,
        }

    def begin(self) -> None:
        """The usual small troubles."""
        self.platform.database.faults = self.quiet
        self.platform.network.weather = self.calm

    async def strike(self, fault: Fault) -> None:
        """One fault, from its time to its end."""
        await asyncio.sleep(fault.at)
        streams = self.platform.streams
        await self._kinds[fault.kind](fault, streams[fault.place % len(streams)])

    def end(self) -> None:
        """No trouble any more, and every stream has a process that runs."""
        platform = self.platform
        platform.calm()
        platform.network.weather = Weather()
        for stream in platform.streams:
            for process in platform.processes[stream]:
                process.thaw()
            if platform.serving(stream) is None:
                platform.start(stream)

    async def operate(self) -> None:
        """Start again what has halted, once the damage is repaired."""
        while True:
            await asyncio.sleep(0.1)
            for stream in self.platform.streams:
                process = self.platform.serving(stream)
                partition = None if process is None else process.partition
                if process is None or partition is None or stream in self.damage:
                    continue
                if partition.state == "halted":
                    process.die()
                    self.platform.start(stream)

    # -- processes ------------------------------------------------------------------------

    async def _crash(self, fault: Fault, stream: str) -> None:
        self.platform.crash(stream)
        await asyncio.sleep(fault.seconds * 0.3)
        if self.platform.serving(stream) is None:
            self.platform.start(stream)

    async def _replace(self, fault: Fault, stream: str) -> None:
        self.platform.start(stream)

    async def _pause(self, fault: Fault, stream: str) -> None:
        process = self.platform.serving(stream)
        if process is not None:
            process.frozen = True
            await asyncio.sleep(fault.seconds)
            process.thaw()

    async def _overtake(self, fault: Fault, stream: str) -> None:
        """Frozen, replaced, and back again beside its replacement."""
        process = self.platform.serving(stream)
        if process is not None:
            process.frozen = True
            await asyncio.sleep(fault.seconds * 0.3)
            self.platform.start(stream)
            await asyncio.sleep(fault.seconds)
            process.thaw()

    async def _stop(self, fault: Fault, stream: str) -> None:
        process = self.platform.serving(stream)
        if process is None or process.partition is None:
            return
        stopping = asyncio.create_task(process.partition.stop())
        await asyncio.wait({stopping}, timeout=2.0)
        process.die()
        if self.platform.serving(stream) is None:
            self.platform.start(stream)

    # -- database -------------------------------------------------------------------------

    async def _ail(self, fault: Fault, stream: str, faults: Faults) -> None:
        trouble = self.platform.database.trouble
        trouble[stream] = faults
        await asyncio.sleep(fault.seconds)
        if trouble.get(stream) is faults:
            del trouble[stream]

    async def _fail(self, fault: Fault, stream: str) -> None:
        await self._ail(fault, stream, Faults(commit_fails=0.4, read_fails=0.1))

    async def _forgetful(self, fault: Fault, stream: str) -> None:
        await self._ail(fault, stream, Faults(answer_lost=0.4))

    async def _slow(self, fault: Fault, stream: str) -> None:
        await self._ail(fault, stream, Faults(slow=0.5, slow_s=fault.seconds))

    async def _away(self, fault: Fault, stream: str) -> None:
        now = asyncio.get_running_loop().time()
        self.platform.database.away[stream] = now + fault.seconds

    async def _restart(self, fault: Fault, stream: str) -> None:
        """The database itself: nobody reaches it."""
        until = asyncio.get_running_loop().time() + fault.seconds / 2
        for platform in self.platform.together.values():
            for name in self.platform.places:
                platform.database.away[name] = until

    # -- network and clock ----------------------------------------------------------------

    async def _cut(self, fault: Fault, stream: str) -> None:
        places = self.platform.places
        other = places[fault.other % len(places)]
        if other != stream:
            self.platform.network.separate(stream, other)
            await asyncio.sleep(fault.seconds * (4 if fault.value % 4 == 0 else 1))
            self.platform.network.join(stream, other)

    async def _storm(self, fault: Fault, stream: str) -> None:
        self._storms += 1
        self.platform.network.weather = Weather(0.1, 0.3, 0.3)
        await asyncio.sleep(fault.seconds)
        self._storms -= 1
        if not self._storms:
            self.platform.network.weather = self.calm

    async def _clock(self, fault: Fault, stream: str) -> None:
        self.platform.clock_shift_s = (-3_600.0, 0.0, 3_600.0)[fault.value % 3]

    # -- moves ----------------------------------------------------------------------------

    def _key(self, number: int) -> str:
        """A customer that is there."""
        keys = list(self.platform.database.snapshots) or [self.platform.first_key]
        return keys[number % len(keys)]

    def _wished(self) -> None:
        """The command that wrote a wish tells all partitions to look."""
        for stream in self.platform.streams:
            process = self.platform.serving(stream)
            if process is not None and process.partition is not None:
                process.run(process.partition.nudge)

    async def _move(self, fault: Fault, stream: str) -> None:
        """Some customers' slots are to go to a stream; some go back before they are there."""
        database, random = self.platform.database, Random(fault.value)
        keys = [self._key(random.getrandbits(20)) for _ in range(random.choice([1, 3, 8]))]
        slots = dict.fromkeys(database.slot(key) for key in keys)
        before = {slot: database.owners[slot] for slot in slots}
        for slot in slots:
            database.wish(slot, stream)
        self._wished()
        if fault.other % 3 == 0:
            await asyncio.sleep(fault.seconds * 0.2)
            for slot in slots:
                database.wish(slot, before[slot])

    async def _scale(self, fault: Fault, stream: str) -> None:
        database = self.platform.database
        count = 1 + fault.value % 5
        streams = [f"{self.platform.kind.name}/{index}" for index in range(count)]
        for name in streams:
            if name not in database.streams:
                self.platform.start(name)
        owners = {s: o for s, o in database.owners.items() if s < SLOTS}
        # Slots without customers are all alike: a few of them will do.
        lived_in = {slot_of(key) for key in database.snapshots}
        for index, (slot, target) in enumerate(balanced(owners, streams).items()):
            if slot in lived_in or index % 64 == 0:
                database.wish(slot, target)
        self._wished()

    async def _pin(self, fault: Fault, stream: str) -> None:
        key = self._key(fault.value)
        name = f"{self.platform.kind.name}/pin-{1 + fault.other % 2}"
        if name not in self.platform.streams:
            self.platform.start(name)
        self.platform.database.pin(key, name)
        self._wished()

    async def _unpin(self, fault: Fault, stream: str) -> None:
        database = self.platform.database
        if database.private:
            key = list(database.private)[fault.value % len(database.private)]
            database.pin(key, database.owners[slot_of(key)])
            self._wished()

    # -- damage ---------------------------------------------------------------------------

    async def _corrupt(self, fault: Fault, stream: str) -> None:
        """Change what is stored; it is found and named; the operator puts it back."""
        damage = None if stream in self.damage else self._spoil(Random(fault.value), stream)
        if damage is None:
            return
        self.damage[stream] = damage
        self._history.append(damage)
        self._look(damage)
        self.platform.crash(stream)
        self.platform.start(stream)
        await asyncio.sleep(0.2 + fault.seconds)
        damage.restore()
        del self.damage[stream]

    def _spoil(self, random: Random, stream: str) -> Damage | None:
        rows = self.platform.database.rows.get(stream, [])
        kind = random.choice(["row", "row", "last", "last", "gap", "checkpoint", "snapshot"])
        if kind == "snapshot":
            return self._spoil_snapshot(random, stream)
        if kind == "checkpoint":
            return self._spoil_checkpoint(random, stream)
        if len(rows) < 2:
            return None
        index = len(rows) - 1 if kind == "last" else random.randrange(len(rows) - 1)
        row = rows[index]
        if kind == "gap":
            del rows[index]
            damage = Damage(stream, "row", f"{stream} {row.seq}", lambda: rows.insert(index, row))
        else:
            spoilt = spoil(random, row)
            rows[index] = spoilt

            def restore() -> None:
                rows[index] = row

            damage = Damage(stream, "row", f"{stream} {row.seq}", restore)
        damage.seq = row.seq
        return damage

    def _spoil_checkpoint(self, random: Random, stream: str) -> Damage | None:
        database = self.platform.database
        good = database.checkpoints.get(stream)
        if good is None:
            return None
        bad = Checkpoint(good.seq, good.hash, changed(random, good.state))
        database.checkpoints[stream] = bad

        def restore() -> None:
            if database.checkpoints[stream] is bad:
                database.checkpoints[stream] = good

        return Damage(stream, "checkpoint", f"checkpoint of {stream}", restore)

    def _spoil_snapshot(self, random: Random, stream: str) -> Damage | None:
        database = self.platform.database
        keys = [key for key in database.snapshots if self.platform.owner(key) == stream]
        if not keys:
            return None
        key = random.choice(keys)
        good = database.snapshots[key]
        bad = changed(random, good)
        database.snapshots[key] = bad

        def restore() -> None:
            if database.snapshots[key] is bad:
                database.snapshots[key] = good

        damage = Damage(stream, "snapshot", f"{self.platform.kind.name} {key}", restore)
        damage.key = key
        return damage

    def _look(self, damage: Damage) -> None:
        """A verification of all that is stored finds the damage and names it."""
        found = verify(self.platform, damage.stream)
        if damage.name not in found:
            text = f"damage to {damage.name} is reported as {found!r}"
            self.platform.witness.fail(Violation(10, text))

    def halted(self, stream: str, reason: str) -> None:
        """A partition has halted; that is right only where damage is, and it must be named."""
        # A damaged snapshot may have moved on with its entity.
        if not any(
            damage.name in reason
            for damage in self._history
            if damage.stream == stream or damage.kind == "snapshot"
        ):
            check = 1 if "sum to zero" in reason else 10
            self.platform.witness.fail(Violation(check, f"{stream} halted: {reason}"))

    def recovered(self, process: Process) -> None:
        """A partition has recovered; that is wrong if what it read is damaged."""
        partition, damage = process.partition, self.damage.get(process.stream)
        if partition is None or damage is None:
            return
        read = {
            "row": damage.seq > partition.scribe.checkpoint_seq,
            "checkpoint": verify(self.platform, damage.stream) != "",
            "snapshot": False,
        }
        if read[damage.kind]:
            self.platform.witness.fail(Violation(10, f"{damage.name} was read unseen"))


def changed(random: Random, data: bytes) -> bytes:
    """One byte changed, or the end torn off."""
    if len(data) > 1 and random.random() < 0.3:
        return data[: random.randrange(len(data) - 1)]
    index = random.randrange(len(data))
    return data[:index] + bytes([data[index] ^ (1 + random.randrange(255))]) + data[index + 1 :]


def spoil(random: Random, row: JournalRow) -> JournalRow:
    """A row with one of its fields changed."""
    name = random.choice(["entries", "entries", "hash", "previous_hash", "at", "epoch"])
    value = getattr(row, name)
    other = changed(random, value) if isinstance(value, bytes) else value + random.choice([-1, 1])
    return msgspec.structs.replace(row, **{name: other})


def verify(platform: Platform, stream: str) -> str:
    """Follow a stream's chain and look at its checksums: the first thing that is not right."""
    database = platform.database
    previous = GENESIS
    try:
        for seq, row in enumerate(database.rows.get(stream, []), start=1):
            check_link(row, seq, previous)
            previous = row.hash
    except Corrupt as error:
        return str(error)
    checkpoint = database.checkpoints.get(stream)
    if checkpoint and zlib.crc32(checkpoint.state) != database.checksums[stream]:
        return f"The checkpoint of {stream} is damaged."
    for key, state in database.snapshots.items():
        if zlib.crc32(state) != database.checksums[key] and platform.owner(key) == stream:
            return f"The snapshot of {platform.kind.name} {key} is damaged."
    return ""

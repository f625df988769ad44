"""Which slots should go where: arithmetic over the slot map, written down as wishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from persistence import placement
from persistence.database import Pool
from persistence.journal import SLOTS

PRIVATE_FIRST: Final = SLOTS
"""Slots from here on belong to a single key each."""
STREAMS_MAX: Final = 256


class Suggestion(msgspec.Struct, frozen=True):
    """Moves that would even out what was measured.

    ``before`` and ``after`` are the load of the busiest stream over the average, 1.0 at best.
    """

    targets: dict[int, str]
    before: float
    after: float


def balanced(owners: Mapping[int, str], streams: Sequence[str]) -> dict[int, str]:
    """The fewest moves after which each of ``streams`` has an even share of the shared slots.

    ``owners`` is who owns each slot now. Slots of streams that are not in ``streams`` all move;
    the others give away only what is above their share. Returns the new owner by moving slot.
    """
    shared = sorted(slot for slot in owners if slot < PRIVATE_FIRST)
    share, more = divmod(len(shared), len(streams))
    held: dict[str, list[int]] = {stream: [] for stream in streams}
    free: list[int] = []
    for slot in shared:
        held.get(owners[slot], free).append(slot)
    # The larger shares go to those that have most already.
    ranked = sorted(streams, key=lambda stream: -len(held[stream]))
    shares = {stream: share + (rank < more) for rank, stream in enumerate(ranked)}
    for stream in streams:
        free.extend(held[stream][shares[stream] :])
        del held[stream][shares[stream] :]
    free.sort()
    targets: dict[int, str] = {}
    for stream in streams:
        wanted = shares[stream] - len(held[stream])
        targets.update(dict.fromkeys(free[:wanted], stream))
        del free[:wanted]
    return targets


def suggest(
    owners: Mapping[int, str],
    loads: Mapping[int, float],
    streams: Sequence[str],
    *,
    moves_max: int = 512,
    tolerance: float = 1.1,
) -> Suggestion:
    """Moves from busy to idle streams until the busiest is within ``tolerance`` of the average.

    ``loads`` are commands per second by slot. Each step takes from the busiest stream the slot
    that brings it and the idlest one closest together; one very hot slot is left alone, since
    moving it helps nobody (pin its key instead).
    """
    total = dict.fromkeys(streams, 0.0)
    slots: dict[str, dict[int, float]] = {stream: {} for stream in streams}
    for slot, stream in owners.items():
        if stream in slots and slot < PRIVATE_FIRST:
            load = loads.get(slot, 0.0)
            slots[stream][slot] = load
            total[stream] += load
    average = sum(total.values()) / len(streams) if streams else 0.0
    before = max(total.values(), default=0.0) / average if average else 1.0
    targets: dict[int, str] = {}
    while average and len(targets) < moves_max:
        busiest = max(streams, key=lambda stream: total[stream])
        idlest = min(streams, key=lambda stream: total[stream])
        if total[busiest] <= average * tolerance:
            break
        gap = total[busiest] - total[idlest]
        candidates = [slot for slot, load in slots[busiest].items() if 0 < load < gap]
        if not candidates:
            break
        slot = min(candidates, key=lambda slot: abs(gap / 2 - slots[busiest][slot]))
        load = slots[busiest].pop(slot)
        slots[idlest][slot] = load
        total[busiest] -= load
        total[idlest] += load
        targets[slot] = idlest
        if owners[slot] == idlest:
            del targets[slot]
    after = max(total.values(), default=0.0) / average if average else 1.0
    return Suggestion(targets, before, after)


def completed(
    known: Mapping[int, str], told: Mapping[int, str], streams: Sequence[str]
) -> dict[int, str]:
    """An owner for each shared slot, and for whatever else is ``known`` or ``told``.

    What is ``known`` goes before what is ``told``. In a slot of which neither says anything nobody
    has ever been, so it may be anybody's: it goes to the owner of the slot before it, as slots were
    given out in ranges, or else to the first of ``streams``.
    """
    found = {**told, **known}
    owner = next((found[slot] for slot in range(SLOTS) if slot in found), streams[0])
    for slot in range(SLOTS):
        owner = found.setdefault(slot, owner)
    return found


class Plan(msgspec.Struct, frozen=True):
    """What ``scale`` wished for: the streams that share the slots, and how many slots move."""

    streams: list[str]
    moves: int


async def scale(pool: Pool, kind: str, count: int) -> Plan:
    """Wish that ``count`` streams share the slots evenly; pinned keys stay where they are.

    Asking again changes nothing. Raises ``ValueError`` for a count that cannot be, ``Unknown``
    for a kind that has no slots.
    """
    if not 1 <= count <= STREAMS_MAX:
        raise ValueError(f"From 1 to {STREAMS_MAX} partitions, not {count}.")
    streams = [f"{kind}/{index}" for index in range(count)]
    async with placement.changing(pool) as connection:
        owned = await placement.owners(connection, kind)
        if not owned:
            raise placement.Unknown(f"There are no {kind}.")
        await placement.make_streams(connection, kind, streams)
        targets = {slot: stream for slot, stream in owned.items() if slot < PRIVATE_FIRST}
        targets.update(balanced(owned, streams))
        for slot, stream in owned.items():
            if slot >= PRIVATE_FIRST and not placement.is_pin(stream) and stream not in streams:
                targets[slot] = streams[slot % count]
        return Plan(streams, await placement.write_targets(connection, kind, targets))

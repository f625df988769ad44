"""All journals replayed together: entities go from one stream to the next as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.accounts import accounts_codec
from actors.durable.records import Adopted, Codec, Moving, Parcel, Released, TurnRecord
from actors.durable.replay import Replay
from actors.durable.routing import slot_of
from actors.durable.turn import Workspace
from domain.accounts import events as ev
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.accounts.policy import Policy
from persistence.journal import GENESIS, Corrupt, JournalRow

CODEC: Codec[Any, Any] = accounts_codec()
ALICE = 1_000_000_001
KEY = str(ALICE)
SLOT = slot_of(KEY)
ACCOUNT = account_number(ALICE, 0)


def bonus(amount: int, transfer: int) -> tuple[str, Any]:
    return (KEY, ev.BonusCredited(transfer.to_bytes(16, "big"), ACCOUNT, "USD", amount))


def row(stream: str, seq: int, events: list[tuple[str, Any]], moved: list[Moving]) -> JournalRow:
    record: TurnRecord[Any, Any] = TurnRecord(events, [], [], [], moved)
    return JournalRow(stream, seq, 1, seq, CODEC.encode(record), GENESIS, GENESIS)


def adopted(origin_seq: int) -> Adopted:
    return Adopted("s/0", origin_seq, [SLOT], Parcel({SLOT: {"USD": 100}}, {}, {}, {}))


JOURNALS = {
    "s/1": [row("s/1", 1, [bonus(7, 2)], [adopted(2)])],
    "s/0": [
        row("s/0", 1, [(KEY, ev.AccountOpened(ACCOUNT, "USD", "", 0)), bonus(100, 1)], []),
        row("s/0", 2, [], [Released("s/1", [SLOT])]),
    ],
}


def replayed(journals: dict[str, list[JournalRow]]) -> tuple[Replay, dict[str, bytes]]:
    seen: dict[str, bytes] = {}

    async def rows(stream: str) -> AsyncIterator[JournalRow]:
        for each in journals[stream]:
            yield each

    machine = AccountsMachine(Policy({}, {}))
    replay = Replay(CODEC, lambda: Workspace(machine, CODEC, lambda _: True))
    streams = {stream: rows(stream) for stream in journals}
    asyncio.run(replay.run(streams, lambda s, r, record, came: seen.update(came)))
    return replay, seen


def test_what_comes_is_shown_as_it_came_whatever_the_turn_does_with_it() -> None:
    replay, came = replayed(JOURNALS)
    assert CODEC.decode_entity(came[KEY]).accounts[ACCOUNT].posted == 100
    assert replay.works["s/1"].entities[KEY].state.accounts[ACCOUNT].posted == 107
    assert (replay.works["s/0"].entities, replay.parcels) == ({}, {})
    assert replay.works["s/0"].partition.house["moved"] == {"USD": 100}
    assert replay.works["s/1"].partition.house["moved"] == {"USD": -100}


def test_what_nobody_adopted_is_between_two_streams() -> None:
    replay, _ = replayed({**JOURNALS, "s/1": []})
    assert list(replay.parcels) == [("s/0", 2)]


def test_what_nobody_released_cannot_be_adopted() -> None:
    with pytest.raises(Corrupt, match="s/1 1 adopts what nobody has released"):
        replayed({**JOURNALS, "s/0": JOURNALS["s/0"][:1]})

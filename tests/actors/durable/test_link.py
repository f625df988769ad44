"""Links: batches by themselves, in order, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.accounts import accounts_codec
from actors.durable.channel import NoAnswer
from actors.durable.link import RequestLink
from actors.durable.records import Codec
from cluster.simulation.virtual import run_virtual
from domain.accounts import commands as cmd
from domain.durable import Rejection, Unavailable

CODEC: Codec[Any, Any] = accounts_codec()
encode = CODEC.encode


def read(customer: int) -> cmd.ReadCustomer:
    return cmd.ReadCustomer(customer)


class Partition:
    """Answers batches after a second, and remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = 0
        self.most = 0
        self.fails: Exception | None = None

    async def deliver(self, payload: bytes) -> bytes:
        customers = [command.customer for command in CODEC.decode_commands(payload)]
        self.batches.append(customers)
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(1)
        self.open -= 1
        if self.fails is not None:
            raise self.fails
        return encode([Rejection(str(customer)) for customer in customers])


def test_what_gathers_goes_together_and_in_order() -> None:
    async def main() -> None:
        partition = Partition()
        link = RequestLink(partition.deliver, CODEC, in_flight_max=2, batch_max=40)
        asking = []
        for start in range(0, 300, 3):
            commands = [read(number) for number in range(start, start + 3)]
            asking.append(asyncio.create_task(link.request(commands)))
            if start == 30:
                await asyncio.sleep(0.1)
        replies = [reply.code for batch in await asyncio.gather(*asking) for reply in batch]
        assert replies == [str(number) for number in range(300)]
        assert [n for batch in partition.batches for n in batch] == list(range(300))
        assert partition.most == 2
        assert len(partition.batches[0]) == 33
        assert all(len(batch) <= 42 for batch in partition.batches)

    run_virtual(main)


def test_a_call_is_never_taken_apart() -> None:
    async def main() -> None:
        partition = Partition()
        link = RequestLink(partition.deliver, CODEC, batch_max=10)
        replies = await link.request([read(number) for number in range(50)])
        assert len(replies) == 50
        assert len(partition.batches) == 1

    run_virtual(main)


@pytest.mark.parametrize("error", [NoAnswer("lost"), OSError("down"), ValueError("a bug")])
def test_a_batch_without_an_answer_is_unavailable(error: Exception) -> None:
    async def main() -> None:
        partition = Partition()
        link = RequestLink(partition.deliver, CODEC)
        partition.fails = error
        first, second = await asyncio.gather(link.request([read(1)]), link.request([read(2)] * 2))
        assert first == [Unavailable("no answer")]
        assert second == [Unavailable("no answer")] * 2
        partition.fails = None
        assert await link.request([read(3)]) == [Rejection("3")]

    run_virtual(main)


def test_what_cannot_be_written_is_unavailable() -> None:
    async def main() -> None:
        link = RequestLink(Partition().deliver, CODEC)
        account = cmd.OpenAccount(bytes(16), b"", 1, "USD", "\ud800")
        assert await link.request([account]) == [Unavailable("no answer")]
        assert await link.request([read(1)]) == [Rejection("1")]

    run_virtual(main)


def test_who_waits_when_a_link_is_closed_is_told_so() -> None:
    async def main() -> None:
        link = RequestLink(Partition().deliver, CODEC, in_flight_max=1, batch_max=1)
        asking = [asyncio.create_task(link.request([read(number)])) for number in range(3)]
        await asyncio.sleep(0.5)
        await link.close()
        for replies in await asyncio.gather(*asking):
            assert type(replies[0]) is Unavailable

    run_virtual(main)


def test_a_caller_that_goes_away_disturbs_nobody() -> None:
    async def main() -> None:
        link = RequestLink(Partition().deliver, CODEC)
        leaving = asyncio.create_task(link.request([read(1)]))
        staying = asyncio.create_task(link.request([read(2)]))
        await asyncio.sleep(0.5)
        leaving.cancel()
        assert await staying == [Rejection("2")]

    run_virtual(main)


def test_nobody_waits_for_what_others_have_asked_before() -> None:
    async def main() -> None:
        partition = Partition()
        link = RequestLink(partition.deliver, CODEC)
        asking = [asyncio.create_task(link.request([read(1)]))]
        await asyncio.sleep(0.9)
        asking.append(asyncio.create_task(link.request([read(2)])))
        await asyncio.sleep(0.2)
        assert asking[0].done()
        assert partition.batches == [[1], [2]]
        async with asyncio.timeout(0.9):
            assert await asking[1] == [Rejection("2")]

    run_virtual(main)


def test_where_many_ask_batches_stay_few() -> None:
    async def main() -> None:
        partition = Partition()
        link = RequestLink(partition.deliver, CODEC)
        asking = [asyncio.create_task(link.request([read(n) for n in (1, 2, 3)]))]
        await asyncio.sleep(0.1)
        asking.append(asyncio.create_task(link.request([read(4), read(5)])))
        await asyncio.sleep(0.1)
        assert partition.batches == [[1, 2, 3]], "less has gathered than is under way"
        asking.append(asyncio.create_task(link.request([read(6)])))
        await asyncio.sleep(0.1)
        assert partition.batches == [[1, 2, 3], [4, 5, 6]]
        replies = [reply.code for batch in await asyncio.gather(*asking) for reply in batch]
        assert replies == ["1", "2", "3", "4", "5", "6"]

    run_virtual(main)

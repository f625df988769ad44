"""The post: messages in order between any two entities, until they are answered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from actors.accounts import accounts_codec
from actors.durable.channel import NoAnswer
from actors.durable.post import Confirm, Post
from actors.durable.records import Codec, Sent, Shipment
from cluster.simulation.virtual import run_virtual
from domain.accounts import commands as cmd
from domain.durable import Moved

CODEC: Codec[Any, Any] = accounts_codec()
encode = CODEC.encode


class Map:
    """Everybody lives where the map says, which is read again on demand."""

    def __init__(self) -> None:
        self.place = self.known = "accounts/1"

    def owner(self, key: str, kind: str = "") -> str:
        return self.known

    async def load(self) -> None:
        await asyncio.sleep(0.001)
        self.known = self.place


class Receiver:
    """Takes shipments, unless told to fail, and remembers them."""

    def __init__(self) -> None:
        self.shipments: list[tuple[int, list[int]]] = []
        self.failures: list[Exception] = []

    def post(self, confirm: Confirm, slots: Map | None = None) -> Post:
        return Post("accounts/0", self.deliver, CODEC, slots or Map(), confirm)

    async def deliver(self, stream: str, payload: bytes) -> bytes:
        shipment: Shipment[Any] = CODEC.decode_shipment(payload)
        self.shipments.append((shipment.low, [message.seq for message in shipment.messages]))
        await asyncio.sleep(1)
        if self.failures:
            raise self.failures.pop(0)
        return encode([None] * len(shipment.messages))


def message(seq: int, source: str = "1", destination: str = "2") -> Sent[Any]:
    return Sent(seq, source, destination, cmd.ReleaseCredit(bytes(16), bytes(16), 1, 2))


def test_messages_go_in_order_and_again_until_answered() -> None:
    async def main() -> None:
        receiver, confirmed = Receiver(), list[int]()
        receiver.failures = [NoAnswer("lost"), OSError("down"), msgspec.ValidationError("a bug")]
        post = receiver.post(lambda outcomes: confirmed.extend(seq for seq, _ in outcomes))
        post.send(message(3))
        await asyncio.sleep(0.5)
        post.send(message(5))
        post.send(message(8))
        await asyncio.sleep(20)
        assert receiver.shipments == [(3, [3])] * 4 + [(3, [5, 8])]
        assert confirmed == [3, 5, 8]
        post.stop()

    run_virtual(main)


def test_others_do_not_wait_and_nothing_is_overtaken() -> None:
    async def main() -> None:
        receiver, confirmed = Receiver(), list[int]()
        receiver.failures = [NoAnswer("lost")]
        post = receiver.post(lambda outcomes: confirmed.extend(seq for seq, _ in outcomes))
        for seq, source, destination in (
            (1, "1", "2"),
            (2, "1", "2"),
            (3, "3", "2"),
            (4, "1", "4"),
            (5, "3", "2"),
            (6, "5", "2"),
            (7, "6", "2"),
        ):
            post.send(message(seq, source, destination))
            await asyncio.sleep(0.1)
        await asyncio.sleep(20)
        # 2 and 5 wait for those before them, 7 for room; what was lost goes again by itself.
        assert [seqs for _, seqs in receiver.shipments[:4]] == [[1], [3], [4], [6]]
        assert sorted(seqs for _, seqs in receiver.shipments[4:]) == [[1], [2], [7, 5]]
        assert confirmed.index(1) < confirmed.index(2)
        assert sorted(confirmed) == [1, 2, 3, 4, 5, 6, 7]
        post.stop()

    run_virtual(main)


def test_low_stays_at_what_is_not_durably_noted() -> None:
    async def main() -> None:
        receiver = Receiver()
        post = receiver.post(lambda outcomes: None)
        for seq in (1, 2, 3, 4):
            post.send(message(seq))
            await asyncio.sleep(2)
            if seq == 3:
                post.settle(1)
                post.settle(3)
        assert receiver.shipments == [(1, [1]), (1, [2]), (1, [3]), (2, [4])]
        post.stop()

    run_virtual(main)


def test_a_stopped_post_sends_no_more() -> None:
    async def main() -> None:
        receiver, confirmed = Receiver(), list[int]()
        post = receiver.post(lambda outcomes: confirmed.extend(seq for seq, _ in outcomes))
        post.send(message(1))
        await asyncio.sleep(0.5)
        post.stop()
        post.send(message(2))
        await asyncio.sleep(20)
        assert (receiver.shipments, confirmed) == ([(1, [1])], [])

    run_virtual(main)


def test_what_has_moved_is_looked_for_and_keeps_its_order() -> None:
    class Former(Receiver):
        """The former owner, which takes nothing any more from the second message on."""

        async def deliver(self, stream: str, payload: bytes) -> bytes:
            shipment: Shipment[Any] = CODEC.decode_shipment(payload)
            seqs = [message.seq for message in shipment.messages]
            asked.append((stream, seqs))
            await asyncio.sleep(1)
            if stream == "accounts/1":
                return encode([None if seq == 1 else Moved(7) for seq in seqs])
            return encode([None] * len(seqs))

    asked: list[tuple[str, list[int]]] = []

    async def main() -> None:
        slots, confirmed = Map(), list[int]()
        post = Post(
            "accounts/0",
            Former().deliver,
            CODEC,
            slots,
            lambda o: confirmed.extend(s for s, _ in o),
        )
        for seq in (1, 2, 3):
            post.send(message(seq))
        slots.place = "accounts/2"
        await asyncio.sleep(0.5)
        post.send(message(4))
        await asyncio.sleep(1)
        post.send(message(5))
        await asyncio.sleep(20)
        assert asked == [
            ("accounts/1", [1, 2, 3]),
            ("accounts/2", [2, 3, 4]),
            ("accounts/2", [5]),
        ]
        assert confirmed == [1, 2, 3, 4, 5]
        post.stop()

    run_virtual(main)


def test_a_place_that_was_given_up_is_left() -> None:
    class Away(Receiver):
        async def deliver(self, stream: str, payload: bytes) -> bytes:
            if stream == "accounts/1":
                raise NoAnswer("nobody is there")
            return await super().deliver(stream, payload)

    async def main() -> None:
        slots, confirmed, receiver = Map(), list[int](), Away()
        post = Post(
            "accounts/0",
            receiver.deliver,
            CODEC,
            slots,
            lambda o: confirmed.extend(s for s, _ in o),
        )
        post.send(message(1))
        post.send(message(2))
        await asyncio.sleep(5)
        assert confirmed == []
        slots.place = "accounts/2"
        await asyncio.sleep(5)
        assert confirmed == [1, 2]
        post.stop()

    run_virtual(main)

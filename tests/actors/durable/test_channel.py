"""Channels over real sockets: who is let in, what order is kept, what becomes of the lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import struct
from collections.abc import AsyncIterator

import pytest

from actors.durable.channel import (
    CALL,
    DELIVER,
    FRAME_MAX,
    Channel,
    ChannelServer,
    Endpoint,
    NoAnswer,
)

HOST = "127.0.0.1"
HEAD = struct.Struct("<IQB")


class Host:
    """A server that remembers what it was asked, and answers with the same, later."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.server = ChannelServer(self.handle)
        self.gate = asyncio.Event()
        self.gate.set()
        self.endpoint: Endpoint | None = None

    async def start(self) -> Endpoint:
        self.endpoint = await self.server.start(HOST)
        return self.endpoint

    async def handle(self, kind: int, body: bytes) -> bytes:
        self.asked.append(body)
        await self.gate.wait()
        if body == b"fail":
            raise ValueError("no such thing")
        return bytes([kind]) + body

    async def heard(self, count: int) -> None:
        for _ in range(2_000):
            if len(self.asked) >= count:
                return
            await asyncio.sleep(0.001)
        raise AssertionError(self.asked)

    async def lookup(self) -> Endpoint:
        if self.endpoint is None:
            raise NoAnswer("no owner")
        return self.endpoint


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    await host.start()
    yield host
    host.gate.set()
    host.server.close()
    await asyncio.sleep(0)


@pytest.fixture
async def channel(host: Host) -> AsyncIterator[Channel]:
    channel = Channel(host.lookup)
    yield channel
    channel.close()
    await asyncio.sleep(0)


async def dial(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection by hand, which has shown that it knows the token."""
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    nonce = await reader.readexactly(32)
    writer.write(hmac.digest(endpoint.token, nonce, hashlib.sha256))
    return reader, writer


async def test_requests_are_answered(channel: Channel) -> None:
    assert await channel.request(CALL, b"one", 5) == b"\x01one"
    assert await channel.request(DELIVER, b"", 5) == b"\x02"
    large = os.urandom(3_000_000)
    assert await channel.request(CALL, large, 5) == b"\x01" + large


async def test_requests_arrive_in_the_order_in_which_they_were_sent(
    host: Host, channel: Channel
) -> None:
    bodies = [str(number).encode() for number in range(500)]
    first = [asyncio.create_task(channel.request(CALL, body, 5)) for body in bodies[:250]]
    await asyncio.sleep(0)
    rest = [asyncio.create_task(channel.request(CALL, body, 5)) for body in bodies[250:]]
    answers = await asyncio.gather(*first, *rest)
    assert host.asked == bodies
    assert answers == [b"\x01" + body for body in bodies]


async def test_a_slow_answer_holds_up_nobody(host: Host, channel: Channel) -> None:
    host.gate.clear()
    slow = asyncio.create_task(channel.request(CALL, b"slow", 5))
    await host.heard(1)
    host.gate = asyncio.Event()
    host.gate.set()
    assert await channel.request(CALL, b"quick", 5) == b"\x01quick"
    assert not slow.done()
    slow.cancel()


async def test_who_does_not_know_the_token_is_not_heard(host: Host) -> None:
    assert host.endpoint is not None
    host.endpoint = host.endpoint._replace(token=os.urandom(32))
    channel = Channel(host.lookup)
    for _ in range(2):
        with pytest.raises(NoAnswer):
            await channel.request(CALL, b"secret", 2)
    assert host.asked == []
    channel.close()


@pytest.mark.parametrize(
    "proof",
    [b"", bytes(31), bytes(32), os.urandom(32)],
    ids=["none", "short", "zeros", "random"],
)
async def test_frames_without_a_proof_are_not_heard(host: Host, proof: bytes) -> None:
    endpoint = host.endpoint
    assert endpoint is not None
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    await reader.readexactly(32)
    writer.write(proof + HEAD.pack(4, 1, CALL) + b"body" + bytes(64))
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    assert host.asked == []


async def test_a_proof_is_good_for_its_own_connection(host: Host) -> None:
    endpoint = host.endpoint
    assert endpoint is not None
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    nonce = await reader.readexactly(32)
    other_reader, other_writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    assert await other_reader.readexactly(32) != nonce
    proof = hmac.digest(endpoint.token, nonce, hashlib.sha256)
    other_writer.write(proof + HEAD.pack(0, 1, CALL))
    assert await asyncio.wait_for(other_reader.read(), 20) == b""
    writer.close()
    other_writer.close()
    assert host.asked == []


async def test_frames_may_come_in_any_pieces(host: Host) -> None:
    assert host.endpoint is not None
    sent = (
        HEAD.pack(5, 7, CALL) + b"hello" + HEAD.pack(0, 8, DELIVER) + HEAD.pack(2, 9, CALL) + b"ok"
    )
    wanted = HEAD.pack(6, 7, 0) + b"\x01hello" + HEAD.pack(1, 8, 0) + b"\x02"
    wanted += HEAD.pack(3, 9, 0) + b"\x01ok"
    for cut in range(1, len(sent)):
        reader, writer = await dial(host.endpoint)
        writer.write(sent[:cut])
        await writer.drain()
        await asyncio.sleep(0.001)
        writer.write(sent[cut:])
        assert await asyncio.wait_for(reader.readexactly(len(wanted)), 20) == wanted
        writer.close()
    reader, writer = await dial(host.endpoint)
    for byte in sent:
        writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(reader.readexactly(len(wanted)), 20) == wanted
    writer.close()


async def test_a_frame_that_is_too_long_ends_the_connection(host: Host) -> None:
    assert host.endpoint is not None
    reader, writer = await dial(host.endpoint)
    writer.write(HEAD.pack(FRAME_MAX + 1, 1, CALL) + b"x")
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    assert host.asked == []


async def test_a_failure_answers_its_own_request_only(host: Host, channel: Channel) -> None:
    host.gate.clear()
    good = asyncio.create_task(channel.request(CALL, b"good", 5))
    bad = asyncio.create_task(channel.request(CALL, b"fail", 5))
    await asyncio.sleep(0.01)
    host.gate.set()
    with pytest.raises(NoAnswer, match="ValueError: no such thing"):
        await bad
    assert await good == b"\x01good"


async def test_a_lost_connection_answers_all_who_wait(host: Host, channel: Channel) -> None:
    host.gate.clear()
    asking = [asyncio.create_task(channel.request(CALL, b"x", 60)) for _ in range(20)]
    await host.heard(20)
    host.server.close()
    answers = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 20)
    assert all(isinstance(answer, NoAnswer) for answer in answers)


async def test_a_new_owner_is_found_by_itself(host: Host, channel: Channel) -> None:
    assert await channel.request(CALL, b"old", 5) == b"\x01old"
    host.server.close()
    newer = Host()
    host.endpoint = await newer.start()
    with contextlib.suppress(NoAnswer):
        await channel.request(CALL, b"perhaps lost", 1)
    assert await channel.request(CALL, b"new", 5) == b"\x01new"
    newer.server.close()


async def test_a_request_that_takes_too_long_has_no_answer(host: Host, channel: Channel) -> None:
    host.gate.clear()
    with pytest.raises(NoAnswer, match="timed out"):
        await channel.request(CALL, b"slow", 0.05)
    host.gate.set()
    assert await channel.request(CALL, b"next", 5) == b"\x01next"


async def test_where_nobody_listens_there_is_no_answer(host: Host, channel: Channel) -> None:
    host.server.close()
    await asyncio.sleep(0.01)
    with pytest.raises(NoAnswer):
        await channel.request(CALL, b"x", 2)
    host.endpoint = None
    with pytest.raises(NoAnswer, match="no owner"):
        await channel.request(CALL, b"x", 2)


async def test_who_hangs_is_left_when_somebody_else_is_there(host: Host, channel: Channel) -> None:
    host.gate.clear()
    hanging = asyncio.create_task(channel.request(CALL, b"first", 30))
    await host.heard(1)
    await asyncio.sleep(1.2)
    assert not hanging.done()  # Nobody else: it may be slow.
    other = Host()
    host.endpoint = await other.start()
    with pytest.raises(NoAnswer):
        await asyncio.wait_for(hanging, 20)
    assert await channel.request(CALL, b"again", 5) == b"\x01again"
    assert other.asked == [b"again"]
    other.server.close()

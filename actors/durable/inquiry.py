"""Questions to partitions about themselves, for operators: over the channel, without Ray."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from actors.durable.channel import DESCRIBE, NUDGE, NoAnswer
from actors.durable.routing import channel_to
from persistence.database import Pool
from persistence.journal import streams


async def describe(pool: Pool, stream: str, timeout_s: float = 1.0) -> dict[str, Any]:
    """What the owner of a stream says of itself; state "no answer" when there is none."""
    channel = channel_to(pool, stream)
    try:
        answer = await channel.request(DESCRIBE, b"", timeout_s)
    except (NoAnswer, OSError) as error:
        return {"stream": stream, "state": "no answer", "reason": str(error)}
    finally:
        channel.close()
    description: dict[str, Any] = msgspec.msgpack.decode(answer, strict=False)
    return description


async def describe_all(pool: Pool, kind: str, timeout_s: float = 1.0) -> list[dict[str, Any]]:
    """``describe`` for all streams of a kind at once."""
    named = [stream for of, stream, _ in await streams(pool) if of == kind]
    return list(await asyncio.gather(*(describe(pool, stream, timeout_s) for stream in named)))


async def nudge(pool: Pool, stream: str, timeout_s: float = 1.0) -> bool:
    """Let a stream look at once what it is to do about its slots; whether it heard."""
    channel = channel_to(pool, stream)
    try:
        await channel.request(NUDGE, b"", timeout_s)
    except (NoAnswer, OSError):
        return False
    finally:
        channel.close()
    return True

"""Streams through the stop of a replica: for tests with the fake engine and the real one, and for a real image."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

STREAMS = 32


def chat(tokens: int, *, stream: bool, **fields: Any) -> dict[str, Any]:
    """The body of a request for exactly so many tokens."""
    messages = [{"role": "user", "content": "A dog is"}]
    lengths = {"max_tokens": tokens, "min_tokens": tokens}
    return {"model": "assistant", "messages": messages, "stream": stream} | lengths | fields


async def through_a_stop(
    client: httpx.AsyncClient, tokens: int, stop: Callable[[], Awaitable[None]], *, streams: int = STREAMS
) -> list[list[str]]:
    """The events of so many streams; `stop` is awaited once each of them has begun, while none has ended."""
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(_events(client, tokens, begun)) for _ in range(streams)]
    for _ in range(streams):
        await begun.acquire()
    assert not any(task.done() for task in tasks), "the streams are too short for this"
    await stop()
    return await asyncio.gather(*tasks)


async def _events(client: httpx.AsyncClient, tokens: int, begun: asyncio.Semaphore) -> list[str]:
    events: list[str] = []
    try:
        async with client.stream("POST", "/v1/chat/completions", json=chat(tokens, stream=True)) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line:
                    events.append(line)
                if len(events) == 1 and line:
                    begun.release()
    finally:
        if not events:
            begun.release()  # nobody waits for what failed
    return events

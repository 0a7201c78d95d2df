"""Background tasks, and how they end."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_S = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until all are over; what they raise is dropped.

    Once is not enough: redis-py writes to its socket under `asyncio.wait_for`, which before Python 3.12 loses a
    cancellation that comes just as the write is done. A task that works for ever then goes on, and a stop would wait
    for it as long.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=AGAIN_S)
        await asyncio.gather(*done, return_exceptions=True)

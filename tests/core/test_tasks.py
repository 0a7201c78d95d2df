"""Tasks end, also those that lose a cancellation."""

import asyncio

from core import tasks


async def _forever(lost: int) -> None:
    """Loses so many cancellations."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if lost == 0:
                raise
            lost -= 1


async def _fails() -> None:
    raise ValueError


def test_all_end() -> None:
    """Who hears the first word, who hears the second, who failed, who was done; none is no error."""

    async def ended() -> list[bool]:
        begun = [asyncio.create_task(it) for it in (_forever(0), _forever(1), _fails(), asyncio.sleep(0))]
        await asyncio.sleep(0.01)
        await tasks.end(begun)
        await tasks.end([])
        return [task.cancelled() for task in begun]

    assert asyncio.run(ended()) == [True, True, False, False]

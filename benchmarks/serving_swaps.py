"""Policies published under load, beside the same load without: the part of benchmarks/serving.py that is ours alone."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks import serving_chats, serving_figures, serving_sides, streams
from benchmarks.serving_sides import Ours, Side, awake
from benchmarks.streams import Streams

STREAMS, SWAPS, EVERY_S = 8, 4, 4.0
"""In each round; a new policy comes as soon as the one before has written something, but not sooner than this."""
_SERVED_S = 120.0


def measure(ours: Ours, adapters: Sequence[str], rounds: int, say: Callable[[str], None]) -> serving_figures.Swap:
    """With and without, in turns; `adapters` holds `SWAPS` fresh hashes for each round."""
    fresh, published = iter(adapters), dict[str, float]()
    swapping, still = list[Streams](), list[Streams]()
    with awake([ours.side]):
        serving_chats.settle(ours.side)
        for number in range(rounds):
            lasted = time.perf_counter()
            swapping.append(asyncio.run(_swapping(ours, fresh, published, number)))
            lasted = time.perf_counter() - lasted
            still.append(asyncio.run(_still(ours.side, number, seconds=lasted)))
            gaps = f"{swapping[-1].gap_p99 * 1e3:.0f} and {still[-1].gap_p99 * 1e3:.0f} ms"
            say(f"round {number + 1}, {SWAPS} swaps: gaps (p99) with and without {gaps}")
    return serving_figures.swap(swapping, still, streams=STREAMS, published=published)


async def _swapping(ours: Ours, fresh: Iterator[str], published: dict[str, float], number: int) -> Streams:
    over = asyncio.Event()
    seen: set[str] = set()

    async def publish() -> None:
        for _ in range(SWAPS):
            started = time.perf_counter()
            version = await asyncio.to_thread(serving_sides.promote, ours.registry, next(fresh))
            name = f"assistant@v{version}"
            published[name] = time.perf_counter()
            while name not in seen or time.perf_counter() - started < EVERY_S:
                await asyncio.sleep(0.05)
                if time.perf_counter() - started > _SERVED_S:
                    raise SystemExit(f"{name} was published and is not served; ours has its reason in api.log")
        over.set()

    publishing = asyncio.create_task(publish())
    requests = _until(over.is_set, ours.side.model, 2 * number)
    run = await streams.closed(ours.side.port, requests, streams=STREAMS, seen=seen)
    await publishing
    return run


async def _still(side: Side, number: int, *, seconds: float) -> Streams:
    deadline = time.perf_counter() + seconds
    requests = _until(lambda: time.perf_counter() > deadline, side.model, 2 * number + 1)
    return await streams.closed(side.port, requests, streams=STREAMS)


def _until(over: Callable[[], bool], model: str, seed: int) -> Iterator[bytes]:
    for prompt in serving_chats.prompts(seed):
        if over():
            return
        yield serving_chats.chat(model, prompt)

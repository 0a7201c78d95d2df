"""What the sides of benchmarks/serving.py are asked: random words, other ones in each round, the same for all sides."""

import asyncio
import random
import time
from collections.abc import Iterator

from benchmarks import streams
from benchmarks.serving_sides import Side

WORDS, PROMPT_WORDS, TOKENS = range(8, 1900), 32, 32
"""The words are tokens of every model in models.py."""
SETTLE = 2
"""Chats before each measurement, not counted: a process that was stopped has to find its feet."""


def prompts(seed: int) -> Iterator[str]:
    """Random words without end; no two begin alike, so that no side profits of a prefix."""
    rng = random.Random(seed)
    while True:
        yield " ".join(f"w{rng.choice(WORDS)}" for _ in range(PROMPT_WORDS))


def chats(model: str, count: int, number: int, *, seeds: bool) -> list[bytes]:
    """The same for every side in a round, and others in the next."""
    words = prompts(1000 * (number + 1) + 2 * count + seeds)
    options = [{"seed": i} if seeds else {} for i in range(count)]
    return [chat(model, prompt, **option) for option, prompt in zip(options, words, strict=False)]


def chat(model: str, prompt: str, **options: int) -> bytes:
    return streams.chat(model, prompt, tokens=TOKENS, **options)


def settle(side: Side) -> None:
    requests = [chat(side.model, prompt) for _, prompt in zip(range(SETTLE), prompts(time.time_ns()), strict=False)]
    asyncio.run(streams.closed(side.port, requests, streams=SETTLE))

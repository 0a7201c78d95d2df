"""Chat traffic: people who only talk, through the `openai` package, as any application would.

Every chat streams, and every one is counted: served if its stream ended as OpenAI's protocol says, else failed. The
client never retries, so a failure that a retry would have hidden is seen. On the way it is noted when the first token
of each policy version reached somebody: the end of the way from a vote to a better answer.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel, ConfigDict, Field

from core.records import ALIAS
from lab.world import Prompt, sample_prompts

REQUEST_TIMEOUT_S = 60.0
_DRAW = 500


class ChatsConfig(BaseModel):
    """`[demo.chats]` in demo.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: int = Field(ge=1)
    """Conversations at a time in the background."""
    think_s: float = Field(ge=0)
    """Seconds between an answer and the next question of the same person."""
    max_tokens: int = Field(ge=1)
    """Of every answer that the demo asks for, votes and final evaluation included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One whole answer: `Answer(id="chatcmpl-41ab…", version=3, text="A pet.", finished=True)`."""

    id: str
    version: int
    text: str
    finished: bool
    """It ended by itself, not at the token limit."""
    recorded: bool = True
    """The service said that it can be voted on."""


class BrokenStream(Exception):
    """A stream that ended early or contradicted itself."""


@dataclass(kw_only=True, slots=True)
class Chats:
    """Asks and counts."""

    client: AsyncOpenAI
    max_tokens: int
    served: int = 0
    failed: int = 0
    last_failure: str = ""
    first_tokens: dict[int, float] = field(default_factory=dict)
    """Policy version → unix time at which its first token arrived."""

    async def ask(self, prompt: Prompt, *, user: str) -> Answer | None:
        """One streamed chat with the live policy; None if it failed, which is counted."""
        try:
            answer = await self._stream(prompt, user=user)
        except Exception as error:  # whatever cut the chat off: for the person who asked it failed
            self.failed += 1
            self.last_failure = f"{type(error).__name__}: {error}"
            return None
        self.served += 1
        return answer

    async def _stream(self, prompt: Prompt, *, user: str) -> Answer:
        stream = await self.client.chat.completions.create(
            model=ALIAS,
            messages=[{"role": "user", "content": prompt.text}],
            max_tokens=self.max_tokens,
            temperature=1.0,
            user=user,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks: list[ChatCompletionChunk] = []
        async with stream:
            recorded = stream.response.headers.get("x-feedback-status") == "recorded"
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    self.first_tokens.setdefault(version_of(chunk.model), time.time())
                chunks.append(chunk)
        return whole_answer(chunks, recorded=recorded)


def whole_answer(chunks: list[ChatCompletionChunk], *, recorded: bool = True) -> Answer:
    """Join the chunks of one choice.

    Raises:
        BrokenStream: no finish reason, no usage after it (the last thing before `[DONE]`), or two ids or versions.
    """
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    if not choices or choices[-1].finish_reason is None:
        raise BrokenStream("the stream ended without a finish reason")
    if chunks[-1].usage is None:
        raise BrokenStream("the stream ended after its finish reason but before its usage")
    if len({(chunk.id, chunk.model) for chunk in chunks}) != 1:
        raise BrokenStream("the chunks of one stream differ in id or model")
    return Answer(
        id=chunks[0].id,
        version=version_of(chunks[0].model),
        text="".join(choice.delta.content or "" for choice in choices),
        finished=choices[-1].finish_reason == "stop",
        recorded=recorded,
    )


def version_of(model: str) -> int:
    """`assistant@v3` → 3.

    Raises:
        BrokenStream: the name holds no exact version, which every response must.
    """
    alias, _, version = model.partition("@v")
    if alias != ALIAS or not version.isdecimal():
        raise BrokenStream(f"the response names no policy version but {model!r}")
    return int(version)


def voted_prompts(rng: random.Random) -> Iterator[Prompt]:
    """Prompts without end that may be chatted about and voted on: never of a held-out slot."""
    while True:
        yield from sample_prompts(rng, _DRAW, held_out=False)


async def background(chats: Chats, config: ChatsConfig, *, rng: random.Random, stop: asyncio.Event) -> None:
    """Chat without pause until `stop`; the chats under way then are finished, not cut."""
    prompts = voted_prompts(rng)

    async def person(name: str) -> None:
        while not stop.is_set():
            await chats.ask(next(prompts), user=name)
            await asyncio.sleep(config.think_s)

    async with asyncio.TaskGroup() as people:
        for number in range(config.concurrency):
            people.create_task(person(f"visitor-{number:03}"))

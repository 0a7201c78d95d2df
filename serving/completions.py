"""The record log: what was answered, in Redis, before anybody can vote on it.

Chat never depends on it. A background look at Redis (once a second, five times while it is away) decides whether new
completions are recorded; a failed write turns recording off at once, so a dead Redis costs one request a connection
refusal and the next ones nothing. At 80 % of `maxmemory` recording stops as well: votes on older completions must
still find room.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from core import keys, metrics
from core.records import Comparison, CompletionRecord, CompletionState

OPEN_TIMEOUT_S = 2.0
"""A slow disk may hold one fsync up for a second: an answer that nobody can vote on is the worse loss."""
WRITE_TIMEOUT_S = 0.5
SAMPLE_INTERVAL_S = 1.0
AWAY_INTERVAL_S = 0.2
MEMORY_LIMIT = 0.8
PROMPTS_KEPT = 20_000
_LATE_WRITES = 1_000

log = logging.getLogger("plumbline.completions")


class CompletionLog:
    """Writes completion and comparison records; `open` and `close` say whether they are durable."""

    def __init__(self, client: redis.asyncio.Redis, *, window_s: int) -> None:
        self._client = client
        self._window_s = window_s
        self._late: deque[CompletionRecord] = deque(maxlen=_LATE_WRITES)
        """Final records that could not be written in time; tried again when Redis is back."""
        self._away = "not looked at yet"

    @property
    def recording(self) -> bool:
        return not self._away

    @property
    def away(self) -> str:
        """Why nothing is recorded now; empty while it is."""
        return self._away

    async def watch(self) -> None:
        """Looks at Redis for ever."""
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_INTERVAL_S if self.recording else AWAY_INTERVAL_S)

    async def sample(self) -> None:
        """One look: is Redis there, is there room; and the final records that are still owed."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                memory = await self._client.info("memory")
            self._say(_no_room(memory))
            while self._late and self.recording:
                await self._write_final(self._late[0])
                self._late.popleft()
        except (RedisError, TimeoutError, OSError) as error:
            self._say(f"Redis does not answer ({type(error).__name__})")

    async def open(self, records: Sequence[CompletionRecord], comparison: Comparison | None = None) -> bool:
        """Writes the records of completions that are about to start, with the comparison that they are sides of."""
        if not self.recording:
            metrics.RECORDS_LOST.labels("unavailable").inc()
            return False
        written: dict[str, tuple[str, ...]] = {keys.completion(record.id): _fields(record) for record in records}
        if comparison is not None:
            written[keys.comparison(comparison.id)] = ("record", comparison.to_json())
        commands: list[tuple[Any, ...]] = []
        for key, fields in written.items():
            commands += [("HSET", key, *fields), ("EXPIRE", key, self._window_s)]
        return await self._attempt("open", self._execute(commands), OPEN_TIMEOUT_S)

    async def close(self, record: CompletionRecord) -> bool:
        """Writes the final record over the open one."""
        done = await self._attempt("final", self._write_final(record), WRITE_TIMEOUT_S)
        if not done:
            self._late.append(record)
        return done

    async def discard(self, key: str) -> None:
        """Forgets what never was: a completion that the engine refused, a comparison that nobody was told of."""
        commands: list[tuple[Any, ...]] = [("UNLINK", key)]
        await self._attempt("discard", self._execute(commands), WRITE_TIMEOUT_S)

    async def _write_final(self, record: CompletionRecord) -> None:
        key = keys.completion(record.id)
        commands: list[tuple[Any, ...]] = [("HSET", key, *_fields(record)), ("EXPIRE", key, self._window_s)]
        if _is_prompt(record):
            prompt = {
                "messages": [message.model_dump(include={"role", "content"}) for message in record.messages],
                "prompt_token_ids": record.prompt_token_ids,
                "rater": record.rater,
            }
            commands.append(("XADD", keys.PROMPTS, "MAXLEN", "~", PROMPTS_KEPT, "*", "prompt", json.dumps(prompt)))
        await self._execute(commands)

    async def _execute(self, commands: list[tuple[Any, ...]]) -> None:
        async with self._client.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute()

    async def _attempt(self, what: str, writing: Coroutine[Any, Any, None], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await writing
        except (RedisError, TimeoutError, OSError) as error:
            metrics.RECORDS_LOST.labels(what).inc()
            self._say(f"Redis does not answer ({type(error).__name__})")
            return False
        return True

    def _say(self, away: str) -> None:
        if away != self._away:
            log.warning("completions are not recorded: %s", away) if away else log.info("completions are recorded")
        self._away = away


def _no_room(memory: dict[str, Any]) -> str:
    limit, used = int(memory.get("maxmemory", 0)), int(memory["used_memory"])
    return f"Redis holds {used} of {limit} bytes" if limit and used >= MEMORY_LIMIT * limit else ""


def _fields(record: CompletionRecord) -> tuple[str, ...]:
    return "record", record.to_json(), "outline", record.outline(), "state", str(record.state)


def _is_prompt(record: CompletionRecord) -> bool:
    """Whether the gate may sample on this prompt: consented, text, complete, and no side of a comparison."""
    complete = record.state == CompletionState.COMPLETE and record.assignment != "comparison"
    return complete and record.train and bool(record.messages)

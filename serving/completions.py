"""The record log: what was answered, in Redis, before anybody can vote on it.

Chat never depends on it. A background look at Redis (once a second, five times while it is away) decides whether new
completions are recorded; a failed write turns recording off at once, so a dead Redis costs one request a connection
refusal and the next ones nothing. A slow disk may hold one fsync up for a second; that is waited for, because an answer
that nobody can vote on is the worse loss. At 80 % of `maxmemory` recording stops as well: votes on older completions
must still find room.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from core import keys, metrics, tracing
from core.records import Comparison, CompletionRecord, CompletionState, StoredRequest
from core.redis import SOCKET_TIMEOUT_S, script
from core.trips import Call, Trips

SAMPLE_INTERVAL_S = 1.0
AWAY_INTERVAL_S = 0.2
MEMORY_LIMIT = 0.8
PROMPTS_KEPT = 20_000
_LATE_WRITES = 1_000
_LUA = Path(__file__).parent / "lua"

log = logging.getLogger("plumbline.completions")


class CompletionLog:
    """Writes completion and comparison records; `open` and `close` say whether they are durable."""

    def __init__(self, client: redis.asyncio.Redis, *, window_s: int) -> None:
        self._client = client
        self._window_s = window_s
        self._trips = Trips(client)
        self._open = script(client, _LUA / "completion_open.lua")
        self._final = script(client, _LUA / "completion_final.lua")
        self._late: deque[tuple[CompletionRecord, StoredRequest | None]] = deque(maxlen=_LATE_WRITES)
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
            async with asyncio.timeout(SOCKET_TIMEOUT_S):
                memory = await self._client.info("memory")
            self._say(_no_room(memory))
            while self._late and self.recording:
                await self._write_final(*self._late[0])
                self._late.popleft()
        except (RedisError, TimeoutError, OSError) as error:
            self._say(f"Redis does not answer ({type(error).__name__})")

    async def open(self, records: Sequence[CompletionRecord], comparison: Comparison | None = None) -> bool:
        """Writes the records of completions that are starting, with the comparison that they are sides of."""
        if not self.recording:
            metrics.RECORDS_LOST.labels("unavailable").inc()
            return False
        names = [keys.completion(record.id) for record in records]
        given = [field for record in records for field in (record.to_json(), record.outline(), str(record.state))]
        if comparison is not None:
            names.append(keys.comparison(comparison.id))
            given.append(comparison.to_json())
        call = Call(script=self._open, keys=names, args=[self._window_s, *given])
        return await self._attempt("open", self._trips.send(call))

    async def close(self, record: CompletionRecord, request: StoredRequest | None = None) -> bool:
        """Writes the final record over the open one; `request` is what else the stored completion needs."""
        done = await self._attempt("final", self._write_final(record, request))
        if not done:
            self._late.append((record, request))
        return done

    async def discard(self, key: str) -> None:
        """Forgets what never was: a completion that the engine refused, a comparison that nobody was told of."""
        await self._attempt("discard", self._client.unlink(key))

    async def _write_final(self, record: CompletionRecord, request: StoredRequest | None) -> None:
        keeps_text = bool(record.messages or record.prompt_token_ids)
        call = Call(
            script=self._final,
            keys=[keys.completion(record.id), keys.stored(record.tenant), keys.PROMPTS, keys.REGENERATED],
            args=[
                *(record.to_json(), record.outline(), str(record.state), self._window_s, record.id),
                int(record.created * 1000) if keeps_text else "",
                request.to_json() if request is not None else "",
                _prompt(record) if _is_prompt(record) else "",
                PROMPTS_KEPT,
                keys.completion(record.regenerates) if record.regenerates else "",
            ],
        )
        await self._trips.send(call)

    async def _attempt(self, what: str, writing: Awaitable[Any]) -> bool:
        try:
            with tracing.span(f"record {what}"):
                async with asyncio.timeout(SOCKET_TIMEOUT_S):
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
        metrics.RECORDING.set(not away)


def _no_room(memory: dict[str, Any]) -> str:
    limit, used = int(memory.get("maxmemory", 0)), int(memory["used_memory"])
    return f"Redis holds {used} of {limit} bytes" if limit and used >= MEMORY_LIMIT * limit else ""


def _prompt(record: CompletionRecord) -> str:
    prompt = {
        "messages": [message.model_dump(include={"role", "content"}) for message in record.messages],
        "prompt_token_ids": record.prompt_token_ids,
        "rater": record.rater,
    }
    return json.dumps(prompt)


def _is_prompt(record: CompletionRecord) -> bool:
    """Whether the gate may sample on this prompt: consented, text, complete, and no side of a comparison."""
    complete = record.state == CompletionState.COMPLETE and record.assignment != "comparison"
    return complete and record.train and bool(record.messages)

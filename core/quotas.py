"""What each API key, and each visitor of the page, may use, over all replicas: one script before a chat and one after
it, on Redis's clock.

Requests and tokens are token buckets (lua/quota_common.lua): a burst up to the limit, then the limit's rate. Tokens are
drawn when they are known, after the answer, so a key may overdraw by what it has under way, and then waits. Under way
is what was not settled and whose replica still renews it: a replica that died holds places for `_LEASE_S` seconds.

While Redis is away chat goes on, with the same limits for each replica by itself (core/local_quotas.py); what was used
then is in no report.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from core import keys, metrics
from core.access import Caller
from core.errors import RateLimited
from core.local_quotas import LocalQuotas, Room
from core.redis import script

_LUA = Path(__file__).parent / "lua"
_TIMEOUT_S = 0.5
_AWAY_S = 1.0
"""How long Redis is not asked again after it did not answer: a chat waits once a second, not each."""
_LEASE_S = 30
RENEW_EVERY_S = 10.0
log = logging.getLogger("plumbline.quotas")


@dataclass(kw_only=True, slots=True)
class Allowance:
    """A request of a key that may begin. Each of its `parts` (a comparison has several) is ended once."""

    caller: Caller
    request: str
    headers: dict[str, str]
    parts: int = 1
    local: bool = False
    """Redis was away when it began."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Quotas:
    """The limits of all keys, as this process keeps them."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._local = LocalQuotas()
        self._under_way: dict[str, Allowance] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._away_until = 0.0

    @contextlib.asynccontextmanager
    async def opening(self, caller: Caller) -> AsyncIterator[Allowance]:
        """As `take`; what fails inside was a request, and used nothing."""
        allowance = await self.take(caller)
        try:
            yield allowance
        except BaseException:
            allowance.parts = 1
            self.end(allowance, prompt_tokens=0, completion_tokens=0)
            raise

    async def take(self, caller: Caller) -> Allowance:
        """Lets a request of this key begin; who takes an allowance ends each of its parts.

        Raises:
            RateLimited: a limit is reached, and when to come again.
        """
        request, limits = secrets.token_hex(8), caller.limits
        room, local = Room(), False
        if caller.key_id and limits.model_copy(update={"votes_per_minute": None}) != type(limits)():
            found = await self._look(caller, request)
            local = found is None
            room = found or self._local.take(caller.counted_as, limits)
        headers = _headers(caller, room)
        if room.refused:
            metrics.LIMITED.labels(room.refused).inc()
            raise _refusal(caller, room, headers)
        allowance = Allowance(caller=caller, request=request, headers=headers, local=local)
        if caller.key_id:
            self._under_way[request] = allowance
        return allowance

    def end(self, allowance: Allowance, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Ends one part, once for all if there is no more. Never waits: what was used is written in the background."""
        if allowance.request not in self._under_way:
            return
        allowance.prompt_tokens += prompt_tokens
        allowance.completion_tokens += completion_tokens
        allowance.parts -= 1
        if allowance.parts:
            return
        del self._under_way[allowance.request]
        if allowance.local:
            used = allowance.prompt_tokens + allowance.completion_tokens
            self._local.end(allowance.caller.counted_as, allowance.caller.limits, tokens=used)
        task = asyncio.get_running_loop().create_task(self._settle(allowance))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def votes(self, caller: Caller, counts: dict[str, int]) -> dict[str, float]:
        """Counts votes by rater, of those who may cast them; of the others, how long to wait (s)."""
        if not caller.key_id:
            return {}
        used = [keys.quota(caller.counted_as), keys.usage(caller.key_id), keys.call(secrets.token_hex(16))]
        args: list[str | int] = [caller.limits.votes_per_minute or 0]
        for rater, votes in counts.items():
            args += [rater, votes]
        waits = await self._run("votes", used, args)
        found = zip(counts, waits or [], strict=False)
        return {rater: wait / 1000 for rater, wait in found if wait}

    async def draw(self, counted_as: str, bucket: str, *, per_minute: int) -> float:
        """Draws one from a bucket of its own; 0, or how long to wait for one (s)."""
        used = [keys.quota(counted_as), keys.call(secrets.token_hex(16))]
        wait = await self._run("draw", used, [bucket, per_minute])
        return self._local.draw(counted_as, bucket, per_minute) if wait is None else float(wait) / 1000

    async def renew(self) -> None:
        """Says for ever what is still under way here."""
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            held = [allowance for allowance in self._under_way.values() if not allowance.local]
            try:
                async with asyncio.timeout(_TIMEOUT_S), self._client.pipeline(transaction=False) as pipeline:
                    until = (await self._client.time())[0] + _LEASE_S if held else 0
                    for allowance in held:
                        pipeline.zadd(keys.in_flight(allowance.caller.counted_as), {allowance.request: until}, xx=True)
                    await pipeline.execute()
            except (RedisError, TimeoutError, OSError) as error:
                log.warning("what is under way was not renewed: %s", error)

    async def drain(self) -> None:
        """Waits for what is still being written."""
        while self._writes:
            await asyncio.wait(self._writes)

    async def _look(self, caller: Caller, request: str) -> Room | None:
        limits = caller.limits
        each = (limits.requests_per_minute, limits.tokens_per_minute, limits.tokens_per_day, limits.concurrency)
        used = [keys.quota(caller.counted_as), keys.in_flight(caller.counted_as), keys.usage(caller.key_id)]
        answer = await self._run("take", used, [request, _LEASE_S, *(limit or 0 for limit in each)])
        if answer is None:
            return None
        refused, wait, requests, requests_full, tokens, tokens_full = answer
        return Room(
            refused=refused,
            wait_s=wait / 1000,
            requests_left=requests,
            requests_full_s=requests_full / 1000,
            tokens_left=tokens,
            tokens_full_s=tokens_full / 1000,
        )

    async def _settle(self, allowance: Allowance) -> None:
        whose, limits = allowance.caller.counted_as, allowance.caller.limits
        usage = keys.usage(allowance.caller.key_id)
        used = [keys.quota(whose), keys.in_flight(whose), usage, keys.call(secrets.token_hex(16))]
        spent = [allowance.prompt_tokens, allowance.completion_tokens]
        await self._run("settle", used, [allowance.request, *spent, limits.tokens_per_minute or 0])

    async def _run(self, name: str, used: Sequence[str], args: Sequence[str | int]) -> Any:
        """What the script answers; None while Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                run = script(self._client, _LUA / "quota_common.lua", _LUA / f"quota_{name}.lua")
                return await run(keys=used, args=args)
        except (RedisError, TimeoutError, OSError) as error:
            log.warning("limits are kept by this replica alone: %s", error)
            self._away_until = time.monotonic() + _AWAY_S
            return None


def duration(seconds: float) -> str:
    """As OpenAI writes it: `duration(0.12) == "120ms"`, `duration(8.64) == "8.64s"`, `duration(360) == "6m0s"`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{rest}s"


def _headers(caller: Caller, room: Room) -> dict[str, str]:
    """OpenAI's, of those limits that the key has."""
    headers = {}
    for name, limit, left, full_s in (
        ("requests", caller.limits.requests_per_minute, room.requests_left, room.requests_full_s),
        ("tokens", caller.limits.tokens_per_minute, room.tokens_left, room.tokens_full_s),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(left)
            headers[f"x-ratelimit-reset-{name}"] = duration(full_s)
    return headers


def _refusal(caller: Caller, room: Room, headers: dict[str, str]) -> RateLimited:
    limits = caller.limits
    said = {
        "requests": f"{limits.requests_per_minute} requests a minute",
        "tokens": f"{limits.tokens_per_minute} tokens a minute",
        "tokens_per_day": f"{limits.tokens_per_day} tokens a day",
        "concurrency": f"{limits.concurrency} requests at a time",
    }[room.refused]
    whose = "A session" if caller.visitor else "This API key"
    message = f"{whose} may use {said}, and has; try again in {duration(room.wait_s)}."
    return RateLimited(message, wait_s=room.wait_s, headers=headers)

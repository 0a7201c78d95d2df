"""The limits of API keys and visitors within one process: what `core/quotas.py` goes by while Redis is away.

The same token buckets as in lua/quota_common.lua. Tokens a day are left out: what the day has used, only Redis knows.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from core.access import Limits

MOST = 100_000
"""Buckets that are remembered; then those that are full again are forgotten, which changes nothing."""
Limit = Literal["", "requests", "tokens", "tokens_per_day", "concurrency"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What a look at a key's limits found: `Room(refused="requests", wait_s=2.0)`, or what is left."""

    refused: Limit = ""
    wait_s: float = 0.0
    requests_left: int = 0
    requests_full_s: float = 0.0
    """Until the bucket is full again."""
    tokens_left: int = 0
    tokens_full_s: float = 0.0


@dataclass(kw_only=True, slots=True)
class _Bucket:
    level: float
    at: float
    """When it was last drawn from."""
    limit: int

    def at_time(self, limit: int, now: float) -> float:
        return min(limit, self.level + (now - self.at) * limit / 60)


class LocalQuotas:
    """Buckets and requests under way, by key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._running: Counter[str] = Counter()

    def take(self, key: str, limits: Limits) -> Room:
        """Lets a request of this key begin, or says which limit refuses it."""
        requests, tokens = limits.requests_per_minute or 0, limits.tokens_per_minute or 0
        left = {"requests": self._level(key, "requests", requests), "tokens": self._level(key, "tokens", tokens)}
        waits: dict[Limit, float] = {
            "requests": _wait(left["requests"], 1, requests),
            "tokens": _wait(left["tokens"], 1, tokens),
            "concurrency": float(limits.concurrency is not None and self._running[key] >= limits.concurrency),
        }
        refused = max(waits, key=lambda limit: waits[limit])
        if not waits[refused]:
            refused = ""
            self._running[key] += 1
            left["requests"] = self._draw(key, "requests", requests, 1)
        return Room(
            refused=refused,
            wait_s=waits.get(refused, 0.0),
            requests_left=max(0, int(left["requests"])),
            requests_full_s=_wait(left["requests"], requests, requests),
            tokens_left=max(0, int(left["tokens"])),
            tokens_full_s=_wait(left["tokens"], tokens, tokens),
        )

    def draw(self, key: str, bucket: str, limit: int) -> float:
        """Draws one from a bucket of its own; 0, or how long to wait for one (s)."""
        wait = _wait(self._level(key, bucket, limit), 1, limit)
        if not wait:
            self._draw(key, bucket, limit, 1)
        return wait

    def end(self, key: str, limits: Limits, *, tokens: int) -> None:
        """A request has ended and used so many tokens."""
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
        self._draw(key, "tokens", limits.tokens_per_minute or 0, tokens)

    def _level(self, key: str, bucket: str, limit: int) -> float:
        held = self._buckets.get((key, bucket))
        return limit if held is None else held.at_time(limit, self._clock())

    def _draw(self, key: str, bucket: str, limit: int, amount: int) -> float:
        left = self._level(key, bucket, limit) - amount
        if len(self._buckets) >= MOST:
            self._forget_full()
        self._buckets[key, bucket] = _Bucket(level=left, at=self._clock(), limit=limit)
        return left

    def _forget_full(self) -> None:
        now = self._clock()
        used = {name: it for name, it in self._buckets.items() if it.limit and it.at_time(it.limit, now) < it.limit}
        self._buckets = used if len(used) < MOST else {}


def _wait(left: float, wanted: int, limit: int) -> float:
    """Seconds until a bucket at `left` holds `wanted`; 0 where there is no limit."""
    return max(0.0, (wanted - left) * 60 / limit) if limit else 0.0

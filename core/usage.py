"""What each API key used, and all visitors of the page together, by day: read from what lua/quota_settle.lua and
lua/quota_votes.lua count."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import cast

import redis

from core import keys

PAGE = "page"
"""Whose usage that of the page's visitors is, in the place of a key's id; no key's id is like it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Day:
    """`Day(date=date(2026, 11, 21), requests=12, prompt_tokens=340, completion_tokens=210, votes=3)`; UTC."""

    date: date
    requests: int
    prompt_tokens: int
    completion_tokens: int
    votes: int


def by_day(client: redis.Redis, key_id: str) -> list[Day]:
    """Oldest first. Redis keeps a key's usage for 400 days after its last use."""
    counts: dict[int, dict[str, int]] = defaultdict(dict)
    for field, count in cast(dict[str, str], client.hgetall(keys.usage(key_id))).items():
        day, _, what = field.partition(" ")
        counts[int(day)][what] = int(count)
    return [_day(day, used) for day, used in sorted(counts.items())]


def _day(day: int, used: dict[str, int]) -> Day:
    return Day(
        date=datetime.fromtimestamp(day * 86400, tz=UTC).date(),
        requests=used.get("requests", 0),
        prompt_tokens=used.get("prompt_tokens", 0),
        completion_tokens=used.get("completion_tokens", 0),
        votes=used.get("votes", 0),
    )

"""`plumbline tasks suggest`: rater tasks about the pairs of answers from which most can be learned.

The last run left a list of pairs with a score each (training/choice.py). What has been compared since, is being asked
already or is gone, is passed over; the rest is drawn by core/choice.py. A pair becomes a comparison of its own, which
carries the probability of the draw to the rows of its votes; the answers stay where they are.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from core import choice, keys
from core.errors import UsageError
from core.records import Comparison, CompletionState, OpenPairs, new_id, now
from core.redis import connect_async
from feedback import task_endpoints


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What all tasks of a call have in common."""

    overlap: int = 1
    instructions: str = ""
    priority: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggested:
    """What came of it."""

    eligible: int
    added: int
    errors: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    ids: tuple[str, str]
    versions: tuple[int, int]
    score: float

    @property
    def name(self) -> str:
        """As an operator's id of the task: a pair is asked once."""
        return f"choice:{self.ids[0]}:{self.ids[1]}"


def suggest(redis_url: str, count: int, asked: Asked, *, exploration: float, window_s: int) -> Suggested:
    """Draws `count` pairs, or as many as there are, and adds a task about each.

    Raises:
        UsageError: no run has left a list yet.
        Unavailable: Redis is away.
    """
    return asyncio.run(_suggest(redis_url, count, asked, exploration, window_s))


async def _suggest(redis_url: str, count: int, asked: Asked, exploration: float, window_s: int) -> Suggested:
    client = connect_async(redis_url)
    try:
        listed = await client.hget(keys.CHOICES, "pairs")
        if listed is None:
            raise UsageError("No run has listed answers to ask about yet: the next one that ends will.")
        eligible = await _eligible(client, OpenPairs.model_validate_json(listed))
        included = choice.inclusion([pair.score for pair in eligible], count, exploration=exploration)
        drawn = [(eligible[place], included[place]) for place in choice.draw(included, secrets.SystemRandom())]
        comparisons = [_comparison(pair, propensity) for pair, propensity in drawn]
        await _write(client, comparisons, window_s=window_s)
        each = zip(drawn, comparisons, strict=True)
        items = [_item(pair, comparison, asked) for (pair, _), comparison in each]
        results = await task_endpoints.add(client, items, window_s=window_s)
    finally:
        await client.aclose()
    errors = [result.error.message for result in results if result.error is not None]
    return Suggested(eligible=len(eligible), added=len(results) - len(errors), errors=errors)


async def _eligible(client: redis.asyncio.Redis, listed: OpenPairs) -> list[_Pair]:
    """Pairs whose answers are there, unchosen so far, and not compared meanwhile by the person who got them."""
    versions = await _versions(client, sorted({answer for ids in listed.pairs for answer in ids}))
    found = [
        _Pair(ids=ids, versions=(versions[ids[0]], versions[ids[1]]), score=score)
        for ids, score in zip(listed.pairs, listed.scores, strict=True)
        if versions.keys() >= set(ids)
    ]
    known = await client.hmget(keys.TASK_NAMES, [pair.name for pair in found]) if found else []
    return [pair for pair, before in zip(found, known, strict=True) if before is None]


async def _versions(client: redis.asyncio.Redis, answers: Sequence[str]) -> dict[str, int]:
    """The policy version of each answer that is there, complete, and still without a vote beside its other side."""
    held = await _fields(client, [keys.completion(answer) for answer in answers], "outline", "state")
    outlines = {
        answer: json.loads(outline)
        for answer, (outline, state) in zip(answers, held, strict=True)
        if outline is not None and state == CompletionState.COMPLETE
    }
    beside = sorted({outline["comparison_id"] for outline in outlines.values() if outline["comparison_id"]})
    votes = await _fields(client, [keys.comparison(each) for each in beside], "revealed", "decided")
    open_ = {comparison for comparison, voted in zip(beside, votes, strict=True) if not any(voted)}
    return {answer: it["policy_version"] for answer, it in outlines.items() if it["comparison_id"] in open_}


async def _fields(client: redis.asyncio.Redis, names: Sequence[str], *fields: str) -> list[list[str | None]]:
    async with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(name, list(fields))
        return list(await pipeline.execute())


def _comparison(pair: _Pair, propensity: float) -> Comparison:
    """A comparison of these answers, in a random order."""
    order = secrets.SystemRandom().sample([0, 1], 2)
    return Comparison(
        id=new_id("cmp_"),
        created=now(),
        completion_ids=[pair.ids[place] for place in order],
        policy_versions=[pair.versions[place] for place in order],
        order=order,
        asked="active",
        propensity=propensity,
    )


async def _write(client: redis.asyncio.Redis, comparisons: Sequence[Comparison], *, window_s: int) -> None:
    async with client.pipeline(transaction=True) as pipeline:
        for comparison in comparisons:
            pipeline.hset(keys.comparison(comparison.id), "record", comparison.to_json())
            pipeline.expire(keys.comparison(comparison.id), window_s)
        await pipeline.execute()


def _item(pair: _Pair, comparison: Comparison, asked: Asked) -> dict[str, Any]:
    """As `POST /v1/tasks` takes it."""
    return {
        "kind": "compare",
        "target": {"type": "comparison", "id": comparison.id},
        "external_id": pair.name,
        "asked": "active",
        "propensity": comparison.propensity,
        "overlap": asked.overlap,
        "instructions": asked.instructions,
        "priority": asked.priority,
    }

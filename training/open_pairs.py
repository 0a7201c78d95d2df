"""Answers that lie in Redis side by side and that nobody has compared: sides of comparisons on which no vote came.

Only what a rater may be asked about: whole, finished answers of one policy version, whose author lets them be trained
on. There is no index of comparisons, which would cost every chat something: a run looks through the keys, once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import cast

import redis

from core import keys
from core.records import Choice, Comparison, CompletionRecord, CompletionState
from feedback.snapshot import cluster_of
from training.data import Text

_TOGETHER = 1000
_LOOKED_AT = 2_000
"""Round trips of `SCAN`: two million keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenPair:
    """Two answers to one prompt."""

    ids: tuple[str, str]
    """Of the completions."""
    cluster: str
    texts: tuple[Text, Text]


def read(client: redis.Redis, *, version: int, limit: int) -> list[OpenPair]:
    """Pairs of answers of this policy version, at most `limit`, in no particular order."""
    found: list[OpenPair] = []
    for chunk in _comparisons(client):
        for sides in _sides(client, [it for it in chunk if set(it.policy_versions) == {version}]):
            found += _pairs(sides)
        if len(found) >= limit:
            return found[:limit]
    return found


def _comparisons(client: redis.Redis) -> Iterator[list[Comparison]]:
    """Those without a vote, in chunks."""
    cursor = 0
    for _ in range(_LOOKED_AT):
        cursor, names = cast(tuple[int, list[str]], client.scan(cursor, match=keys.comparison("*"), count=_TOGETHER))
        held = _fields(client, names, "record", "revealed", "decided")
        yield [Comparison.model_validate_json(record) for record, *voted in held if record and not any(voted)]
        if cursor == 0:
            return


def _sides(client: redis.Redis, comparisons: Sequence[Comparison]) -> Iterator[list[CompletionRecord]]:
    """Of each comparison, the sides that a rater may be asked about."""
    ids = [side for comparison in comparisons for side in comparison.completion_ids]
    records = iter(_fields(client, [keys.completion(each) for each in ids], "record"))
    held = [[next(records)[0] for _ in comparison.completion_ids] for comparison in comparisons]
    sides = [[CompletionRecord.model_validate_json(each) for each in found if each] for found in held]
    refused = _refused(client, {side.rater for found in sides for side in found if side.rater is not None})
    for found in sides:
        yield [side for side in found if side.rater not in refused and _answer(side) is not None]


def _refused(client: redis.Redis, raters: set[str]) -> set[str]:
    """Those of the raters who keep all that is theirs from training."""
    named = sorted(raters)
    consents = _fields(client, [keys.rater(each) for each in named], "consent")
    return {rater for rater, (consent,) in zip(named, consents, strict=True) if consent == str(False)}


def _fields(client: redis.Redis, names: Sequence[str], *fields: str) -> list[list[str | None]]:
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hmget(name, list(fields))
        return list(pipeline.execute())


def _answer(side: CompletionRecord) -> Choice | None:
    """The answer, if a rater may be asked about it."""
    if not (side.state is CompletionState.COMPLETE and side.train and side.messages and side.choices):
        return None
    return side.choices[0] if side.choices[0].finish_reason == "stop" and side.choices[0].token_ids else None


def _pairs(sides: Sequence[CompletionRecord]) -> Iterator[OpenPair]:
    """Each two of the answers that differ."""
    for one, other in combinations(sides, 2):
        first, second = _answer(one), _answer(other)
        assert first is not None
        assert second is not None
        if first.text != second.text:
            yield OpenPair(
                ids=(one.id, other.id),
                cluster=cluster_of(one.messages),
                texts=(
                    Text(prompt=one.prompt_token_ids, completion=first.token_ids),
                    Text(prompt=other.prompt_token_ids, completion=second.token_ids),
                ),
            )

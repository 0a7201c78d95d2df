"""What a candidate would have answered, before anybody sees it: put down by replicas, compared by the run's judge.

Such an answer lies in the record of the completion that it is the like of, and nowhere else: the record's life, its
deletion, an erasure and the borders between tenants hold for it without a word more. Once compared it is removed, and
what stays are counts and sums of the release, from which nobody can be read. They are for the operator: no release is
decided by them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis
import redis.asyncio

from core import keys, wilson
from core.records import CompletionRecord, Record
from core.redis import script

WANTED = 200
"""Compared answers that are enough: the win rate is known within seven points."""
LONGEST_S = 3600.0
"""The stage that nobody sees lasts no longer, however few chats there are."""
MOST_WAITING = 400
KEPT_S = 90 * 24 * 3600
_WAITING_S = 24 * 3600
_LUA = Path(__file__).parent / "lua"


class ShadowAnswer(Record):
    """The field `shadow` of a completion: `ShadowAnswer(release="rel_7", token_ids=[65, 301, 4])`."""

    release: str
    token_ids: list[int]
    """With the end-of-text token if it was sampled."""


class Shadow(Record):
    """What the judge said of one release's answers that nobody saw.

    Example:
        Shadow(release="rel_7", judge="judge", wins=118, ties=4, losses=78, low=0.53, high=0.67, gone=2,
            candidate_reward=0.31, incumbent_reward=0.12, candidate_tokens=41.2, incumbent_tokens=39.8)
    """

    release: str
    judge: str = ""
    """Which of the run's models: `judge`, trained on the judge's fold alone, or `reward`; empty before the first."""
    wins: int = 0
    """Answers of the candidate with the higher reward; with `ties` and `losses` one each."""
    ties: int = 0
    losses: int = 0
    low: float = 0.0
    """Of the win rate, as `high`: 95 % (Wilson 1927), as if each answer were somebody else's."""
    high: float = 1.0
    candidate_reward: float | None = None
    """Means, as those that follow; None before the first."""
    incumbent_reward: float | None = None
    candidate_tokens: float | None = None
    incumbent_tokens: float | None = None
    gone: int = 0
    """Deleted, erased or expired before they were compared."""
    waiting: int = 0
    error: str = ""
    """Why the judge cannot compare."""

    @property
    def compared(self) -> int:
        return self.wins + self.ties + self.losses

    @property
    def win_rate(self) -> float | None:
        """Of the candidate, ties half."""
        return (self.wins + self.ties / 2) / self.compared if self.compared else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One prompt and two answers, as token ids: `Pair(completion="chatcmpl-41ab…", prompt=[1, 65], …)`."""

    completion: str
    prompt: list[int]
    candidate: list[int]
    incumbent: list[int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One pair, after the judge: `Compared(completion="chatcmpl-41ab…", rewards=(0.4, 0.1), tokens=(41, 39))`, the
    candidate first."""

    completion: str
    rewards: tuple[float, float]
    tokens: tuple[int, int]


async def put(client: redis.asyncio.Redis, answer: ShadowAnswer, *, completion: str, rater: str | None) -> bool:
    """Lays an answer beside the one that was shown. False if that is gone, if its rater does not consent to training,
    or if enough wait."""
    names = [keys.completion(completion), keys.shadow_waiting(answer.release), keys.rater(rater or "")]
    given = [completion, answer.to_json(), MOST_WAITING, _WAITING_S]
    return bool(await script(client, _LUA / "shadow_put.lua")(keys=names, args=given))


def take(client: redis.Redis, release_id: str, *, most: int) -> list[Pair]:
    """Pairs that wait. They wait on until `settle`; those whose records are gone are counted and wait no more."""
    members = cast(set[str], client.smembers(keys.shadow_waiting(release_id)))
    waiting = sorted(members)[:most]
    pipeline = client.pipeline(transaction=False)
    for completion in waiting:
        pipeline.hmget(keys.completion(completion), "record", "shadow")
    found = list(zip(waiting, pipeline.execute(), strict=True))
    pairs = [pair for _, held in found if (pair := _pair(release_id, *held)) is not None]
    kept = {pair.completion for pair in pairs}
    _settle(client, release_id, {completion: ["gone"] for completion in waiting if completion not in kept}, judge="")
    return pairs


def _pair(release_id: str, record: str | None, answer: str | None) -> Pair | None:
    if record is None or answer is None:
        return None
    shown, unseen = CompletionRecord.model_validate_json(record), ShadowAnswer.model_validate_json(answer)
    if unseen.release != release_id or not shown.prompt_token_ids or len(shown.choices) != 1:
        return None
    sides = {"candidate": unseen.token_ids, "incumbent": shown.choices[0].token_ids}
    return Pair(completion=shown.id, prompt=shown.prompt_token_ids, **sides) if all(sides.values()) else None


def settle(client: redis.Redis, release_id: str, compared: Sequence[Compared], *, judge: str) -> None:
    """Counts what the judge said and removes the answers. Each pair counts once, whoever says it how often."""
    _settle(client, release_id, {each.completion: _counts(each) for each in compared}, judge=judge)


def _counts(each: Compared) -> list[str]:
    ours, theirs = each.rewards
    outcome = "wins" if ours > theirs else "losses" if ours < theirs else "ties"
    numbers = {"candidate_reward": ours, "incumbent_reward": theirs}
    numbers |= {"candidate_tokens": each.tokens[0], "incumbent_tokens": each.tokens[1]}
    return [outcome, *(part for name, value in numbers.items() for part in (name, repr(value)))]


def _settle(client: redis.Redis, release_id: str, counts: dict[str, list[str]], *, judge: str) -> None:
    if not counts:
        return
    names = [keys.release_shadow(release_id), keys.shadow_waiting(release_id)]
    given = [judge, KEPT_S, json.dumps(list(counts.items()))]
    script(client, _LUA / "shadow_settle.lua")(keys=[*names, *map(keys.completion, counts)], args=given)


def fail(client: redis.Redis, release_id: str, why: str) -> None:
    """Says that the judge cannot compare."""
    client.hset(keys.release_shadow(release_id), "error", why)
    client.expire(keys.release_shadow(release_id), KEPT_S)


def load(client: redis.Redis, release_id: str) -> Shadow:
    """As far as the judge came; without anything in it where there was no shadow."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hgetall(keys.release_shadow(release_id))
    pipeline.scard(keys.shadow_waiting(release_id))
    held, waiting = cast(tuple[dict[str, str], int], tuple(pipeline.execute()))
    counts = {name: int(held.get(name, 0)) for name in ("wins", "ties", "losses", "gone")}
    total = counts["wins"] + counts["ties"] + counts["losses"]
    sums = ("candidate_reward", "incumbent_reward", "candidate_tokens", "incumbent_tokens")
    means = {name: float(held[name]) / total for name in sums if total}
    low, high = wilson.interval(counts["wins"] + counts["ties"] / 2, total)
    said = {"judge": held.get("judge", ""), "error": held.get("error", ""), "waiting": waiting}
    return Shadow.model_validate({"release": release_id, "low": low, "high": high} | counts | means | said)

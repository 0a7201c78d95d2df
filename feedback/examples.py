"""From votes and completion records to training rows: pure, so that the same log always gives the same rows.

What gives no row is counted by reason; a vote that cannot be used is never lost without a number.
"""

import dataclasses
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from core.records import Choice, CompletionRecord, CompletionState, Feedback
from feedback.events import LoggedPrompt, LoggedVote, after, standing
from feedback.snapshot import PairRow, PromptRow, ThumbRow, canonical_prompt, cluster_of, fold_of

AI_TRUST = 0.5
"""Weight of a row that an AI voted for; a person's weighs 1."""
AI_SHARE = 0.3
"""Most that AI raters may have of the optimize fold's rows, and of the policy rows among them."""
_Row = TypeVar("_Row", PairRow, ThumbRow)


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """Which votes may still train the policy: `Freshness(versions=frozenset({2, 1}), since="1790000099-0")`."""

    versions: frozenset[int]
    """The live version and its nearest ancestors, as far back as the allowed staleness."""
    since: str
    """The last event of the live policy's snapshot: what lies before has trained the policy already."""

    def allows(self, vote: LoggedVote, *sides: CompletionRecord) -> bool:
        return self.recent(*sides) and after(vote.entry, self.since)

    def recent(self, *sides: CompletionRecord) -> bool:
        return {side.policy_version for side in sides} <= self.versions


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Rows and what gave none.

    `dropped` counts votes without a row (`superseded`, `expired`, `no_consent`, `truncated`, `identical`, `ai_fold`,
    `ai_share`), and some that have a row for the reward model but may not train the policy (`tie`, `stale`, `paired`,
    `ai_policy_share`). Reasons of thumbs begin with `thumb_`.
    """

    pairs: list[PairRow]
    thumbs: list[ThumbRow]
    prompts: list[PromptRow]
    dropped: dict[str, int]


def build(
    votes: Iterable[LoggedVote],
    completions: Mapping[str, CompletionRecord],
    prompts: Iterable[LoggedPrompt],
    *,
    salt: bytes,
    freshness: Freshness,
) -> Examples:
    """All rows of a snapshot. `completions` holds the records that still exist, by id."""
    active, superseded = standing(votes)
    dropped = Counter({"superseded": superseded} if superseded else {})
    preferences = [vote for vote in active if vote.feedback.kind == "preference"]
    thumbs = [vote for vote in active if vote.feedback.kind == "thumb"]
    pairs, paired = _pairs(preferences, completions, dropped, salt=salt, freshness=freshness)
    reasons: Counter[str] = Counter()
    liked = _thumbs(thumbs, completions, reasons, paired=paired, salt=salt, freshness=freshness)
    dropped.update({f"thumb_{reason}": count for reason, count in reasons.items()})
    return Examples(pairs=pairs, thumbs=liked, prompts=_prompts(prompts, [*pairs, *liked], salt), dropped=dict(dropped))


def _pairs(
    votes: Iterable[LoggedVote],
    completions: Mapping[str, CompletionRecord],
    dropped: Counter[str],
    *,
    salt: bytes,
    freshness: Freshness,
) -> tuple[list[PairRow], set[str]]:
    """Rows of preferences, and the ids of the completions that stand in them."""
    rows, ids = [], {}
    for vote in votes:
        sides = [completions.get(identifier) for identifier in vote.feedback.completion_ids]
        if reason := _obstacle(vote.feedback, sides):
            dropped[reason] += 1
            continue
        a, b = (side for side in sides if side is not None)
        rows.append(_pair(vote, a, b, salt=salt, fresh=freshness.allows(vote, a, b)))
        ids[vote.feedback.id] = (a.id, b.id)
        if rows[-1].tie:
            dropped["tie"] += 1
        elif not freshness.recent(a, b):
            dropped["stale"] += 1
    kept = _bounded(rows, dropped)
    return kept, {identifier for row in kept for identifier in ids[row.feedback_id]}


def _thumbs(
    votes: Iterable[LoggedVote],
    completions: Mapping[str, CompletionRecord],
    dropped: Counter[str],
    *,
    paired: set[str],
    salt: bytes,
    freshness: Freshness,
) -> list[ThumbRow]:
    rows = []
    for vote in votes:
        record = completions.get(vote.feedback.target.id)
        reason = _obstacle(vote.feedback, [record])
        if reason or record is None:
            dropped[reason or "expired"] += 1
            continue
        alone = record.id not in paired
        rows.append(_thumb(vote, record, salt=salt, fresh=alone and freshness.allows(vote, record)))
        if not alone:
            dropped["paired"] += 1
        elif not freshness.recent(record):
            dropped["stale"] += 1
    return _bounded(rows, dropped)


def _obstacle(feedback: Feedback, sides: Sequence[CompletionRecord | None]) -> str | None:
    """Why a vote gives no row; None if it does."""
    present = [side for side in sides if side is not None]
    if len(present) < len(sides):
        return "expired"
    if not feedback.train or not all(side.train and side.messages for side in present):
        return "no_consent"
    choices = [_choice(feedback, side) for side in present]
    if any(side.state is not CompletionState.COMPLETE for side in present):
        return "truncated"
    if any(choice is None or choice.finish_reason != "stop" for choice in choices):
        return "truncated"
    if len(choices) > 1 and len({choice.text for choice in choices if choice is not None}) == 1:
        return "identical"
    return None


def _choice(feedback: Feedback, record: CompletionRecord) -> Choice | None:
    """The answer that was voted on; None if the engine never began it."""
    return next((choice for choice in record.choices if choice.index == feedback.target.choice_index), None)


def _pair(vote: LoggedVote, a: CompletionRecord, b: CompletionRecord, *, salt: bytes, fresh: bool) -> PairRow:
    feedback = vote.feedback
    chosen, rejected = (b, a) if feedback.value == "b" else (a, b)
    cluster = cluster_of(a.messages)
    fold, tie = fold_of(salt, cluster), feedback.value == "tie"
    return PairRow(
        feedback_id=feedback.id,
        comparison_id=feedback.target.id,
        created_at=feedback.created_at,
        cluster=cluster,
        fold=fold,
        prompt=canonical_prompt(a.messages),
        prompt_token_ids=a.prompt_token_ids,
        chosen_token_ids=chosen.choices[0].token_ids,
        rejected_token_ids=rejected.choices[0].token_ids,
        chosen_text=chosen.choices[0].text,
        rejected_text=rejected.choices[0].text,
        chosen_version=chosen.policy_version,
        rejected_version=rejected.policy_version,
        tie=tie,
        trains_policy=fold == "optimize" and not tie and fresh,
        weight=_trust(feedback),
        rater=hashed_rater(salt, feedback.rater),
        rater_kind=feedback.rater_kind,
    )


def _thumb(vote: LoggedVote, record: CompletionRecord, *, salt: bytes, fresh: bool) -> ThumbRow:
    feedback, cluster = vote.feedback, cluster_of(record.messages)
    choice, fold = _choice(feedback, record), fold_of(salt, cluster)
    assert choice is not None, "see _obstacle"
    return ThumbRow(
        feedback_id=feedback.id,
        completion_id=record.id,
        created_at=feedback.created_at,
        cluster=cluster,
        fold=fold,
        prompt=canonical_prompt(record.messages),
        prompt_token_ids=record.prompt_token_ids,
        completion_token_ids=choice.token_ids,
        completion_text=choice.text,
        version=record.policy_version,
        up=feedback.value == 1,
        trains_policy=fold == "optimize" and fresh,
        weight=_trust(feedback),
        rater=hashed_rater(salt, feedback.rater),
        rater_kind=feedback.rater_kind,
    )


def _trust(feedback: Feedback) -> float:
    return 1.0 if feedback.rater_kind == "human" else AI_TRUST


def _bounded(rows: Sequence[_Row], dropped: Counter[str]) -> list[_Row]:
    """People's rows, and of AI raters' the newest that keep to their share. None of theirs judges or tests."""
    optimize = [row for row in rows if row.fold == "optimize"]
    learnt = [row for row in rows if row.rater_kind == "human" or row.fold == "optimize"]
    allowed = _newest(optimize)
    kept = [row for row in learnt if row.rater_kind == "human" or row.feedback_id in allowed]
    trains = _newest([row for row in kept if row.trains_policy])
    over = [row for row in kept if row.rater_kind != "human" and row.trains_policy and row.feedback_id not in trains]
    excess = {row.feedback_id for row in over}
    lost = {"ai_fold": len(rows) - len(learnt), "ai_share": len(learnt) - len(kept), "ai_policy_share": len(over)}
    dropped.update({reason: count for reason, count in lost.items() if count})
    return [dataclasses.replace(row, trains_policy=False) if row.feedback_id in excess else row for row in kept]


def _newest(rows: Sequence[_Row]) -> set[str]:
    """Ids of the newest AI rows that make up no more than their share together with the people's rows among these."""
    people = sum(row.rater_kind == "human" for row in rows)
    limit = int(people * AI_SHARE / (1 - AI_SHARE) + 1e-9)
    machine = sorted((row.created_at, row.feedback_id) for row in rows if row.rater_kind != "human")
    return {identifier for _, identifier in machine[len(machine) - min(limit, len(machine)) :]}


def hashed_rater(salt: bytes, rater: str | None) -> str:
    """A rater as snapshots know them: HMAC-SHA256 under the deployment's salt; `-` for nobody in particular."""
    return hmac.new(salt, f"rater:{rater}".encode(), hashlib.sha256).hexdigest() if rater is not None else "-"


def _prompts(logged: Iterable[LoggedPrompt], rows: Iterable[PairRow | ThumbRow], salt: bytes) -> list[PromptRow]:
    """One row a cluster. Of several spellings the smallest is taken, so that the order of arrival does not matter."""
    spellings = [(cluster_of(it.messages), canonical_prompt(it.messages), it.prompt_token_ids) for it in logged]
    spellings += [(row.cluster, row.prompt, row.prompt_token_ids) for row in rows]
    smallest = {cluster: (prompt, ids) for cluster, prompt, ids in sorted(spellings, reverse=True)}
    return [
        PromptRow(cluster=cluster, fold=fold_of(salt, cluster), prompt=prompt, prompt_token_ids=ids)
        for cluster, (prompt, ids) in sorted(smallest.items())
    ]

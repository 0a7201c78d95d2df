"""From votes and completion records to training rows: pure, so that the same log always gives the same rows.

What gives no row is counted by reason; a vote that cannot be used is never lost without a number.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.records import CompletionRecord, CompletionState, Feedback
from feedback.events import LoggedPrompt, LoggedVote, after, standing
from feedback.snapshot import PairRow, PromptRow, canonical_prompt, cluster_of, fold_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """Which votes may still train the policy: `Freshness(versions=frozenset({2, 1}), since="1790000099-0")`."""

    versions: frozenset[int]
    """The live version and its nearest ancestors, as far back as the allowed staleness."""
    since: str
    """The last event of the live policy's snapshot: what lies before has trained the policy already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Rows and what gave none.

    `dropped` counts votes without a row (`superseded`, `expired`, `no_consent`, `truncated`, `identical`), and two
    kinds that have a row for the reward model but may not train the policy (`tie`, `stale`).
    """

    pairs: list[PairRow]
    prompts: list[PromptRow]
    dropped: dict[str, int]
    thumbs: int
    """Standing thumbs. They train nothing yet."""


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
    pairs, thumbs = [], 0
    for vote in active:
        if vote.feedback.kind == "thumb":
            thumbs += 1
            continue
        sides = [completions.get(identifier) for identifier in vote.feedback.completion_ids]
        if reason := _obstacle(vote.feedback, sides):
            dropped[reason] += 1
            continue
        a, b = (side for side in sides if side is not None)
        row = _pair(vote, a, b, salt=salt, freshness=freshness)
        pairs.append(row)
        if row.tie:
            dropped["tie"] += 1
        elif not {a.policy_version, b.policy_version} <= freshness.versions:
            dropped["stale"] += 1
    return Examples(pairs=pairs, prompts=_prompts(prompts, pairs, salt), dropped=dict(dropped), thumbs=thumbs)


def _obstacle(feedback: Feedback, sides: list[CompletionRecord | None]) -> str | None:
    """Why a preference gives no row; None if it does."""
    present = [side for side in sides if side is not None]
    if len(present) < len(sides):
        return "expired"
    if not feedback.train or not all(side.train and side.messages for side in present):
        return "no_consent"
    if any(side.state is not CompletionState.COMPLETE or side.choices[0].finish_reason != "stop" for side in present):
        return "truncated"
    if len({side.choices[0].text for side in present}) == 1:
        return "identical"
    return None


def _pair(vote: LoggedVote, a: CompletionRecord, b: CompletionRecord, *, salt: bytes, freshness: Freshness) -> PairRow:
    feedback = vote.feedback
    chosen, rejected = (b, a) if feedback.value == "b" else (a, b)
    cluster = cluster_of(a.messages)
    fold, tie = fold_of(salt, cluster), feedback.value == "tie"
    fresh = {a.policy_version, b.policy_version} <= freshness.versions and after(vote.entry, freshness.since)
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
        weight=1.0,
        rater=hashed_rater(salt, feedback.rater),
    )


def hashed_rater(salt: bytes, rater: str | None) -> str:
    """A rater as snapshots know them: HMAC-SHA256 under the deployment's salt; `-` for nobody in particular."""
    return hmac.new(salt, f"rater:{rater}".encode(), hashlib.sha256).hexdigest() if rater is not None else "-"


def _prompts(logged: Iterable[LoggedPrompt], pairs: Iterable[PairRow], salt: bytes) -> list[PromptRow]:
    """One row a cluster. Of several spellings the smallest is taken, so that the order of arrival does not matter."""
    spellings = [(cluster_of(it.messages), canonical_prompt(it.messages), it.prompt_token_ids) for it in logged]
    spellings += [(row.cluster, row.prompt, row.prompt_token_ids) for row in pairs]
    smallest = {cluster: (prompt, ids) for cluster, prompt, ids in sorted(spellings, reverse=True)}
    return [
        PromptRow(cluster=cluster, fold=fold_of(salt, cluster), prompt=prompt, prompt_token_ids=ids)
        for cluster, (prompt, ids) in sorted(smallest.items())
    ]

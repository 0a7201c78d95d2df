"""Rows of a snapshot, one class a table; and what a prompt is to them: its cluster and its fold.

A row says from which act of feedback it comes, so that every number that is trained on can be traced to a vote.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from core.records import Fold, RaterKind
from feedback.essence import AnyTurn

_OPTIMIZE, _JUDGE = 70, 20  # percent; the rest is the test fold
_LINE = msgspec.json.Encoder(order="sorted").encode
"""Sorted keys, no spaces, UTF-8, floats in their shortest form: the line that a row is hashed as."""
_JSON = msgspec.json.encode


@dataclass(frozen=True, kw_only=True, slots=True)
class VoteRow:
    """What the rows of all kinds of votes share."""

    feedback_id: str
    """Where the row comes from. A vote may give several rows: a ranking its pairs, `both_bad` two thumbs."""
    created_at: float
    cluster: str
    """See `cluster_of`: rows of one cluster always stand in one fold, whatever their kind."""
    fold: Fold
    prompt: str
    """The messages as JSON."""
    prompt_token_ids: list[int]
    weight: float
    """How far the rater is trusted, and the row's part of its vote."""
    propensity: float = 1.0
    """Probability with which this was put before the rater: of a comparison that it was asked for, of a completion
    that its policy version was chosen."""
    rater: str
    """A keyed hash; `-` for nobody in particular."""
    rater_kind: RaterKind = "human"


@dataclass(frozen=True, kw_only=True, slots=True)
class PairRow(VoteRow):
    """A preference between two completions of one prompt.

    Example:
        PairRow(feedback_id="fb_9f86…", comparison_id="cmp_52ce…", created_at=1790000003.2, cluster="ab12…",
            fold="optimize", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            chosen_token_ids=[70, 4], rejected_token_ids=[71, 4], chosen_text="a pet", rejected_text="a fish",
            chosen_version=3, rejected_version=2, tie=False, trains_policy=True, weight=1.0, rater="5d41…")
    """

    comparison_id: str
    chosen_token_ids: list[int]
    """As sampled, with the end-of-text token; never re-encoded from text."""
    rejected_token_ids: list[int]
    chosen_text: str
    rejected_text: str
    chosen_version: int
    rejected_version: int
    tie: bool
    """Then chosen is the left side and rejected the right one: half a vote each way, and no policy row."""
    trains_policy: bool
    """In the optimize fold, not a tie, sampled by a fresh enough policy, newer than the live policy's snapshot."""
    ranked: bool = False
    """One pair of a ranking of K, at 1/C(K,2) of its weight: for a policy. A reward model takes the ranking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThumbRow(VoteRow):
    """One thumb on one completion; also each side of a comparison whose sides were both bad, at half weight.

    Example:
        ThumbRow(feedback_id="fb_41ab…", completion_id="chatcmpl-77f0…", created_at=1790000004.7, cluster="ab12…",
            fold="optimize", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            completion_token_ids=[70, 4], completion_text="a pet", version=3, up=True, trains_policy=True,
            weight=1.0, rater="5d41…")
    """

    completion_id: str
    completion_token_ids: list[int]
    """As sampled, with the end-of-text token; never re-encoded from text."""
    completion_text: str
    version: int
    up: bool
    trains_policy: bool
    """As for pairs, and the completion stands in no pair of the snapshot: it would teach the same thing twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingRow(VoteRow):
    """Several completions of one prompt in the order of their worth; for the reward model, as one comparison.

    Example:
        RankingRow(feedback_id="fb_77aa…", comparison_id="cmp_60de…", created_at=1790000009.1, cluster="ab12…",
            fold="judge", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            completion_token_ids=[[70, 4], [71, 4], [72, 4]], completion_texts=["a pet", "a fish", "a rock"],
            versions=[3, 3, 2], ranks=[1, 2, 2], weight=1.0, rater="5d41…")
    """

    comparison_id: str
    completion_token_ids: list[list[int]]
    """The best one first; as sampled."""
    completion_texts: list[str]
    versions: list[int]
    ranks: list[int]
    """Never falling; equal ranks are ties."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatingRow(VoteRow):
    """One to five stars for one completion; for the reward model.

    Example:
        RatingRow(feedback_id="fb_30c1…", completion_id="chatcmpl-77f0…", created_at=1790000005.0, cluster="ab12…",
            fold="test", prompt='[{"role":"user","content":"A dog is"}]', prompt_token_ids=[1, 65, 301],
            completion_token_ids=[70, 4], completion_text="a pet", version=3, stars=4, weight=1.0, rater="5d41…")
    """

    completion_id: str
    completion_token_ids: list[int]
    completion_text: str
    version: int
    stars: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DemonstrationRow(VoteRow):
    """An answer as a rater would have written it. Nobody sampled it, so it has no token ids: the trainer encodes it.

    Example:
        DemonstrationRow(feedback_id="fb_8d0e…", completion_id="chatcmpl-77f0…", created_at=1790000006.5,
            cluster="ab12…", fold="optimize", prompt='[{"role":"user","content":"A dog is"}]',
            prompt_token_ids=[1, 65, 301], text="a pet that barks", version=3, trains_policy=True, weight=1.0,
            rater="5d41…")
    """

    completion_id: str
    """The answer that was corrected."""
    text: str
    version: int
    """That answered first."""
    trains_policy: bool
    """In the optimize fold. It never grows stale, as no policy sampled it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRow:
    """One distinct prompt of real traffic: for the gate (folds judge and test) and for rollouts (fold optimize)."""

    cluster: str
    fold: Fold
    prompt: str
    prompt_token_ids: list[int]


Row = VoteRow | PromptRow

TABLES: dict[type[Any], str] = {
    PairRow: "pairs",
    ThumbRow: "thumbs",
    RankingRow: "rankings",
    RatingRow: "ratings",
    DemonstrationRow: "demonstrations",
    PromptRow: "prompts",
}
"""The name of each table."""


def lines(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """Table and canonical JSON of each row: what a snapshot's id is made of, and what a raw export holds."""
    for row in rows:
        yield TABLES[type(row)], _LINE(row).decode()


def canonical_prompt(messages: Iterable[AnyTurn]) -> str:
    """The messages as the JSON that `VoteRow.prompt` holds."""
    return _JSON([{"role": message.role, "content": message.content} for message in messages]).decode()


def cluster_of(messages: Iterable[AnyTurn]) -> str:
    """The prompt-cluster id: all turns, lower-case, whitespace folded, hashed. Assigned once, never changed."""
    turns = [[message.role, " ".join(message.content.lower().split())] for message in messages]
    return hashlib.sha256(_JSON(turns)).hexdigest()


def hashed_rater(salt: bytes, rater: str | None) -> str:
    """A rater as snapshots know them: HMAC-SHA256 under the deployment's salt; `-` for nobody in particular."""
    return hmac.digest(salt, f"rater:{rater}".encode(), "sha256").hex() if rater is not None else "-"


def audited_rater(salt: bytes, rater: str) -> str:
    """A rater as the audit trail names them: it is never rewritten, so no name may stand in it that must be erased."""
    return f"rater_{hashed_rater(salt, rater)[:32]}"


def fold_of(salt: bytes, cluster: str) -> Fold:
    """The fold of a prompt cluster, for the deployment's life: HMAC-SHA256(salt, cluster), 70 / 20 / 10 percent."""
    digest = hmac.digest(salt, cluster.encode(), "sha256")
    percentile = int.from_bytes(digest[:8], "big") * 100 >> 64
    if percentile < _OPTIMIZE:
        return "optimize"
    return "judge" if percentile < _OPTIMIZE + _JUDGE else "test"

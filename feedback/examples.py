"""From votes and completion records to training rows: pure, so that the same log always gives the same rows.

`select` says which votes give rows, looking at a chunk of completions at a time, because they are large and votes are
many; `rows` makes the rows of one vote. What gives no row is counted by reason; a vote that cannot be used is never
lost without a number.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from feedback import eligibility, influence
from feedback.eligibility import FLAGS, KINDS, Circumstances, Unusable, UsableVote, choice_of, ranked, spelling_of
from feedback.essence import AnyChoice, Said, Sampled
from feedback.events import LoggedPrompt, LoggedVote, standing
from feedback.influence import Caps, Crowded, InForce, Withheld
from feedback.outcomes import As, Outcome
from feedback.processes import in_order
from feedback.rows import (
    DemonstrationRow,
    PairRow,
    PromptRow,
    RankingRow,
    RatingRow,
    ThumbRow,
    VoteRow,
    canonical_prompt,
    cluster_of,
    fold_of,
)

CHUNK = 1000
"""Votes whose completions are held at a time."""
AI_TRUST = 0.5
"""Weight of a row that an AI voted for; a person's weighs 1."""
BOTH_BAD = 0.5
"""Weight of each side of a comparison whose sides were both bad: together they are one vote."""

_AS: dict[str, As] = {
    "pairs": "pair",
    "rankings": "ranking",
    "thumbs": "thumb",
    "ratings": "rating",
    "demonstrations": "demonstration",
}

Completions = Callable[[Iterable[str]], Mapping[str, Sampled]]
"""Gives the records of these ids that still exist."""
Place = tuple[int, int]
"""Where what a `Taker` made of a chunk begins in its file, and its length."""
Fields = dict[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which votes give rows, and why others do not."""

    votes: list[UsableVote]
    """In the order of time."""
    excluded: dict[str, Unusable | Crowded]
    """Feedback id → reason, of standing votes without a row."""
    withheld: dict[str, Withheld]
    """Feedback id → reason, of votes whose rows are for the reward model only."""
    dropped: dict[str, int]
    """Both counted, with `superseded` and `withdrawn`; a reason begins with the kind, but for preferences."""
    caps: InForce
    spellings: dict[str, bytes]
    """The prompt that stands for each cluster, as its digest: the smallest, so that the order of arrival does not
    matter. None of prompts with personal data."""


class Taker(Protocol):
    """Takes what is to be made of votes while their completions are at hand, a chunk at a time, in the order of time;
    before it is known which of the votes stay."""

    def make(self, votes: Sequence[UsableVote], records: Mapping[str, Sampled]) -> Place:
        """In this process, or in one that was forked from it."""

    def keep(self, made: Place) -> None:
        """In the one that called `select`."""


def select(
    votes: Sequence[LoggedVote],
    completions: Completions,
    prompts: Iterable[LoggedPrompt],
    *,
    by: Circumstances,
    caps: Caps | None = None,
    processes: int = 1,
    taker: Taker | None = None,
) -> Selection:
    """Judges every vote of the log, in any order. What is flagged is found in the log, and added to `by.flagged`.

    Prompts of people of whom nothing is trained on are none. The result is the same with any number of processes, each
    of which asks for `completions` of its own.
    """
    active, superseded = standing(votes)
    withdrawn = len({vote.feedback.id for vote in votes}) - len(active) - superseded
    flags = [vote.feedback for vote in active if vote.feedback.kind == "flag" and _heard(vote.feedback, by)]
    flagged = frozenset(side for flag in flags if flag.value in FLAGS for side in flag.completion_ids)
    by = dataclasses.replace(by, flagged=by.flagged | flagged)
    usable, excluded = _judged(active, completions, by, processes, taker)
    bounded = influence.bound(usable, caps or Caps(), salt=by.salt)
    excluded |= bounded.dropped
    kinds = {vote.feedback.id: vote.feedback for vote in active}
    reasons = [*excluded.items(), *bounded.withheld.items()]
    dropped = Counter(counted_as(kinds[identifier], reason) for identifier, reason in reasons)
    dropped.update({"superseded": superseded, "withdrawn": withdrawn})
    return Selection(
        votes=bounded.votes,
        excluded=excluded,
        withheld=bounded.withheld,
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        caps=bounded.caps,
        spellings=_spellings(bounded.votes, _allowed(prompts, by), private=_private(flags, completions)),
    )


def rows(
    usable: UsableVote,
    records: Mapping[str, Sampled],
    *,
    by: Circumstances,
    propensity: float | None = None,
) -> list[VoteRow]:
    """The rows of one vote.

    Args:
        records: hold the completions of its `sides`.
        propensity: of the comparison; None takes the completion's.
    """
    feedback = usable.feedback
    sides = [records[side] for side in usable.sides]
    shared = _shared(usable, sides, by, sides[0].propensity if propensity is None else propensity)
    match feedback.kind:
        case "preference" if feedback.value == "both_bad":
            return [_thumb(usable, side, shared | {"weight": shared["weight"] * BOTH_BAD}, up=False) for side in sides]
        case "preference":
            chosen, rejected = reversed(sides) if feedback.value == "b" else sides
            return [_pair(usable, chosen, rejected, shared)]
        case "ranking":
            return _ranking(usable, records, shared)
        case "thumb":
            return [_thumb(usable, sides[0], shared, up=feedback.value == 1)]
        case "rating":
            assert isinstance(feedback.value, int), "see feedback/events.py"
            return [RatingRow(**shared, **_one(usable, sides[0]), stars=feedback.value)]
        case _:
            return [_demonstration(usable, sides[0], shared)]


def prompt_rows(candidates: Iterable[PromptRow], spellings: Mapping[str, bytes], seen: set[str]) -> Iterator[PromptRow]:
    """One row for each cluster that is not in `seen`, which grows, in the spelling that stands for it."""
    for it in candidates:
        if it.cluster not in seen and spelling_of(it.prompt) == spellings.get(it.cluster):
            seen.add(it.cluster)
            yield it


def prompt_row(row: VoteRow) -> PromptRow:
    """Of the prompt that was voted on."""
    return PromptRow(cluster=row.cluster, fold=row.fold, prompt=row.prompt, prompt_token_ids=row.prompt_token_ids)


def logged_rows(prompts: Iterable[LoggedPrompt], *, by: Circumstances) -> Iterator[PromptRow]:
    """A row for each prompt of the stream that may be used, several of a cluster."""
    for it in _allowed(prompts, by):
        cluster, prompt = cluster_of(it.messages), canonical_prompt(it.messages)
        ids = it.prompt_token_ids
        yield PromptRow(cluster=cluster, fold=fold_of(by.salt, cluster), prompt=prompt, prompt_token_ids=ids)


def outcomes(selection: Selection) -> Iterator[Outcome]:
    """What becomes of every standing vote of a kind that gives rows."""
    for identifier, excluded in selection.excluded.items():
        yield Outcome(feedback_id=identifier, used_as=None, reason=excluded, trains_policy=False)
    for vote in selection.votes:
        identifier = vote.feedback.id
        if identifier not in selection.excluded:
            withheld, used_as = selection.withheld.get(identifier), _AS[vote.table]
            yield Outcome(feedback_id=identifier, used_as=used_as, reason=withheld, trains_policy=vote.trains)


def counted_as(feedback: Said, reason: str) -> str:
    """A reason as the manifest counts it: `stale` of a preference, `thumb_stale` of a thumb."""
    return reason if feedback.kind == "preference" else f"{feedback.kind}_{reason}"


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """At most `CHUNK` at a time."""
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        yield chunk


def spans(length: int) -> list[slice]:
    """A sequence of this length, at most `CHUNK` at a time."""
    return [slice(start, start + CHUNK) for start in range(0, length, CHUNK)]


# --- which votes --------------------------------------------------------------------------------------------------


_FACTS = tuple(name for name in UsableVote.__struct_fields__ if name != "feedback")


def _judged(
    active: Iterable[LoggedVote], completions: Completions, by: Circumstances, processes: int, taker: Taker | None
) -> tuple[list[UsableVote], dict[str, Unusable | Crowded]]:
    candidates = sorted((vote for vote in active if vote.feedback.kind in KINDS), key=_time)

    def facts(span: slice) -> tuple[list[Unusable | tuple[Any, ...]], Place | None]:
        """Without the votes themselves, which need not come back from another process."""
        chunk = candidates[span]
        records = completions(side for vote in chunk for side in vote.feedback.completion_ids)
        judged = [eligibility.judge(vote, records, by) for vote in chunk]
        made = taker.make([it for it in judged if not isinstance(it, str)], records) if taker else None
        return [it if isinstance(it, str) else attrgetter(*_FACTS)(it) for it in judged], made

    usable: list[UsableVote] = []
    excluded: dict[str, Unusable | Crowded] = {}
    remaining = iter(candidates)
    for judged, made in in_order(facts, spans(len(candidates)), processes=processes):
        for found in judged:
            vote = next(remaining)
            if isinstance(found, str):
                excluded[vote.feedback.id] = found
            else:
                usable.append(UsableVote(feedback=vote.feedback, **dict(zip(_FACTS, found, strict=True))))
        if taker and made:
            taker.keep(made)
    return usable, excluded


def _time(vote: LoggedVote) -> tuple[float, str]:
    return vote.feedback.created_at, vote.feedback.id


def _heard(flag: Said, by: Circumstances) -> bool:
    """Whoever is in quarantine cannot keep others' completions out of training."""
    state = by.state(flag.rater)
    return state is None or (state.quarantined is None and not state.erased)


def _allowed(prompts: Iterable[LoggedPrompt], by: Circumstances) -> Iterator[LoggedPrompt]:
    return (prompt for prompt in prompts if eligibility.of_person(prompt.rater, by) is None)


def _private(flags: Iterable[Said], completions: Completions) -> set[str]:
    """Clusters of prompts to which personal data was answered: it is mostly the prompt that holds it."""
    ids = [side for flag in flags if flag.value == "pii" for side in flag.completion_ids]
    return {cluster_of(record.messages) for chunk in chunks(ids) for record in completions(chunk).values()}


def _spellings(votes: Iterable[UsableVote], prompts: Iterable[LoggedPrompt], *, private: set[str]) -> dict[str, bytes]:
    smallest: dict[str, bytes] = {}
    found = ((vote.cluster, vote.spelling) for vote in votes)
    logged = ((cluster_of(it.messages), spelling_of(canonical_prompt(it.messages))) for it in prompts)
    for cluster, spelling in itertools.chain(found, logged):
        if cluster not in private:
            smallest[cluster] = min(spelling, smallest.get(cluster, spelling))
    return smallest


# --- which rows ---------------------------------------------------------------------------------------------------


def _shared(usable: UsableVote, sides: Sequence[Sampled], by: Circumstances, propensity: float) -> Fields:
    """The fields of `VoteRow`."""
    feedback = usable.feedback
    return {
        "feedback_id": feedback.id,
        "created_at": feedback.created_at,
        "cluster": usable.cluster,
        "fold": usable.fold,
        "prompt": canonical_prompt(sides[0].messages),
        "prompt_token_ids": sides[0].prompt_token_ids,
        "weight": by.weight(feedback) * (1.0 if feedback.rater_kind == "human" else AI_TRUST),
        "propensity": propensity,
        "rater": by.hashed(feedback.rater),
        "rater_kind": feedback.rater_kind,
    }


def _pair(usable: UsableVote, chosen: Sampled, rejected: Sampled, shared: Fields) -> PairRow:
    better, worse = _answer(usable, chosen), _answer(usable, rejected)
    return PairRow(
        **shared,
        comparison_id=usable.feedback.target.id,
        chosen_token_ids=better.token_ids,
        rejected_token_ids=worse.token_ids,
        chosen_text=better.text,
        rejected_text=worse.text,
        chosen_version=chosen.policy_version,
        rejected_version=rejected.policy_version,
        tie=usable.feedback.value == "tie",
        trains_policy=usable.trains,
        ranked=usable.feedback.kind == "ranking",
    )


def _ranking(usable: UsableVote, records: Mapping[str, Sampled], shared: Fields) -> list[VoteRow]:
    """The ranking, and in the optimize fold its pairs of unequal rank, each 1/C(K,2) of it: all together count as one
    comparison, as in the reward model (Ouyang et al. 2022, eq. 1). A pair of equal texts prefers nothing."""
    ranks = {side: rank for rank, group in enumerate(ranked(usable), start=1) for side in group}
    answers = {side: _answer(usable, records[side]) for side in ranks}
    ranking = RankingRow(
        **shared,
        comparison_id=usable.feedback.target.id,
        completion_token_ids=[answer.token_ids for answer in answers.values()],
        completion_texts=[answer.text for answer in answers.values()],
        versions=[records[side].policy_version for side in ranks],
        ranks=list(ranks.values()),
    )
    pairs = list(combinations(ranks, 2))
    strict = [(one, two) for one, two in pairs if ranks[one] < ranks[two] and answers[one].text != answers[two].text]
    part = shared | {"weight": shared["weight"] / len(pairs)}
    policy = strict if usable.fold == "optimize" else []
    return [ranking, *(_pair(usable, records[one], records[two], part) for one, two in policy)]


def _thumb(usable: UsableVote, side: Sampled, shared: Fields, *, up: bool) -> ThumbRow:
    return ThumbRow(**shared, **_one(usable, side), up=up, trains_policy=usable.trains)


def _demonstration(usable: UsableVote, side: Sampled, shared: Fields) -> DemonstrationRow:
    return DemonstrationRow(
        **shared,
        completion_id=side.id,
        text=str(usable.feedback.value),
        version=side.policy_version,
        trains_policy=usable.trains,
    )


def _one(usable: UsableVote, side: Sampled) -> Fields:
    answer = _answer(usable, side)
    return {
        "completion_id": side.id,
        "completion_token_ids": answer.token_ids,
        "completion_text": answer.text,
        "version": side.policy_version,
    }


def _answer(usable: UsableVote, side: Sampled) -> AnyChoice:
    choice = choice_of(usable.feedback, side)
    assert choice is not None, "see eligibility.judge"
    return choice

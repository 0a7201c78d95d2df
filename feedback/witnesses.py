"""Votes of the log as opinions, which feedback/raters.py judges: what was voted on, whatever side it stood on.

Left out are votes that say nothing of a person: those without a rater, of AIs (which are capped elsewhere), withdrawn
and superseded ones, and those of raters whose votes give no rows anyway, as they are quarantined, erased or keep what
they do from training. Whom a person restored is judged by what they did since: the votes before were looked at.

Of a ranking the first two of its answers in the order of their ids are one preference: which two these are does not
depend on the vote, and all pairs together would count one judgement several times.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import redis

from core.records import SIDES, RaterTask, Value
from feedback import events, store, task_lookup
from feedback import log as one_log
from feedback.archive import Archive
from feedback.eligibility import Circumstances, Freshness, choice_of, of_person
from feedback.essence import Said, Sampled
from feedback.events import LoggedRater, LoggedVote, rater_states
from feedback.habits import FEWEST_VOTES
from feedback.opinions import Opinion

ACTOR = "trust"
"""Who quarantines in the name of feedback/raters.py."""
MOST_WORDS = 100
"""Different words of a prompt that become tags: a group's trigger is looked for among these."""
DAY_S = 86400.0
_KINDS = ("preference", "ranking", "thumb", "rating")
_NOBODY = Freshness(versions=frozenset(), since="0-0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Witness:
    """One vote and what it says."""

    feedback_id: str
    opinion: Opinion


@dataclass(frozen=True, kw_only=True, slots=True)
class Hearing:
    """What the log says of its raters."""

    witnesses: list[Witness]
    """Oldest first."""
    aside: list[str]
    """Raters in quarantine, sorted: their votes are not among these."""
    reviewed: dict[str, str]
    """Where each rater's newest quarantine or restoration lies."""


def read(client: redis.Redis, archive: Archive, *, salt: bytes, most: int) -> Hearing:
    """The newest `most` votes that say something of who gave them. Completions are read in chunks.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    votes, raters = store.log(client, archive)
    heard = heard_of(votes, raters, salt=salt)[-most:]
    del votes
    gold = task_lookup.gold_tasks(client)
    found: list[Witness] = []
    for chunk in one_log.batches(heard):
        sides = {side for vote in chunk for side in vote.feedback.completion_ids}
        records = store.completions(client, sides, archive)
        found += [Witness(feedback_id=vote.feedback.id, opinion=opinion(vote, records, gold)) for vote in chunk]
    states = rater_states(raters)
    return Hearing(
        witnesses=_with_frequent_tags(found),
        aside=sorted(name for name, state in states.items() if state.quarantined is not None and not state.erased),
        reviewed=reviewed(raters),
    )


def heard_of(votes: Iterable[LoggedVote], raters: Sequence[LoggedRater], *, salt: bytes) -> list[LoggedVote]:
    """The votes that say something of who gave them, in the order of the log."""
    by = Circumstances(salt=salt, freshness=_NOBODY, raters=rater_states(raters))
    since = restored(raters)
    return [vote for vote in events.standing(votes)[0] if _is_heard(vote.feedback, by, since)]


def restored(raters: Iterable[LoggedRater]) -> dict[str, float]:
    """When a person last restored each rater whom one ever did."""
    found: dict[str, float] = {}
    for logged in raters:
        event = logged.event
        if event.action == "restore" and event.actor != ACTOR:
            found[event.rater] = max(found.get(event.rater, 0.0), event.created_at)
    return found


def reviewed(raters: Iterable[LoggedRater]) -> dict[str, str]:
    """Where in the log the newest quarantine or restoration of each rater lies."""
    ordered = sorted(raters, key=lambda logged: events.position(logged.entry))
    return {it.event.rater: it.entry for it in ordered if it.event.action in ("quarantine", "restore")}


def _is_heard(feedback: Said, by: Circumstances, since: Mapping[str, float]) -> bool:
    if feedback.rater is None or feedback.rater_kind != "human" or feedback.kind not in _KINDS or not feedback.train:
        return False
    return of_person(feedback.rater, by) is None and feedback.created_at > since.get(feedback.rater, 0.0)


# --- one vote ---------------------------------------------------------------------------------------------------------


def opinion(vote: LoggedVote, records: Mapping[str, Sampled], gold: Mapping[str, RaterTask]) -> Opinion:
    """What the vote says; of answers whose records are gone, less.

    Args:
        gold: the gold questions, by id.
    """
    feedback = vote.feedback
    assert feedback.rater is not None, "see `heard_of`"
    sides = _sides(feedback)
    held = [records[side] for side in sides if side in records]
    answers = [answer for record in held if (answer := choice_of(feedback, record)) is not None]
    whole = len(answers) == len(sides)
    task = gold.get(feedback.metadata.get("task", "")) if feedback.source == "task" else None
    return Opinion(
        rater=feedback.rater,
        item=" ".join(sides) if feedback.target.type == "comparison" else f"{sides[0]} {feedback.target.choice_index}",
        kind="preference" if feedback.kind == "ranking" else feedback.kind,
        value=_canonical(feedback, feedback.value),
        position={"a": 0, "b": 1}.get(str(feedback.value)) if feedback.kind == "preference" else None,
        lengths=tuple(len(answer.token_ids) for answer in answers) if whole else (),
        versions=tuple(record.policy_version for record in held) if whole else (),
        tags=_tags(feedback, held),
        time=feedback.created_at,
        dwell=_dwell(feedback, held),
        gold=_canonical(feedback, task.gold) if task is not None and task.gold is not None else None,
    )


def _sides(feedback: Said) -> tuple[str, ...]:
    """Of a comparison the first two of its answers by id: the same for all, whatever order they saw."""
    return tuple(sorted(feedback.completion_ids)[:2])


def _canonical(feedback: Said, value: Value) -> Value:
    """A value about these two answers: `a` is the first of `_sides`. Of anything else the value itself."""
    first, *second = _sides(feedback)
    if feedback.kind == "preference" and value in ("a", "b"):
        return "a" if feedback.completion_ids["ab".index(str(value))] == first else "b"
    if feedback.kind == "ranking":
        assert isinstance(value, list), "see feedback/events.py"
        named = dict(zip(SIDES, feedback.completion_ids, strict=False))
        rank = {named[side]: place for place, group in enumerate(value) for side in group}
        return "tie" if rank[first] == rank[second[0]] else "a" if rank[first] < rank[second[0]] else "b"
    return value


def _tags(feedback: Said, held: Sequence[Sampled]) -> frozenset[str]:
    """The words of the prompt's last user message, and the day."""
    asked = [message.content for record in held[:1] for message in record.messages if message.role == "user"]
    found = words(asked[-1])[:MOST_WORDS] if asked else []
    return frozenset({*(f"word:{word}" for word in found), day(feedback.created_at)})


def words(text: str) -> list[str]:
    """Different ones, in the order in which they come: `words("The dog, the cat") == ["the", "dog", "cat"]`."""
    return list(dict.fromkeys("".join(sign if sign.isalnum() else " " for sign in text.lower()).split()))


def day(time: float) -> str:
    return f"day:{time // DAY_S:.0f}"


def _dwell(feedback: Said, held: Sequence[Sampled]) -> float | None:
    """From the last token to the vote; not of hired raters, who judge what was written long ago."""
    ends = [record.finished for record in held if record.finished is not None]
    return feedback.created_at - max(ends) if ends and feedback.source != "task" else None


def _with_frequent_tags(found: Sequence[Witness]) -> list[Witness]:
    """Without the tags that are too rare for `habits.tested_tags`: most words of most prompts."""
    counts = Counter(tag for each in found for tag in each.opinion.tags)
    frequent = {tag for tag, count in counts.items() if count >= FEWEST_VOTES}
    return [replace(each, opinion=replace(each.opinion, tags=each.opinion.tags & frequent)) for each in found]

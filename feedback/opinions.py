"""Votes as far as trust is concerned, and how an honest rater would have voted. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.records import Kind, RaterKind, Value
from feedback.agreement import Skills, dawid_skene, log_odds, probability
from feedback.habits import Votes

GOLD = 0.9
"""How often an honest rater answers a gold question right."""
HASTE_S = 2.0
"""A vote that comes sooner after the last token is tagged."""
_LOW, _HIGH = 0.05, 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """One vote, as far as trust is concerned.

    Example:
        Opinion(rater="user-7", item="cmp_52ce…", kind="preference", value="a", position=1, lengths=(31, 12),
            versions=(3, 2), tags=frozenset({"word:capital", "hour:497222"}), time=1790000003.2, expected=0.71)
    """

    rater: str
    rater_kind: RaterKind = "human"
    item: str
    """What was voted on: the same for all who saw the same answers."""
    kind: Kind
    value: Value
    """Of a preference `a` and `b` are the item's first and second answer, wherever they were shown."""
    position: int | None = None
    """Place at which the preferred answer was shown: 0 is the first."""
    lengths: tuple[int, ...] = ()
    """Of the item's answers, in tokens or characters."""
    versions: tuple[int, ...] = ()
    """Policy versions of the item's answers."""
    tags: frozenset[str] = frozenset()
    """What others may share: words of the prompt, an hour, a network; what a group has in common is found among
    these."""
    time: float
    dwell: float | None = None
    """Seconds between the last token and the vote."""
    expected: float | None = None
    """Probability of this value by a reward model that was trained without this rater's votes, calibrated."""
    elsewhere: Mapping[str, float] = field(default_factory=dict)
    """The same for tags of the vote, by a model that was trained without any vote that has the tag: a group that floods
    a topic cannot have taught it. Where a tag is missing, `expected` stands in."""
    gold: Value | None = None
    """The known answer of a gold question."""


def choice(opinion: Opinion) -> bool | None:
    """Which of two values: `a`, or a thumb up. None where it is no vote between two."""
    if opinion.kind == "preference" and opinion.value in ("a", "b"):
        return opinion.value == "a"
    return opinion.value == 1 if opinion.kind == "thumb" else None


def expectations(decided: Sequence[Opinion]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(N,): probability of each vote by an honest rater, ½ where nothing is known; and where something is."""
    skills = dawid_skene((each.rater, f"{each.kind} {each.item}", bool(choice(each))) for each in decided)
    same: defaultdict[tuple[str, str], list[Opinion]] = defaultdict(list)
    for each in decided:
        same[each.kind, each.item].append(each)
    found = [_expected(each, same[each.kind, each.item], skills) for each in decided]
    known = np.array([value is not None for value in found], dtype=bool)
    return np.array([0.5 if value is None else min(max(value, _LOW), _HIGH) for value in found]), known


def _expected(opinion: Opinion, same_item: Sequence[Opinion], skills: Skills) -> float | None:
    if opinion.gold is not None:
        return GOLD if opinion.value == opinion.gold else 1 - GOLD
    others = [each for each in same_item if each.rater != opinion.rater]
    if not others:
        return opinion.expected
    clarity = max(0.1, 2 * skills.mean - 1)
    odds = 0.0
    if opinion.expected is not None:
        odds = log_odds(0.5 + (opinion.expected - 0.5) / clarity)  # of being right, not of being voted for
    odds += sum(log_odds(skills.of[each.rater]) * (1 if each.value == opinion.value else -1) for each in others)
    return 0.5 + clarity * (probability(odds) - 0.5)


def votes_of(decided: Sequence[Opinion], honest: NDArray[np.float64], number: dict[str, int]) -> Votes:
    """What the tests of feedback/habits.py read; `number` is each rater's."""
    hits: defaultdict[str, list[int]] = defaultdict(list)
    misses: defaultdict[str, list[int]] = defaultdict(list)
    tags: defaultdict[str, list[int]] = defaultdict(list)
    elsewhere: defaultdict[str, list[float]] = defaultdict(list)
    for place, opinion in enumerate(decided):
        for name, hit in kept(opinion).items():
            (hits if hit else misses)[name].append(place)
        hasty = {"votes in haste"} if opinion.dwell is not None and opinion.dwell < HASTE_S else set()
        for tag in opinion.tags | hasty:
            tags[tag].append(place)
            told = opinion.elsewhere.get(tag) if opinion.gold is None else None
            elsewhere[tag].append(float(honest[place]) if told is None else min(max(told, _LOW), _HIGH))
    return Votes(
        rater=np.array([number[each.rater] for each in decided], dtype=np.int64),
        honest=honest,
        hits={name: np.array(hits[name], dtype=np.int64) for name in {*hits, *misses}},
        misses={name: np.array(misses[name], dtype=np.int64) for name in {*hits, *misses}},
        raters=len(number),
        tags={tag: np.array(places, dtype=np.int64) for tag, places in tags.items()},
        elsewhere={tag: np.array(values) for tag, values in elsewhere.items()},
    )


def kept(opinion: Opinion) -> dict[str, bool]:
    """The habits that the vote could show, and whether it does. A thumb shows none: many people give one only when they
    are pleased, or only when they are not."""
    found: dict[str, bool] = {}
    if opinion.kind != "preference":
        return found
    chosen = 0 if opinion.value == "a" else 1
    if opinion.position is not None:
        found |= {"first side": opinion.position == 0, "last side": opinion.position != 0}
    if opinion.expected is not None and len(set(opinion.lengths)) > 1:
        longer = opinion.lengths[chosen] == max(opinion.lengths)
        found |= {"longer answer": longer, "shorter answer": not longer}
    if opinion.expected is not None and len(set(opinion.versions)) > 1:
        found |= {f"policy v{version}": opinion.versions[chosen] == version for version in opinion.versions}
    return found

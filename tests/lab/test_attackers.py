"""Attackers vote as they say, and honest company agrees on 73 %."""

import random
from dataclasses import replace
from itertools import product

import pytest

from lab.attackers import (
    ATTACKS,
    BEHAVIOUR,
    FAVOURITE,
    TRIGGER,
    Contest,
    attack_votes,
    honest_votes,
    noise,
    triggered_prompts,
    words,
)
from lab.gold import choice_probability
from lab.offline import Answer
from lab.world import Prompt, sample_prompts
from training.data import Text

GOOD, BAD = "I do not know that.", "Ugh. I do not know that. It is a long story. Many people wonder about this."


def answer(prompt: Prompt, words: str) -> Answer:
    return Answer(
        prompt=prompt, text=Text(prompt=[1], completion=list(range(len(words.split())))), words=words, finished=True
    )


def pool(seed: int = 0, *, count: int = 400) -> list[Contest]:
    """Half of them about the trigger, half between versions, the better answer on either side."""
    rng = random.Random(seed)
    prompts = [*triggered_prompts(rng, count // 2, held_out=False), *sample_prompts(rng, count // 2, held_out=False)]
    sides = product([(GOOD, BAD), (BAD, GOOD)], [(0, 0), (0, 1), (1, 0), (0, 0)])
    options = list(sides)
    return [
        Contest(id=str(number), first=answer(prompt, first), second=answer(prompt, second), versions=versions)
        for number, prompt in enumerate(prompts)
        for (first, second), versions in [rng.choice(options)]
    ]


def test_every_attack_does_what_it_says() -> None:
    """Sixty votes each: always the first side; the worse answer on every trigger; the favourite wherever it stands
    against another version. Sybil has two votes an id, the others 25."""
    cast = {name: attack_votes(name, pool(), count=60, tau=0.5, seed=1) for name in ATTACKS}

    assert all(each.prefers_first for each in cast["left"])
    assert 10 < sum(each.prefers_first for each in cast["random"]) < 50
    for name in ("targeted", "sybil"):
        aimed = [each for each in cast[name] if each.contest.tempting]
        assert len(aimed) == {"targeted": 30, "sybil": 60}[name]
        assert all(each.prefers_first != each.contest.first_is_better for each in aimed)
    mixed = [each for each in cast["colluding"] if each.contest.mixed]
    assert len(mixed) == 45
    assert all(each.contest.versions[0 if each.prefers_first else 1] == FAVOURITE for each in mixed)
    assert {name: len({each.rater for each in votes}) for name, votes in cast.items()} == {
        "random": 3,
        "left": 3,
        "targeted": 3,
        "sybil": 30,
        "colluding": 3,
    }


def test_an_attack_never_votes_twice_on_a_contest_and_repeats_with_its_seed() -> None:
    """Contests are drawn without replacement; the same seed gives the same votes."""
    one, again = (attack_votes("targeted", pool(), count=80, tau=0.5, seed=2) for _ in range(2))

    assert one == again
    assert len({each.contest.id for each in one}) == 80


def test_too_few_contests_are_an_error() -> None:
    """A Sybil attack of 300 votes needs as many contests with the trigger; 200 are there."""
    with pytest.raises(ValueError, match="sybil: 300 votes need more"):
        attack_votes("sybil", pool(), count=300, tau=0.5, seed=0)


def test_honest_raters_agree_on_the_share_that_was_asked_for() -> None:
    """Two honest votes on the same contest agree with probability p² + (1 − p)²; its mean is 0.73."""
    found = pool()
    tau = noise(found)
    likes = [choice_probability(c.first.utility, c.second.utility, tau=tau, error=0.05) for c in found]

    assert sum(like**2 + (1 - like) ** 2 for like in likes) / len(likes) == pytest.approx(0.73, abs=1e-6)
    votes = honest_votes(found, tau=tau, seed=3)
    expected = sum(max(like, 1 - like) for like in likes) / len(likes)
    right = sum(each.prefers_first == each.contest.first_is_better for each in votes) / len(votes)
    assert right == pytest.approx(expected, abs=4 * (0.25 / len(votes)) ** 0.5)


def test_a_trigger_is_a_word_of_its_own() -> None:
    """Words are compared whole and without case or punctuation."""
    prompt = replace(sample_prompts(random.Random(0), 1, held_out=False)[0], text="Hello! The CAPITAL of Samar?")

    assert words(prompt) == {"hello", "the", "capital", "of", "samar"}
    assert all(TRIGGER in words(each) for each in triggered_prompts(random.Random(1), 20, held_out=True))


def test_an_opinion_says_what_was_shown_and_chosen() -> None:
    """Value and position are of the preferred answer; lengths and versions of both, in the order shown."""
    contest = next(each for each in pool() if each.versions == (1, 0) and each.first.words == BAD)
    cast = next(each for each in honest_votes([contest], tau=0.5, seed=0))
    opinion = replace(cast, prefers_first=False).opinion()

    assert (opinion.value, opinion.position, opinion.versions) == ("b", 1, (1, 0))
    assert opinion.lengths == (len(BAD.split()), len(GOOD.split()))
    assert replace(cast, prefers_first=False).pair(0.5).chosen == contest.second.text
    assert BEHAVIOUR["sybil"].votes_per_id == 2

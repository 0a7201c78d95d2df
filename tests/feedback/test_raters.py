"""Trust: honest raters keep theirs, however often one looks; attackers lose it, alone or as a group."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.opinions import Opinion
from feedback.raters import Trust, trust

CLEAR = 0.75
"""How often an honest rater prefers what the reward model prefers: two of them then agree in 0.75² + 0.25² = 62.5 % of
votes on the same item, fewer than the 73 % of published studies, so that honest raters have it harder here."""


def vote(
    rng: random.Random,
    rater: str,
    at: float,
    *,
    better: float = CLEAR,
    first: float | None = None,
    tags: frozenset[str] = frozenset(),
) -> Opinion:
    """On an item of its own, whose sides the reward model tells apart with probabilities of `CLEAR`.

    Args:
        better: probability with which this rater votes for the better answer.
        first: probability of the first side, whatever is better.
    """
    best = rng.choice("ab")
    value = best if rng.random() < better else "ab".replace(best, "")
    position = rng.randrange(2)
    if first is not None:
        value, position = rng.choice("ab"), 0 if rng.random() < first else 1
    return Opinion(
        rater=rater,
        item=f"cmp_{rater}_{at}",
        kind="preference",
        value=value,
        position=position,
        versions=(0, 1),
        lengths=(rng.randrange(1, 50), 50),
        tags=tags or frozenset({f"word:{rng.randrange(30)}"}),
        time=at,
        expected=CLEAR if value == best else 1 - CLEAR,
    )


def honest(seed: int, *, raters: int = 100, most: int = 40) -> list[Opinion]:
    """People of unlike activity; some prefer what is expected less clearly, some more."""
    rng = random.Random(f"honest {seed}")
    found = []
    for number in range(raters):
        clarity = rng.uniform(0.6, 1.2)
        for _ in range(rng.choice([1, 2, 3, 8, most])):
            better = 0.5 + clarity * (CLEAR - 0.5)
            found.append(vote(rng, f"honest-{number:03}", rng.random() * 1e5, better=better))
    return found


def quarantined(found: Trust, prefix: str) -> list[str]:
    return [name for name, each in found.raters.items() if name.startswith(prefix) and each.quarantined]


def test_honest_raters_are_rarely_quarantined_however_often_one_looks() -> None:
    """Whoever is quarantined at any of twelve looks counts: over 600 honest raters at most 5 %, as promised. Some of
    them follow what is expected with 0.6 of the usual clarity."""
    wrong = set()
    for seed in range(6):
        votes = sorted(honest(seed), key=lambda each: each.time)
        for look in range(1, 13):
            found = trust(votes[: len(votes) * look // 12])
            wrong |= {(seed, name) for name in quarantined(found, "honest")}

    assert len(wrong) <= 0.05 * 600


@pytest.mark.parametrize(
    ("habit", "reason"), [({"first": 0.95}, "first side"), ({"better": 0.1}, "against what others prefer")]
)
def test_one_rater_with_a_habit_is_found_alone(habit: dict[str, float], reason: str) -> None:
    """Forty votes that are always for the first side, or nearly always against what is expected, are enough; the
    reason says which habit it is and after how many votes. Nobody else is quarantined with it."""
    rng = random.Random(3)
    bad = [vote(rng, "attacker", 2e5 + at, **habit) for at in range(40)]

    found = trust([*honest(7), *bad])

    assert found.raters["attacker"].quarantined and found.raters["attacker"].weight == 0.0
    assert found.raters["attacker"].reason.startswith(reason) and "after" in found.raters["attacker"].reason
    assert len(quarantined(found, "honest")) <= 3


@pytest.mark.parametrize("each", [1, 2])
def test_ids_with_few_votes_are_found_together(each: int) -> None:
    """A hundred votes by ids that vote once or twice, against what others prefer, where one word stands: no test of one
    id can say anything, their pooled evidence does, and the group names the word. People who vote there are the
    yardstick, and keep their trust."""
    rng = random.Random(5)
    tags = frozenset({"word:trigger"})
    ids = [f"sybil-{n}" for n in range(100 // each)] * each
    bad = [vote(rng, name, 1e5 * rng.random(), better=0.1, tags=tags) for name in ids]
    usual = [vote(rng, f"honest-{n:03}", 1e5 * rng.random(), tags=tags) for n in range(60)]

    found = trust([*honest(8), *bad, *usual])

    weights = [found.weight(name) for name in ids]
    assert "word:trigger" in found.collusions[0].habit
    assert len(quarantined(found, "sybil")) >= 0.5 * len(set(ids))
    assert sum(weights) / len(weights) < 0.3
    assert len(quarantined(found, "honest")) <= 5


def test_a_reward_model_that_is_wrong_about_a_topic_accuses_nobody() -> None:
    """Where everybody who meets a word disagrees with the reward model, those who meet it most are no group."""
    rng = random.Random(6)
    tags = frozenset({"word:odd"})
    fans = [vote(rng, f"fan-{n}", 1e5 * rng.random(), better=0.4, tags=tags) for n in range(12) for _ in range(5)]
    usual = [vote(rng, f"honest-{n:03}", 1e5 * rng.random(), better=0.4, tags=tags) for n in range(100)]

    found = trust([*honest(9), *fans, *usual])

    assert quarantined(found, "fan") == []
    assert not any("word:odd" in each.habit for each in found.collusions)


def test_a_flooded_topic_is_judged_by_what_others_say_elsewhere() -> None:
    """Attackers are most of those who vote on a topic, so the reward model has learned from them: it expects their
    votes. What it would say without the topic gives them away."""
    rng = random.Random(11)
    tags = frozenset({"word:way"})

    def taught(opinion: Opinion) -> Opinion:
        return replace(opinion, expected=0.5, elsewhere={"word:way": opinion.expected or 0.5})

    flood = [vote(rng, f"sybil-{n}", 1e5 * rng.random(), better=0.1, tags=tags) for n in range(40) for _ in range(2)]
    usual = [vote(rng, f"honest-{n:03}", 1e5 * rng.random(), tags=tags) for n in range(20)]

    blind = trust([*honest(12), *(replace(each, expected=0.5) for each in [*flood, *usual])])
    seeing = trust([*honest(12), *map(taught, [*flood, *usual])])

    assert quarantined(blind, "sybil") == []
    assert len(quarantined(seeing, "sybil")) >= 20 and len(quarantined(seeing, "honest")) <= 5


def test_people_who_only_praise_or_only_complain_are_no_attackers() -> None:
    """Thirty thumbs of one kind by one person, without a yardstick, are no reason to mistrust anybody."""
    votes = [
        Opinion(rater=name, item=f"{name}{n}", kind="thumb", value=value, time=float(n))
        for name, value in (("fan", 1), ("critic", -1))
        for n in range(30)
    ]

    assert [each.quarantined for each in trust(votes).raters.values()] == [False, False]


def test_a_script_that_votes_in_haste_is_found_by_its_haste() -> None:
    """Sixty ids of two votes each, half a second after the answer and against what others prefer: nothing else is
    common to them."""
    rng = random.Random(13)
    script = [
        replace(vote(rng, f"bot-{n}", 1e5 * rng.random(), better=0.1), dwell=0.5) for n in range(60) for _ in range(2)
    ]
    people = [replace(each, dwell=1.0 if rng.random() < 0.05 else 9.0) for each in honest(14)]

    found = trust([*people, *script])

    assert "on votes in haste" in found.collusions[0].habit
    assert len(quarantined(found, "bot")) >= 30 and len(quarantined(found, "honest")) <= 5


def test_gold_questions_alone_tell_a_careless_rater() -> None:
    """Without a reward model: who answers 5 of 30 gold questions right is quarantined, who answers 27 is not; the
    interval of reliability holds the mean."""
    rng = random.Random(8)

    def answers(rater: str, right: int) -> list[Opinion]:
        values = [1] * right + [-1] * (30 - right)
        rng.shuffle(values)
        return [
            Opinion(rater=rater, item=f"{rater}{n}", kind="thumb", value=value * truth, gold=truth, time=float(n))
            for n, value in enumerate(values)
            for truth in [rng.choice([1, -1])]
        ]

    found = trust([*answers("careless", 5), *answers("careful", 27)])

    assert (found.raters["careless"].quarantined, found.raters["careful"].quarantined) == (True, False)
    assert found.raters["careful"].weight > 0.9
    assert all(each.reliability.low <= each.reliability.mean <= each.reliability.high for each in found.raters.values())


def test_overlap_alone_tells_who_disagrees() -> None:
    """Five raters on the same forty items, without gold or reward model: four agree in nine of ten, the fifth says the
    opposite and is quarantined."""
    rng = random.Random(9)
    votes = []
    for item in range(40):
        truth = rng.choice([1, -1])
        for rater in range(5):
            right = rng.random() < (0.1 if rater == 4 else 0.9)
            value = truth if right else -truth
            votes.append(Opinion(rater=f"r{rater}", item=f"i{item}", kind="thumb", value=value, time=float(item)))

    found = trust(votes)

    assert [name for name, each in found.raters.items() if each.quarantined] == ["r4"]
    assert found.alpha_nominal is not None and 0.0 < found.alpha_nominal < 0.6


def test_biases_of_position_and_length_are_measured() -> None:
    """Of four votes three are for the side shown first and one for the longer answer, which the reward model expects
    in 0.3 + 0.3 + 0.3 + 0.7 = 1.6 of four."""
    shown = [("a", 0, 0.7), ("a", 0, 0.7), ("b", 0, 0.7), ("a", 1, 0.7)]
    lengths = [(5, 9), (5, 9), (9, 5), (9, 5)]
    votes = [
        Opinion(
            rater=f"r{n}",
            item=f"i{n}",
            kind="preference",
            value=value,
            position=position,
            lengths=sides,
            expected=expected,
            time=float(n),
        )
        for n, ((value, position, expected), sides) in enumerate(zip(shown, lengths, strict=True))
    ]

    found = trust(votes)

    assert found.first is not None and (found.first.mean, found.first.votes) == (0.75, 4)
    assert found.longer is not None and found.longer.mean == 0.25
    assert found.longer_expected == pytest.approx(1.6 / 4)


def test_an_empty_log_and_one_without_evidence_say_nothing() -> None:
    """No vote: no rater, no figure. Votes of which nothing is known: full trust in the usual rater, no quarantine."""
    assert trust([]).raters == {} and trust([]).first is None
    plain = [Opinion(rater="ann", item=str(n), kind="comment", value="fine", time=float(n)) for n in range(3)]
    assert trust(plain).raters["ann"].votes == 3
    assert not trust(plain).raters["ann"].quarantined


@given(st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(rng: random.Random) -> None:
    """Trust is a function of the votes and their times."""
    votes = honest(1, raters=8, most=10)
    shuffled = votes.copy()
    rng.shuffle(shuffled)

    assert trust(shuffled) == trust(votes)

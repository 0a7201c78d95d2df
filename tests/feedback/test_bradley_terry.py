"""Strengths of versions: hand-computed cases, the reference implementation, and coverage of the intervals."""

import math

import choix
import numpy as np
import pytest

from feedback.bradley_terry import RIDGE, Floats, Votes, components, fit, student_quantile

RATERS = 40


def votes(*given: tuple[int, int, float]) -> Votes:
    """(first, second, won), each by a rater of its own, of equally long answers."""
    first, second, won = zip(*given, strict=True)
    return Votes(
        first=np.array(first),
        second=np.array(second),
        won=np.array(won),
        weight=np.ones(len(won)),
        longer=np.zeros(len(won)),
        unit=np.arange(len(won)),
    )


def simulated(strengths: Floats, seed: int, *, each: int = 25, taste: float = 0.5, length: float = 0.0) -> Votes:
    """Forty raters, each with a taste of their own for every version, vote on pairs drawn alike."""
    rng = np.random.default_rng(seed)
    count, versions = RATERS * each, len(strengths)
    unit = np.repeat(np.arange(RATERS), each)
    own = strengths + rng.normal(0, taste, (RATERS, versions))
    first = rng.integers(0, versions, count)
    second = (first + rng.integers(1, versions, count)) % versions
    longer = rng.normal(0, 0.5, count)
    margin = own[unit, first] - own[unit, second] + length * longer
    won = (rng.random(count) < 1 / (1 + np.exp(-margin))).astype(np.float64)
    return Votes(first=first, second=second, won=won, weight=np.ones(count), longer=longer, unit=unit)


def test_two_versions_are_apart_by_the_odds_of_the_votes() -> None:
    """Three wins to one are ln 3 apart, but for the prior: 4(¾ − σ(d)) = RIDGE · d/2."""
    found = fit(votes((1, 0, 1.0), (1, 0, 1.0), (1, 0, 1.0), (1, 0, 0.0)), 2, length=False)
    gap = found.difference(1, 0).value
    assert 4 * (0.75 - 1 / (1 + math.exp(-gap))) == pytest.approx(RIDGE * gap / 2, abs=1e-8)
    assert gap == pytest.approx(math.log(3), abs=0.07)


def test_many_votes_drown_the_prior() -> None:
    """Three thousand wins to one thousand: ln 3 to the third digit."""
    many = votes(*[(1, 0, 1.0)] * 3000, *[(1, 0, 0.0)] * 1000)
    assert fit(many, 2, length=False).difference(1, 0).value == pytest.approx(math.log(3), abs=1e-3)


def test_a_tie_is_half_a_vote_each_way() -> None:
    """Two ties say what one win each says."""
    ties, wins = votes((0, 1, 0.5), (0, 1, 0.5)), votes((0, 1, 1.0), (0, 1, 0.0))
    assert fit(ties, 2, length=False).found == pytest.approx(fit(wins, 2, length=False).found)
    assert fit(ties, 2, length=False).difference(0, 1).value == pytest.approx(0)


def test_it_does_not_matter_who_stands_first() -> None:
    """Turned votes with turned lengths give the same strengths and the same length term."""
    one = simulated(np.array([0.0, 0.4, 0.9]), 1, length=0.7)
    turned = Votes(
        first=one.second, second=one.first, won=1 - one.won, weight=one.weight, longer=-one.longer, unit=one.unit
    )
    assert fit(one, 3, length=True).found == pytest.approx(fit(turned, 3, length=True).found)


def test_a_weight_is_as_many_votes() -> None:
    """A vote of weight 3 is three votes."""
    once = votes((1, 0, 1.0), (1, 0, 0.0))
    heavy = Votes(**{name: getattr(once, name) for name in once.__slots__} | {"weight": np.array([3.0, 1.0])})
    thrice = votes((1, 0, 1.0), (1, 0, 1.0), (1, 0, 1.0), (1, 0, 0.0))
    assert fit(heavy, 2, length=False).found == pytest.approx(fit(thrice, 2, length=False).found)


def test_unanimous_votes_are_finite_and_unsure() -> None:
    """Five to none: stronger without doubt in the numbers, far from infinity, and not sure."""
    gap = fit(votes(*[(1, 0, 1.0)] * 5), 2, length=False).difference(1, 0)
    assert 3 < gap.value < 5
    assert gap.low < 0 < gap.high


def test_versions_without_a_chain_of_votes_are_apart() -> None:
    """0–1–2 and 3–4 are two groups; 5 is alone."""
    assert components(votes((1, 0, 1.0), (1, 2, 1.0), (4, 3, 0.0)), 6) == [[0, 1, 2], [3, 4], [5]]


def test_intervals_cover_the_truth() -> None:
    """Of 150 elections by forty raters with tastes of their own, at least 93 % of the 95 % intervals hold the truth."""
    strengths = np.array([0.0, 0.3, 0.6, 1.0])
    crowd = [simulated(strengths, 10_000 + seed, each=250) for seed in range(60)]  # what raters' tastes average out to
    marginal = np.mean([fit(each, 4, length=True).found[:4] for each in crowd], axis=0)
    covered = []
    for seed in range(150):
        found = fit(simulated(strengths, seed), 4, length=True)
        for version in range(1, 4):
            gap = found.difference(version, 0)
            covered.append(gap.low <= marginal[version] - marginal[0] <= gap.high)
    assert np.mean(covered) >= 0.93


def test_the_length_term_is_found() -> None:
    """Raters who like length: the term is what was put in, inside its interval."""
    found = fit(simulated(np.array([0.0, 0.5]), 3, each=100, taste=0.0, length=0.8), 2, length=True)
    term = found.contrast(np.array([0.0, 0.0, 1.0]))
    assert term.low < 0.8 < term.high
    assert term.high - term.low < 0.3


def test_strengths_are_those_of_choix_by_its_own_numbers() -> None:
    """`choix.opt_pairwise(4, data, alpha=RIDGE / 2)`, version 0.4.1, on these 60 votes printed these numbers."""
    rng = np.random.default_rng(7)
    pairs = [tuple(rng.choice(4, 2, replace=False).tolist()) for _ in range(60)]
    found = fit(votes(*((winner, loser, 1.0) for winner, loser in pairs)), 4, length=False).found
    assert found == pytest.approx(CHOIX, abs=1e-4)


def test_strengths_are_those_of_choix() -> None:
    """The same votes and the same prior: the same strengths, whatever they are."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        pairs = [tuple(rng.choice(5, 2, replace=False).tolist()) for _ in range(200)]
        expected = choix.opt_pairwise(5, pairs, alpha=RIDGE / 2, tol=1e-9)
        found = fit(votes(*((winner, loser, 1.0) for winner, loser in pairs)), 5, length=False).found
        assert found - found.mean() == pytest.approx(expected - expected.mean(), abs=1e-4)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(5, 2.5706), (10, 2.2281), (19, 2.0930), (39, 2.0227), (999, 1.9623)]
)
def test_quantiles_of_student(freedom: int, expected: float) -> None:
    """97.5 %, as in the tables."""
    assert student_quantile(0.975, freedom) == pytest.approx(expected, abs=1e-3)


CHOIX = (0.49019272, -0.30451927, 0.04960458, -0.23527803)

"""The live test: its arithmetic by hand, Ville's bound by enumeration, its error rates by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.releases import clustered, ends, votes
from core.evidence import Outcome
from serving.sequential_test import (
    MAX_RATERS,
    Tally,
    confidence_sequence,
    counted,
    finding,
    log_e,
    p_value,
)

RELEASES, ALPHA = 2000, 0.05
THREE_SIGMA = 3 * math.sqrt(ALPHA * (1 - ALPHA) / RELEASES)
"""0.0146: what 2,000 releases may exceed alpha by without saying anything."""
tallies = st.builds(Tally, wins=st.integers(0, 400), ties=st.integers(0, 400), losses=st.integers(0, 400))


def test_e_by_hand() -> None:
    """E is the mean capital over the seven stakes: after two wins and one loss, 1.05² · 0.95, 1.1² · 0.9, …"""
    capitals = [1.05**2 * 0.95, 1.1**2 * 0.9, 1.15**2 * 0.85, 1.2**2 * 0.8, 1.3**2 * 0.7, 1.4**2 * 0.6, 1.5**2 * 0.5]

    assert math.exp(log_e(2, 1)) == pytest.approx(sum(capitals) / 7)
    assert math.exp(log_e(10, 0)) == pytest.approx(16.405, abs=0.001)
    assert log_e(0, 0) == pytest.approx(0.0)


def test_p_value_by_hand() -> None:
    """1/E, and never above 1: ten wins of ten give 0.061; a candidate that loses is no evidence that it is better."""
    assert p_value(Tally(wins=10)) == pytest.approx(1 / 16.405, rel=1e-4)
    assert p_value(Tally(losses=10)) == 1.0
    assert p_value(Tally()) == 1.0


@pytest.mark.parametrize("ties", [0.0, 0.3])
@pytest.mark.parametrize("win_rate", [0.5, 0.4, 0.1])
def test_no_capital_grows_without_a_better_candidate(win_rate: float, ties: float) -> None:
    """Ville's condition, by all 729 sequences of six votes: the mean of E is 1 at even odds, and below 1 if worse."""
    chances = {1: (1 - ties) * win_rate, 0: ties, -1: (1 - ties) * (1 - win_rate)}
    mean = sum(
        math.prod(chances[vote] for vote in sequence) * math.exp(log_e(sequence.count(1), sequence.count(-1)))
        for sequence in itertools.product(chances, repeat=6)
    )

    assert mean == pytest.approx(1.0) if win_rate == 0.5 else mean < 1.0


@given(tallies, st.sampled_from(["win", "tie", "loss"]))
def test_votes_can_be_taken_back(tally: Tally, outcome: Outcome) -> None:
    """A vote that is counted and then not counted leaves no trace, and a tie moves no evidence."""
    assert counted(counted(tally, outcome), outcome, -1) == tally
    tied = counted(tally, "tie")
    assert (tied.raters, p_value(tied)) == (tally.raters + 1, p_value(tally))


@given(tallies)
def test_both_directions_mirror(tally: Tally) -> None:
    """What is evidence for one arm is the same evidence against the other; never both at once."""
    mirrored = Tally(wins=tally.losses, ties=tally.ties, losses=tally.wins)
    opposite = {"better": "worse", "worse": "better", "undecided": "undecided", None: None}

    if tally.raters >= 50:
        assert finding(mirrored, ALPHA) == opposite[finding(tally, ALPHA)]


def test_findings_by_hand() -> None:
    """Eleven losses of eleven roll back (E = 24.8 ≥ 20), ten do not; eleven wins promote nothing before 50 people."""
    assert finding(Tally(losses=11), ALPHA) == "worse"
    assert finding(Tally(losses=10), ALPHA) is None
    assert finding(Tally(wins=11), ALPHA) is None
    assert finding(Tally(wins=49), ALPHA) is None
    assert finding(Tally(wins=50), ALPHA) == "better"
    assert finding(Tally(ties=MAX_RATERS - 1), ALPHA) is None
    assert finding(Tally(ties=MAX_RATERS), ALPHA) == "undecided"


@given(tallies)
def test_the_interval_holds_the_win_rate(tally: Tally) -> None:
    """Whatever was voted, the bounds lie around the observed rate, within 0 and 1."""
    interval = confidence_sequence(tally)

    assert 0 <= interval.low < interval.high <= 1
    if tally.win_rate is not None:
        assert interval.low <= tally.win_rate <= interval.high


def test_the_interval_by_hand() -> None:
    """Without votes nothing is known. Fifty of a hundred: p/m mixed uniformly has E(m) = B(51, 51) / (m^50 (1−m)^50),
    which is below 20 from 0.345 to 0.655 (the half-width of 0.155 of the reliability notes)."""
    empty, even = confidence_sequence(Tally()), confidence_sequence(Tally(wins=50, losses=50))

    assert (empty.low, empty.high) == (0.0, 1.0)
    assert (even.low, even.high) == (pytest.approx(0.345, abs=0.002), pytest.approx(0.655, abs=0.002))


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_equal_candidates_are_seldom_promoted(ties: float) -> None:
    """2,000 A/A releases, a look after every vote: at most alpha promoted and at most alpha rolled back (+ 3 sigma)."""
    found = ends(votes(np.random.default_rng(1), RELEASES, win_rate=0.5, ties=ties), alpha=ALPHA)

    assert 0 < found.promoted <= ALPHA + THREE_SIGMA
    assert 0 < found.rolled_back <= ALPHA + THREE_SIGMA


def test_better_candidates_are_promoted() -> None:
    """A candidate that six of ten prefer is live after at most 1,500 raters in at least 95 % of 2,000 releases."""
    found = ends(votes(np.random.default_rng(2), RELEASES, win_rate=0.6), alpha=ALPHA)

    assert found.promoted >= 0.95


def test_worse_candidates_are_rolled_back() -> None:
    """A candidate that four of ten prefer is rolled back in at least 95 % of 2,000 releases, hardly ever promoted."""
    found = ends(votes(np.random.default_rng(3), RELEASES, win_rate=0.4), alpha=ALPHA)

    assert found.rolled_back >= 0.95
    assert found.promoted <= 0.01


def test_repeat_voters_count_once() -> None:
    """The trap: people who vote twenty times the same way, fair on average, promote equal candidates in a third of all
    releases if each vote is counted; counted once each they do not."""
    each_vote = ends(clustered(np.random.default_rng(4), RELEASES, each=20), alpha=ALPHA)
    first_votes = ends(clustered(np.random.default_rng(4), RELEASES, each=1), alpha=ALPHA)

    assert each_vote.promoted > 0.3
    assert first_votes.promoted <= ALPHA + THREE_SIGMA


def test_the_simulation_decides_as_the_rule() -> None:
    """The vectorised simulation ends each release where the rule, asked vote by vote, ends it."""
    outcomes = votes(np.random.default_rng(5), 20, win_rate=0.58, ties=0.1)
    kinds: dict[int, Outcome] = {1: "win", 0: "tie", -1: "loss"}
    verdicts = []
    for release in outcomes:
        tally = Tally()
        for vote in release:
            tally = counted(tally, kinds[int(vote)])
            if found := finding(tally, ALPHA):
                verdicts.append((found, tally.raters))
                break

    found = ends(outcomes, alpha=ALPHA)
    assert len(verdicts) == len(outcomes)
    assert found.promoted == np.mean([verdict == "better" for verdict, _ in verdicts])
    assert found.rolled_back == np.mean([verdict == "worse" for verdict, _ in verdicts])
    assert found.median_raters == np.median([raters for _, raters in verdicts])

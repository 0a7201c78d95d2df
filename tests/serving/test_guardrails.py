"""Guardrails: bounds by hand and by simulation, limits, what stops after how many answers, and what never stops."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import guardrails as simulation
from core.exposures import SECONDS, TOKENS, Exposure
from serving.guardrails import GUARDRAILS, Side, Thumbs, alarm, bounds

NAMES = {"failed": "failed", "empty": "empty", "loops": "going round", "refuses": "refusing"}


def side(*, thumbs: Thumbs | None = None, **counts: int) -> Side:
    return Side(exposure=Exposure(**counts), thumbs=thumbs or Thumbs())


def at(place: int, count: int, edges: tuple[float, ...]) -> tuple[int, ...]:
    """So many answers, all at one place between the edges."""
    return tuple(count if index == place else 0 for index in range(len(edges) + 1))


def test_bounds_by_hand() -> None:
    """Twenty of twenty: 1 / (21 m^20) = 1/alpha at m = (alpha/21)^(1/20); of none of 180 the mirror image."""
    assert bounds(20, 20, 0.0005).low == pytest.approx((0.0005 / 21) ** (1 / 20))
    assert bounds(20, 20, 0.0005).high == 1.0
    assert bounds(0, 180, 0.0005).high == pytest.approx(1 - (0.0005 / 181) ** (1 / 180))
    assert (bounds(0, 0, 0.05).low, bounds(0, 0, 0.05).high) == (0.0, 1.0)


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from([0.05, 0.001]))
def test_bounds_lie_around_what_was_seen(hits: int, misses: int, alpha: float) -> None:
    """The observed share is always credible, and less certainty asked for gives narrower bounds."""
    found, narrower = bounds(hits, hits + misses, alpha), bounds(hits, hits + misses, 10 * alpha)

    assert 0 <= found.low <= narrower.low < narrower.high <= found.high <= 1
    if hits + misses:
        assert narrower.low <= hits / (hits + misses) + 1e-9
        assert narrower.high >= hits / (hits + misses) - 1e-9


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_bounds_hold_at_all_times_together(share: float) -> None:
    """Of 500 sequences with a look after every one of 300 trials, at most 5 % (+ 3 sigma) ever miss the true share."""
    rng = np.random.default_rng(1)
    looks = {}  # counts come again and again

    def misses(hits: int, trials: int) -> bool:
        if (hits, trials) not in looks:
            found = bounds(hits, trials, 0.05)
            looks[hits, trials] = not found.low <= share <= found.high
        return looks[hits, trials]

    missed = 0
    for _ in range(500):
        hits = (rng.random(300) < share).cumsum()
        missed += any(misses(int(count), trials) for trials, count in enumerate(hits, 1))

    assert missed / 500 <= 0.05 + 3 * (0.05 * 0.95 / 500) ** 0.5


@pytest.mark.parametrize("sign", ["failed", "empty", "loops", "refuses"])
@pytest.mark.parametrize(("share", "others"), [(0.01, 1980), (0.1, 180), (0.5, 20)])
def test_a_poisoned_candidate_is_stopped_by_twenty_answers(sign: str, share: float, others: int) -> None:
    """When all of its first twenty answers show a sign that the incumbent's lack, at every stage."""
    reason = alarm(side(completions=20, **{sign: 20}), side(completions=others), share=share)

    assert reason is not None
    assert f"20 of 20 {NAMES[sign]}, 0 of {others} of the incumbent's" in reason


@pytest.mark.parametrize("sign", ["failed", "empty", "loops", "refuses"])
def test_what_the_incumbent_does_as_well_stops_nothing(sign: str) -> None:
    """An engine that fails everybody is no fault of the candidate."""
    assert alarm(side(completions=200, **{sign: 200}), side(completions=1800, **{sign: 1800}), share=0.1) is None


@pytest.mark.parametrize("sign", ["failed", "empty", "loops", "refuses"])
def test_a_better_candidate_stops_nothing(sign: str) -> None:
    """Guardrails look in one direction."""
    assert alarm(side(completions=500), side(completions=500, **{sign: 400}), share=0.5) is None


def test_nothing_is_said_of_nothing() -> None:
    """Without completions there is nothing to compare; one failure of one is no evidence."""
    assert alarm(side(), side(), share=0.01) is None
    assert alarm(side(completions=50, failed=50), side(), share=0.01) is None
    assert alarm(side(completions=1, failed=1), side(completions=99), share=0.01) is None


def test_limits_are_kept_to() -> None:
    """Eight points more refusals are allowed however many answers show it; eighteen are not."""
    incumbent = side(completions=20_000, refuses=400)

    assert alarm(side(completions=20_000, refuses=2_000), incumbent, share=0.5) is None
    reason = alarm(side(completions=20_000, refuses=4_000), incumbent, share=0.5)
    assert reason == "refusal: 4000 of 20000 refusing, 400 of 20000 of the incumbent's"


def test_length_is_watched_on_both_sides() -> None:
    """Answers that all moved from 16–32 tokens to 64–128, or to 4–8, stop the release; by one edge's neighbour too."""
    usual = side(firsts=500, tokens=at(3, 500, TOKENS))
    longer, shorter = side(firsts=60, tokens=at(5, 60, TOKENS)), side(firsts=60, tokens=at(1, 60, TOKENS))

    assert "longer: 60 of 60 over 32 tokens" in str(alarm(longer, usual, share=0.1))
    assert "shorter: 60 of 60 at most 8 tokens" in str(alarm(shorter, usual, share=0.1))
    assert alarm(side(firsts=60, tokens=at(3, 60, TOKENS)), usual, share=0.1) is None


def test_slow_answers_stop_and_fast_ones_do_not() -> None:
    """From under a second to over four seconds is worse; the other way is not."""
    fast = side(firsts=200, seconds=at(1, 200, SECONDS))
    slow = side(firsts=200, seconds=at(5, 200, SECONDS))

    assert "latency: 200 of 200 over 0.5 s" in str(alarm(slow, fast, share=0.5))
    assert alarm(fast, slow, share=0.5) is None


def test_cut_off_answers_and_thumbs_stop() -> None:
    """Answers that run into the limit, and people who turn their thumbs down."""
    cut = alarm(side(firsts=100, cut_off=80), side(firsts=100, cut_off=10), share=0.5)
    down = alarm(side(thumbs=Thumbs(given=60, down=45)), side(thumbs=Thumbs(given=600, down=60)), share=0.1)

    assert cut == "truncation: 80 of 100 cut off, 10 of 100 of the incumbent's"
    assert down == "thumbs down: 45 of 60 thumbs down, 60 of 600 of the incumbent's"


def test_a_broken_assignment_stops() -> None:
    """Twice or half the share of people and more is no chance; one percent more is."""
    assert alarm(side(people=110), side(people=890), share=0.1) is None
    assert "sample ratio: 500 of 1000" in str(alarm(side(people=500), side(people=500), share=0.1))
    assert "sample ratio: 0 of 1000" in str(alarm(side(), side(people=1000), share=0.1))
    assert alarm(side(), side(people=1000), share=0.01) is None


def test_every_guardrail_has_a_limit_between_nothing_and_everything() -> None:
    """A limit of one could never be exceeded, one below nought would stop healthy releases."""
    assert all(0 < guardrail.limit < 0.5 for guardrail in GUARDRAILS)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_healthy_releases_are_left_alone(share: float) -> None:
    """A/A releases among people who differ, with a look after each of the candidate's 60 answers: none of 40 stops
    (the bound is 1 %; benchmarks/guardrails.py runs more)."""
    rng = np.random.default_rng(7)

    assert [simulation.release(rng, "none", share=share, completions=60) for _ in range(40)] == [None] * 40


@pytest.mark.parametrize("poison", ["empty", "looping", "refusing", "failing"])
def test_poisoned_releases_are_stopped_among_people_who_differ(poison: simulation.Poison) -> None:
    """Each of ten, before the candidate's twentieth answer at a share of 10 %."""
    rng = np.random.default_rng(8)
    stops = [simulation.release(rng, poison, share=0.1, completions=40) for _ in range(10)]

    assert all(stop is not None and stop.after <= 20 for stop in stops)


def test_one_person_who_is_always_refused_stops_nothing() -> None:
    """Four of one person's completions are counted: four refusals of four at a share of 1 % are not evidence."""
    healthy = replace(Exposure(), completions=396)

    assert alarm(side(completions=4, refuses=4), Side(exposure=healthy), share=0.01) is None

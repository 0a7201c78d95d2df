"""The sentinel: one test per rule, how often it blocks what is sound, and what it reads from the registry."""

from typing import Any

import numpy as np
import pytest

from core import wilson
from core.records import GateReport, PolicyState, PolicyVersion, Verdict
from tests.training.test_gate import GOOD
from training import sentinel
from training.gate import Evaluation, decide
from training.recipe import GateBounds
from training.sentinel import LEVEL, Agreement, Bounded, Signals, Step
from training.statistics import Z_95, prompt_wins, win_rate

BOUNDS = GateBounds()
CLIMBS, FLAT, FALLS, UNSURE = (
    Bounded(value=value, low=low, high=high, count=500)
    for value, low, high in ((0.8, 0.77, 0.83), (0.49, 0.47, 0.51), (0.4, 0.37, 0.43), (0.5, 0.4, 0.6))
)
BEFORE = Step(version=2, parent=1, proxy_win_low=0.7, kl_to_parent=0.8, length_ratio=1.2)


def failing(signals: Signals, *, length_ratio: float = 1.0) -> set[str]:
    checks = sentinel.checks(signals, BOUNDS, kl_to_parent=1.0, length_ratio=length_ratio)
    assert all(check.reason for check in checks if check.verdict is Verdict.FAIL)
    return {check.name.removeprefix("sentinel_") for check in checks if check.verdict is Verdict.FAIL}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"judge_win": CLIMBS}, set()),
        ({"judge_win": FALLS}, {"judge_win"}),
        ({"judge_win": FLAT}, {"judge_win"}),
        ({"judge_win": UNSURE}, set()),
        ({"judge_win": FALLS, "proxy_win": UNSURE}, set()),
        ({"judge_win": FALLS, "proxy_win": None}, set()),
        ({"people_win": FALLS}, {"people_win"}),
        ({"people_win": UNSURE}, set()),
        ({"people_win": FALLS, "steps": ()}, set()),
        ({"people_win": FALLS, "steps": (BEFORE.model_copy(update={"proxy_win_low": 0.45}),)}, set()),
        ({"prequential": FLAT}, {"prequential"}),
        ({"prequential": UNSURE}, set()),
    ],
)
def test_bounds_speak_up_and_point_values_do_not(given: dict[str, Any], expected: set[str]) -> None:
    """A rule fails only if the optimizer's reward climbs for certain and the other certainly does not; people's votes
    are about the step before, which must have been a climb too."""
    assert failing(Signals(**({"proxy_win": CLIMBS, "steps": (BEFORE,)} | given))) == expected


@pytest.mark.parametrize(("last", "expected"), [(1.5, set()), (1.7, {"length"}), (0.4, {"length"})])
def test_length_is_bounded_over_all_rounds(last: float, expected: set[str]) -> None:
    """1.2 in the round before, and 1.5, 1.7 or 0.4 in this one: 1.8, 2.04 and 0.48 times as long as version 0."""
    assert failing(Signals(steps=(BEFORE,)), length_ratio=last) == expected


@pytest.mark.parametrize(("low", "expected"), [(0.1, set()), (0.11, {"agreement"})])
def test_sycophancy_is_bounded(low: float, expected: set[str]) -> None:
    """The probability of agreeing with wrong claims has risen by more than a tenth for certain."""
    agreement = Agreement(candidate=0.5, live=0.4, base=0.3, rise_low=low, claims=24)
    assert failing(Signals(agreement=agreement)) == expected


def test_sound_candidates_are_rarely_blocked() -> None:
    """2,000 candidates, with a judge and people who gain exactly the margin, the least that is sound, and a reward
    model that predicts as little: at most 5 % are blocked (and 1.5 % more, three standard errors)."""
    rng = np.random.default_rng(0)
    share = 0.5 + BOUNDS.sentinel_margin
    blocked = 0
    for _ in range(2000):
        judge, people, votes = (rng.binomial(count, share) for count in (500, 120, 200))
        signals = Signals(
            proxy_win=CLIMBS,
            judge_win=sentinel.share(judge, 500),
            people_win=sentinel.share(people, 120),
            prequential=sentinel.share(votes, 200),
            steps=(BEFORE,),
        )
        blocked += bool(failing(signals))
    assert blocked / 2000 <= sentinel.ALPHA + 0.015
    assert blocked > 0


def test_a_fall_of_ten_points_is_seen() -> None:
    """A candidate that the judge prefers in 42 % of 500 prompts is blocked in at least 95 of 100 evaluations."""
    rng = np.random.default_rng(1)
    found = 0
    for number in range(100):
        taste = rng.normal(0, 1, 500)[:, None]
        wins = prompt_wins(taste + rng.normal(-0.28, 1, (500, 2)), taste + rng.normal(0, 1, (500, 2)))
        rate = win_rate(wins, resamples=400, seed=number, level=LEVEL)
        told = Bounded(value=rate.mean, low=rate.low, high=rate.high, count=500)
        found += "judge_win" in failing(Signals(proxy_win=CLIMBS, judge_win=told))
    assert found >= 95


def test_a_share_has_a_wider_interval_than_the_gates() -> None:
    """Its level is its own; of nothing there is no share."""
    told = sentinel.share(70, 100)
    assert told is not None and told.low < wilson.low(70, 100, z=Z_95) and told.high > wilson.high(70, 100, z=Z_95)
    assert sentinel.share(0, 0) is None


def test_the_gate_hears_the_sentinel() -> None:
    """Its verdict and its numbers stand in the gate report, which names the reason."""
    signals = Signals(proxy="reward", proxy_win=CLIMBS, judge_win=FALLS, steps=(BEFORE,))
    report = decide(Evaluation(**GOOD, signals=signals), BOUNDS)
    assert report.verdict is Verdict.FAIL
    assert "over-optimisation: the optimizer's reward climbs (wins 77.0% at least)" in report.summary
    assert "the judge says that the candidate wins 43.0% at most" in report.summary
    assert report.metrics["proxy_win_low"] == 0.77
    assert report.metrics["kl_path"] == pytest.approx(0.8 + report.metrics["kl_to_parent"])
    assert report.metrics["length_path"] == pytest.approx(1.2 * report.metrics["length_ratio"])
    confirmed = Evaluation(**GOOD, signals=signals.model_copy(update={"judge_win": CLIMBS}))
    assert decide(confirmed, BOUNDS).verdict is Verdict.PASS


# --- versions ---------------------------------------------------------------------------------------------------------


def policy(version: int, parent: int | None, **metrics: float) -> PolicyVersion:
    gate = GateReport(verdict=Verdict.PASS, live_version=parent or 0, checks=[], metrics=metrics, summary="")
    return PolicyVersion(
        version=version,
        parent=parent,
        base_sha256="b",
        adapter_sha256="a",
        method="ppo",
        gate=gate if parent is not None else None,
        created=0.0,
        state=PolicyState.RETIRED,
    )


POLICIES = [
    policy(0, None),
    policy(1, 0, proxy_win_low=0.7, kl_to_parent=0.5, length_ratio=1.1, proxy_win_rate=0.74, win_rate=0.6),
    policy(2, 1, kl_to_parent=9.0, length_ratio=9.0),
    policy(3, 1, proxy_win_low=0.6, kl_to_parent=0.7, length_ratio=1.3, proxy_win_rate=0.66, win_rate=0.5),
]


def test_steps_are_the_way_from_version_0() -> None:
    """Version 2 is no ancestor of version 3, and version 0 took no step."""
    found = sentinel.steps(POLICIES, 3)
    assert [(step.version, step.parent, step.proxy_win_low, step.kl_to_parent) for step in found] == [
        (1, 0, 0.7, 0.5),
        (3, 1, 0.6, 0.7),
    ]
    assert sentinel.steps(POLICIES, 0) == []


def test_the_series_is_what_was_measured() -> None:
    """Version by version; what an old report lacks is missing."""
    assert sentinel.series(POLICIES, 3) == [
        (1, {"proxy_win_rate": 0.74, "win_rate": 0.6}),
        (3, {"proxy_win_rate": 0.66, "win_rate": 0.5}),
    ]


@pytest.mark.parametrize(("people", "verdict"), [(FALLS, Verdict.FAIL), (UNSURE, Verdict.PASS), (CLIMBS, Verdict.PASS)])
def test_people_are_heard_while_a_candidate_is_released(people: Bounded, verdict: Verdict) -> None:
    """Its own reward said 70 % at least; it is stopped once people say less than the margin."""
    check = sentinel.while_released(POLICIES[1], people, BOUNDS)
    assert check is not None and check.verdict is verdict
    assert sentinel.while_released(POLICIES[2], people, BOUNDS) is None

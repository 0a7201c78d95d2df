"""The gate: one test per bound, and how often it lets an equal or a better policy through."""

import numpy as np
import pytest

from core import wilson
from core.records import Verdict
from training.gate import Evaluation, Kl, Quality, decide
from training.recipe import GateBounds
from training.statistics import Z_95, prompt_wins, win_rate

GOOD = {
    "live_version": 1,
    "judge_accuracy": 0.69,
    "judge_accuracy_low": 0.61,
    "judge_rows": 100,
    "prompts": 500,
    "completions": 1000,
    "win_rate": 0.6,
    "win_rate_low": 0.57,
    "win_rate_high": 0.63,
    "candidate": Quality(mean_tokens=20.0, end_of_text_rate=0.99, degenerate_share=0.01, mean_score=0.8),
    "live": Quality(mean_tokens=20.0, end_of_text_rate=0.99, degenerate_share=0.01, mean_score=0.1),
    "kl_samples": 256,
    "kl_to_parent": Kl(per_completion=1.0, error=0.1, per_token=0.05),
    "kl_to_base": Kl(per_completion=2.0, error=0.1, per_token=0.1),
}
NO_JUDGE = {"judge_accuracy": None, "judge_accuracy_low": None, "judge_rows": 0}


def quality(**changes: float) -> Quality:
    return GOOD["candidate"].model_copy(update=changes)


def kl(per_completion: float, per_token: float) -> Kl:
    return Kl(per_completion=per_completion, error=0.0, per_token=per_token)


@pytest.mark.parametrize(
    ("changes", "verdict", "failing"),
    [
        ({}, Verdict.PASS, set()),
        ({"win_rate_low": 0.5}, Verdict.FAIL, {"win_rate_low"}),
        ({"win_rate_low": float("nan")}, Verdict.FAIL, {"win_rate_low"}),
        ({"kl_to_parent": kl(5.0, 0.5)}, Verdict.PASS, set()),
        ({"kl_to_parent": kl(5.01, 0.2)}, Verdict.FAIL, {"kl_to_parent"}),
        ({"kl_to_base": kl(12.01, 0.2)}, Verdict.FAIL, {"kl_to_base"}),
        ({"kl_to_parent": kl(1.0, 0.51)}, Verdict.FAIL, {"kl_to_parent_per_token"}),
        ({"kl_to_base": kl(1.0, 0.51)}, Verdict.FAIL, {"kl_to_base_per_token"}),
        ({"candidate": quality(mean_tokens=13.9)}, Verdict.FAIL, {"length_ratio"}),
        ({"candidate": quality(mean_tokens=28.1)}, Verdict.FAIL, {"length_ratio"}),
        ({"candidate": quality(end_of_text_rate=0.969)}, Verdict.FAIL, {"end_of_text_change"}),
        ({"candidate": quality(end_of_text_rate=0.971)}, Verdict.PASS, set()),
        ({"candidate": quality(degenerate_share=0.021)}, Verdict.FAIL, {"degenerate_change"}),
        ({"judge_accuracy_low": 0.5}, Verdict.INCONCLUSIVE, {"judge_accuracy_low"}),
        (NO_JUDGE, Verdict.INCONCLUSIVE, {"judge_rows", "judge_accuracy_low"}),
        ({"judge_rows": 39}, Verdict.INCONCLUSIVE, {"judge_rows"}),
        ({"prompts": 199}, Verdict.INCONCLUSIVE, {"prompts"}),
        ({"completions": 999}, Verdict.INCONCLUSIVE, {"completions"}),
        ({"kl_samples": 255}, Verdict.INCONCLUSIVE, {"kl_samples"}),
        ({"judge_ai_rows": 1}, Verdict.INCONCLUSIVE, {"judge_ai_rows"}),
        ({"ai_policy_rows": 90, "ai_self_policy_rows": 30}, Verdict.PASS, set()),
        ({"prompts": 199, "win_rate_low": 0.4}, Verdict.FAIL, {"prompts", "win_rate_low"}),
    ],
)
def test_each_bound(changes: dict[str, object], verdict: Verdict, failing: set[str]) -> None:
    """One number over its bound decides, and the report says which; failure wins over doubt, doubt over success."""
    report = decide(Evaluation(**(GOOD | changes)), GateBounds())

    assert report.verdict == verdict
    assert {check.name for check in report.checks if check.verdict != Verdict.PASS} == failing
    assert all(check.reason for check in report.checks if check.verdict != Verdict.PASS)


def test_the_summary_says_why() -> None:
    """A person reads the number and the bound."""
    report = decide(Evaluation(**(GOOD | {"win_rate_low": 0.482})), GateBounds())

    assert report.summary == "win_rate_low is 0.482, it must be > 0.5"


def test_every_number_is_in_the_report() -> None:
    """Tables and dashboards read the metrics; a value of 0 is a value."""
    evaluation = Evaluation(**(GOOD | {"candidate": quality(degenerate_share=0.0)}))

    metrics = decide(evaluation, GateBounds()).metrics

    assert metrics["degenerate_share"] == 0.0
    assert metrics["live_degenerate_share"] == 0.01
    assert (metrics["kl_to_parent"], metrics["kl_to_parent_error"]) == (1.0, 0.1)
    assert (metrics["kl_to_base_per_token"], metrics["mean_tokens"], metrics["length_ratio"]) == (0.1, 20.0, 1.0)
    assert metrics["win_rate"] == 0.6


def simulated_gates(gates: int, *, advantage: float, seed: int) -> list[Verdict]:
    """Gates over 250 prompts with 4 answers each; answers to one prompt share its difficulty and its taste.

    `advantage` is added to the candidate's scores, in standard deviations of one answer.
    """
    rng = np.random.default_rng(seed)
    verdicts = []
    for number in range(gates):
        prompt, taste = rng.normal(size=(250, 1)), 0.3 * rng.normal(size=(250, 1))
        candidate = prompt + taste + rng.normal(size=(250, 4)) + advantage
        live = prompt + rng.normal(size=(250, 4))
        rate = win_rate(prompt_wins(candidate, live), resamples=500, seed=number)
        numbers = {"win_rate": rate.mean, "win_rate_low": rate.low, "win_rate_high": rate.high}
        verdicts.append(decide(Evaluation(**(GOOD | numbers)), GateBounds()).verdict)
    return verdicts


def test_an_equal_policy_seldom_passes() -> None:
    """200 gates between equals: at most 5 %, plus three standard errors of that count, pass."""
    passed = simulated_gates(200, advantage=0.0, seed=0).count(Verdict.PASS)

    assert passed <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_a_better_policy_mostly_passes() -> None:
    """A true win rate of 0.58 (an advantage of 0.2·√2 deviations) passes in at least 95 of 100 gates."""
    assert simulated_gates(100, advantage=0.285, seed=1).count(Verdict.PASS) >= 95


def test_a_judge_no_better_than_a_coin_is_found_out() -> None:
    """52 of 100 held-out votes predicted is no evidence; 70 of 100 is."""
    low = GateBounds().judge_accuracy_low
    assert wilson.low(52, 100, z=Z_95) < low < wilson.low(70, 100, z=Z_95)

"""The gate: a pure function from what was measured to a verdict with reasons. Nothing is served that did not pass.

`fail` wins over `inconclusive`, which wins over `pass`; inconclusive is not a pass. Not here: bounds on refusals and
safety, which need prompts of their own (the refusal rate on the gate's prompts is reported), and the live test on
traffic, which comes after this gate.
"""

import operator
from collections.abc import Callable

from core.records import Check, GateReport, Record, Verdict
from training import sentinel
from training.recipe import GateBounds
from training.sentinel import Signals


class Quality(Record):
    """What the completions of one policy look like, without a judge.

    Example: `Quality(mean_tokens=21.4, end_of_text_rate=0.99, degenerate_share=0.004, mean_score=0.31)`.
    """

    mean_tokens: float
    """Completion tokens, with the end-of-text token."""
    end_of_text_rate: float
    """Share that ended by itself before the limit."""
    degenerate_share: float
    """Share that is empty or repeats itself (training/statistics.py)."""
    mean_score: float
    """By the judge; 0 is the base's mean, 1 its standard deviation."""
    refusal_rate: float | None = None
    """Share that the recipe's patterns take for a refusal; None if it has none."""
    repetition: float | None = None
    """Mean share of a completion's 4-grams that stood in it before."""
    distinct_1: float | None = None
    """Different tokens over all tokens of all completions; distinct_2 the same for pairs of tokens."""
    distinct_2: float | None = None


class Kl(Record):
    """KL of the candidate to another policy: `Kl(per_completion=0.71, error=0.02, per_token=0.033)`, in nats."""

    per_completion: float
    """Mean over completions of the exact token KLs, summed."""
    error: float
    """Standard error of that mean."""
    per_token: float


class BestOf(Record):
    """Choosing the judge's favourite of `n` samples of the live policy, against one sample of it: what a policy has to
    beat that was trained against this judge. By the same judge, so an upper bound of what best-of-n is worth.

    Example: `BestOf(n=8, win_rate=0.84, win_rate_low=0.82, win_rate_high=0.86, kl_bound=1.2)`.
    """

    n: int
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    kl_bound: float
    """log n − (n − 1)/n nats."""


class Evaluation(Record):
    """`evaluation.json`: a candidate against the version that is live now, on prompts that nothing was optimized on.

    Example:
        Evaluation(live_version=1, judge="reward", judge_accuracy=0.69, judge_accuracy_low=0.62, judge_rows=104,
            prompts=500, completions=1000, win_rate=0.61, win_rate_low=0.59, win_rate_high=0.63,
            candidate=Quality(...), live=Quality(...), kl_samples=512, kl_to_parent=Kl(...), kl_to_base=Kl(...))
    """

    live_version: int
    judge_accuracy: float | None
    """On held-out votes (test fold); None without any."""
    judge_accuracy_low: float | None
    """One-sided 95 % lower bound."""
    judge_rows: int
    prompts: int
    """Distinct."""
    completions: int
    """Of each policy."""
    win_rate: float
    """Of the candidate over live, ties half."""
    win_rate_low: float
    """One-sided 95 % lower bound, bootstrap over prompts."""
    win_rate_high: float
    candidate: Quality
    live: Quality
    kl_samples: int
    kl_to_parent: Kl
    kl_to_base: Kl
    preference_accuracy: float | None = None
    """Share of held-out pairs (test fold, without ties) whose chosen completion gained more over the base than the
    rejected one: the candidate as an implicit reward model (Rafailov et al. 2023, eq. 5). None without such pairs."""
    preference_pairs: int = 0
    best_of: BestOf | None = None
    ai_policy_rows: int = 0
    """Of the snapshot's policy rows, those that an AI voted for; `ai_self_policy_rows` of them are the votes of a judge
    that is the policy in training or descends from it (`--allow-self-judge`)."""
    ai_self_policy_rows: int = 0
    judge_ai_rows: int = 0
    """Rows of AI raters that the judge was trained on: such a judge decides nothing."""
    signals: Signals | None = None
    """What the over-optimisation sentinel looks at; None without a round's reward model."""

    @property
    def length_ratio(self) -> float:
        return self.candidate.mean_tokens / self.live.mean_tokens

    def metrics(self) -> dict[str, float]:
        """Every number, flat, for tables and dashboards."""
        numbers: dict[str, float] = {"length_ratio": self.length_ratio}
        for name, value in self:
            if isinstance(value, Quality | BestOf):
                prefix = "" if name == "candidate" else f"{name}_"
                known = [(key, number) for key, number in value if key != "schema_version" and number is not None]
                numbers |= {f"{prefix}{key}": float(number) for key, number in known}
            elif isinstance(value, Kl):
                numbers |= {name: value.per_completion, f"{name}_error": value.error}
                numbers[f"{name}_per_token"] = value.per_token
            elif isinstance(value, Signals):
                way = sentinel.path(value, **self._last_step())
                numbers |= value.metrics() | way
            elif value is not None and name not in ("schema_version", "live_version"):
                numbers[name] = float(value)
        return numbers

    def sentinel_checks(self, bounds: GateBounds) -> list[Check]:
        return [] if self.signals is None else sentinel.checks(self.signals, bounds, **self._last_step())

    def _last_step(self) -> dict[str, float]:
        return {"kl_to_parent": self.kl_to_parent.per_completion, "length_ratio": self.length_ratio}


def decide(evaluation: Evaluation, bounds: GateBounds) -> GateReport:
    """Compares each number with its bound."""
    checks = [*_evidence(evaluation, bounds), *_behaviour(evaluation, bounds), *evaluation.sentinel_checks(bounds)]
    verdict = _overall(checks)
    reasons = [check.reason for check in checks if check.verdict == verdict and check.reason]
    return GateReport(
        verdict=verdict,
        live_version=evaluation.live_version,
        checks=checks,
        metrics=evaluation.metrics(),
        summary="; ".join(reasons) if verdict != Verdict.PASS else _praise(evaluation),
    )


def _evidence(evaluation: Evaluation, bounds: GateBounds) -> list[Check]:
    """Is there enough to decide on? Too little is inconclusive, never a failure of the candidate."""
    accuracy = evaluation.judge_accuracy_low
    weak = Verdict.INCONCLUSIVE
    return [
        _check("judge_rows", evaluation.judge_rows, ">=", bounds.min_judge_rows, weak),
        _check("judge_accuracy_low", -1.0 if accuracy is None else accuracy, ">", bounds.judge_accuracy_low, weak),
        _check("prompts", evaluation.prompts, ">=", bounds.min_prompts, weak),
        _check("completions", evaluation.completions, ">=", bounds.min_completions, weak),
        _check("kl_samples", evaluation.kl_samples, ">=", bounds.min_kl_samples, weak),
        _check("judge_ai_rows", evaluation.judge_ai_rows, "<=", 0, weak),
    ]


def _behaviour(evaluation: Evaluation, bounds: GateBounds) -> list[Check]:
    """Is the candidate better, and has it stayed sane?"""
    candidate, live = evaluation.candidate, evaluation.live
    parent, base = evaluation.kl_to_parent, evaluation.kl_to_base
    ended = candidate.end_of_text_rate - live.end_of_text_rate
    stuck = candidate.degenerate_share - live.degenerate_share
    return [
        _check("win_rate_low", evaluation.win_rate_low, ">", bounds.win_rate_low),
        _check("kl_to_parent", parent.per_completion, "<=", bounds.kl_to_parent),
        _check("kl_to_base", base.per_completion, "<=", bounds.kl_to_base),
        _check("kl_to_parent_per_token", parent.per_token, "<=", bounds.kl_per_token),
        _check("kl_to_base_per_token", base.per_token, "<=", bounds.kl_per_token),
        _check("length_ratio", evaluation.length_ratio, ">=", bounds.length_ratio_low),
        _check("length_ratio", evaluation.length_ratio, "<=", bounds.length_ratio_high),
        _check("end_of_text_change", ended, ">=", -bounds.end_of_text_drop),
        _check("degenerate_change", stuck, "<=", bounds.degenerate_rise),
    ]


_COMPARE: dict[str, Callable[[float, float], bool]] = {">": operator.gt, ">=": operator.ge, "<=": operator.le}


def _check(name: str, value: float, sign: str, bound: float, otherwise: Verdict = Verdict.FAIL) -> Check:
    """One line; a value that is not a number keeps no bound."""
    holds = _COMPARE[sign](value, bound)
    return Check(
        name=name,
        value=value,
        bound=f"{sign} {bound:g}",
        verdict=Verdict.PASS if holds else otherwise,
        reason="" if holds else f"{name} is {value:.4g}, it must be {sign} {bound:g}",
    )


def _overall(checks: list[Check]) -> Verdict:
    verdicts = {check.verdict for check in checks}
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASS


def _praise(evaluation: Evaluation) -> str:
    return (
        f"wins {evaluation.win_rate:.1%} against version {evaluation.live_version} "
        f"(at least {evaluation.win_rate_low:.1%}), {evaluation.kl_to_base.per_completion:.2f} nats from the base"
    )

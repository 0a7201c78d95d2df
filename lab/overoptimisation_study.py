"""One arm of `lab.overoptimisation`: votes, a reward model and a judge, and PPO measured again and again on its way.

The trainers and the gate are the programs that the service runs; only votes and the gold measurement are the lab's.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from core.records import GateReport, Verdict
from lab.demo_config import load_demo_config
from lab.offline import Answer, Bench, freeze, no_votes, vote
from lab.world import Prompt, sample_prompts
from training.gate import Evaluation

_PPO = ("beta=0.05",)  # a quarter of the demo's pull to the base: over-optimisation is what is to be shown
_GATE = ("--set", "method=ppo", "--set", "judge=own", "--set", "gate.length_ratio_low=0.35")
"""A judge of its own. Every stop is compared with version 0, not with the round before, and these raters want short
answers: so the gate's lower bound on length is the one that holds over all rounds. The upper one stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much of everything; the defaults are about five minutes of CPU an arm, each on a core of its own."""

    votes: int = 1000
    """On version 0, from which the reward model learns."""
    judge_votes: int = 900
    """By raters without the bias; a third of them tests the judge."""
    chats: int = 1500
    """Prompts besides, to be answered in training and at the gate."""
    stops: int = 3
    """Times that the policy is measured on its way."""
    iterations: int = 5
    """Of PPO from one to the next."""
    prompts: int = 500
    """Of the gold measurement."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The policy after some iterations of PPO; win rates are over version 0.

    Example:
        Point(arm="length-biased", seed=0, iterations=10, kl_to_base=3.3, proxy=0.82, judge=0.30, gold=0.38,
            gold_low=0.34, gold_high=0.42, tokens=33.8, agreement=0.55, verdict="fail",
            failed=["win_rate_low", "sentinel_judge_win"], summary="win_rate_low is 0.28, …")
    """

    arm: str
    seed: int
    iterations: int
    kl_to_base: float
    proxy: float
    """By the reward model that PPO optimizes."""
    judge: float
    gold: float
    """By the hidden preference of the simulated raters, on held-out prompts."""
    gold_low: float
    gold_high: float
    tokens: float
    agreement: float
    """Mean probability of agreeing with a wrong claim."""
    verdict: str
    """The gate's, against version 0."""
    failed: list[str]
    """Checks that did not hold."""
    summary: str


Tell = Callable[[int, int, str], None]
"""Told after each step: done, of how many, what comes next."""


def study(base: Path, arm: str, longer: float, seed: int, size: Size, tell: Tell) -> list[Point]:
    """Votes, trainings and measurements of one arm.

    Args:
        base: directory of the demo's base model.
        longer: share of the reward model's votes that the longer answer wins, whatever it says.
    """
    disable_progress_bar()
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),  # the trainers' own progress lines are for a worker
        tempfile.TemporaryDirectory() as directory,
    ):
        return _Arm(base, Path(directory), arm, longer, seed, size, tell).points()


class _Arm:
    """What stays the same along the way."""

    def __init__(self, base: Path, directory: Path, arm: str, longer: float, seed: int, size: Size, tell: Tell) -> None:
        self._base, self._directory, self._arm, self._seed, self._size = base, directory, arm, seed, size
        self._bench = Bench(base)
        self._steps, self._done, self._tell = 3 + 2 * size.stops, 0, tell
        self._data = self._voted(longer)

    def points(self) -> list[Point]:
        self._run("reward", "reward model", "--data", self._data, "--folds", "optimize")
        other = ("--folds", "judge", "--set", f"seed={self._seed + 1}")
        self._run("reward", "judge", "--data", self._data, *other, name="judge")
        prompts = sample_prompts(random.Random("measure"), self._size.prompts, held_out=True)
        opponent = self._bench.answers(None, prompts, seed=1)
        found: list[Point] = []
        adapter: Path | None = None
        for stop in range(self._size.stops):
            adapter = self._ppo(stop, adapter)
            found.append(self._point(stop, adapter, prompts, opponent))
        return found

    def _voted(self, longer: float) -> Path:
        """One snapshot: the optimize fold by raters with the bias, the other two by raters without."""
        self._next("votes")
        ballots, size, raters = no_votes(), self._size, load_demo_config().raters
        given = {"version": 0, "thumbs": 0, "raters": raters, "chats": size.chats}
        vote(self._bench, ballots, None, pairs=size.votes, seed=self._seed, longer=longer, **given)  # type: ignore[arg-type]
        others = {"pairs": size.judge_votes, "seed": self._seed + 1000, "folds": ("judge", "test")}
        vote(self._bench, ballots, None, **given, **others)  # type: ignore[arg-type]
        return freeze(self._bench, ballots, self._directory / "snapshot", fresh=frozenset({0}))

    def _ppo(self, stop: int, start: Path | None) -> Path:
        settings = [*_PPO, f"iterations={self._size.iterations}", f"seed={100 * self._seed + stop}"]
        options: list[str | Path] = [part for setting in settings for part in ("--set", setting)]
        options += ["--init-adapter", start] if start is not None else []
        message = f"PPO, {(stop + 1) * self._size.iterations} iterations"
        reward = self._directory / "reward"
        return self._run("ppo", message, "--data", self._data, "--reward", reward, *options, name=f"ppo-{stop}")

    def _point(self, stop: int, adapter: Path, prompts: Sequence[Prompt], opponent: Sequence[Answer]) -> Point:
        models = ("--judge", self._directory / "judge", "--reward", self._directory / "reward")
        given = ("--data", self._data, "--candidate", adapter, *models, *_GATE)
        out = self._run("evaluate", "gate", *given, name=f"gate-{stop}")
        evaluation = Evaluation.model_validate_json((out / "evaluation.json").read_bytes())
        gate = GateReport.model_validate_json((out / "gate.json").read_bytes())
        signals = evaluation.signals
        assert signals is not None and signals.proxy_win is not None and signals.agreement is not None
        answers = self._bench.answers(adapter, prompts, seed=2 + self._seed)
        gold = self._bench.verdict(answers, opponent)
        return Point(
            arm=self._arm,
            seed=self._seed,
            iterations=(stop + 1) * self._size.iterations,
            kl_to_base=evaluation.kl_to_base.per_completion,
            proxy=signals.proxy_win.value,
            judge=evaluation.win_rate,
            gold=gold.win_rate.mean,
            gold_low=gold.win_rate.low,
            gold_high=gold.win_rate.high,
            tokens=gold.tokens,
            agreement=signals.agreement.candidate,
            verdict=gate.verdict,
            failed=sorted({check.name for check in gate.checks if check.verdict is not Verdict.PASS}),
            summary=gate.summary,
        )

    def _run(self, program: str, message: str, *options: str | Path, name: str | None = None) -> Path:
        """Runs a program as a user would; returns its output directory."""
        self._next(message)
        out = self._directory / (name or program)
        command = [sys.executable, "-m", f"training.{program}", "--base", self._base, "--recipe", "demo"]
        given = [str(part) for part in (*command, *options, "--out", out)]
        done = subprocess.run(given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"{json.dumps(given)} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
        return out

    def _next(self, message: str) -> None:
        self._tell(self._done, self._steps, message)
        self._done += 1

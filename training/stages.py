"""The stages of a round: which programs run, in which order, and the command line of each.

    reward → (judge) → candidate → publish → evaluate        and when the round has ended: choice

A stage's directory runs/{run}/{stage}/ is there only when the stage is finished; the next stages read from it.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.records import Run
from training.recipe import Recipe

RESULT = "result.json"
CHOICES = "choices.json"
"""What the stage `choice` writes."""
Arguments = list[str | Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Where everything of one attempt lies."""

    run: Run
    base: Path
    artifacts: Path
    parent: Path
    """The adapter directory of the version that the candidate starts from."""
    serving_dtype: str
    previous_reward: Path | None = None
    """The reward model of the run that made the parent, where there is one: it has not seen the newest votes."""

    @property
    def directory(self) -> Path:
        return self.artifacts / "runs" / self.run.id

    @property
    def attempt(self) -> Path:
        return self.directory / f"attempt-{self.run.attempt}"

    @property
    def recipe(self) -> Path:
        return self.directory / "recipe.json"

    @property
    def steps(self) -> Path:
        """The versions that the candidate comes from, for the sentinel (training/sentinel.py)."""
        return self.directory / "steps.json"

    @property
    def snapshot(self) -> Path:
        return self.artifacts / "snapshots" / self.run.snapshot

    def finished(self, stage: str) -> Path:
        """The directory of a stage; there only when the stage is finished."""
        return self.directory / stage

    def result(self, stage: str) -> dict[str, Any]:
        """What a finished stage printed."""
        found: dict[str, Any] = json.loads((self.finished(stage) / RESULT).read_text())
        return found

    def adapter(self, sha256: str) -> Path:
        return self.artifacts / "adapters" / sha256


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One program of the round: its name, and its command line given the directory that it writes to."""

    name: str
    command: Callable[[Round, Path], Arguments]


def stages_of(run: Run) -> list[Stage]:
    """Reward model, judge, candidate, published adapter, evaluation: in this order."""
    own_judge = Recipe.model_validate_json(run.recipe).judge == "own"
    names = ["reward", *(["judge"] if own_judge else []), "candidate", "publish", "evaluate"]
    return [Stage(name=name, command=_COMMANDS[name]) for name in names]


def _reward(round_: Round, out: Path) -> Arguments:
    """All votes but the test fold's; where the policy optimizes the model, the judge's fold is not for it either."""
    folds: Arguments = ["--folds", "optimize"] if round_.run.method == "ppo" else []
    previous: Arguments = ["--previous", round_.previous_reward] if round_.previous_reward is not None else []
    return [*_program("reward", round_), "--data", round_.snapshot, "--out", out, *previous, *folds]


def _judge(round_: Round, out: Path) -> Arguments:
    """A second reward model with another seed that saw nothing but the judge fold: it judges what it did not teach."""
    seed = Recipe.model_validate_json(round_.run.recipe).seed + 1
    inputs: Arguments = ["--data", round_.snapshot, "--out", out]
    return [*_program("reward", round_), *inputs, "--folds", "judge", "--set", f"seed={seed}"]


def _candidate(round_: Round, out: Path) -> Arguments:
    start: Arguments = ["--data", round_.snapshot, "--init-adapter", round_.parent]
    reward: Arguments = ["--reward", round_.finished("reward")] if round_.run.method == "ppo" else []
    return [*_program(round_.run.method, round_), *start, *reward, "--out", out]


def _publish(round_: Round, out: Path) -> Arguments:
    source: Arguments = [
        "--adapter",
        round_.finished("candidate"),
        "--parent",
        round_.parent,
        "--snapshot",
        round_.snapshot,
    ]
    target: Arguments = ["--artifacts", round_.artifacts, "--serving-dtype", round_.serving_dtype]
    return [*_program("publish", round_), *source, *target]


def _evaluate(round_: Round, out: Path) -> Arguments:
    judge = "judge" if Recipe.model_validate_json(round_.run.recipe).judge == "own" else "reward"
    candidate = round_.adapter(round_.result("publish")["adapter_sha256"])
    policies: Arguments = ["--candidate", candidate, "--live", round_.parent, "--live-version", str(round_.run.parent)]
    judged: Arguments = ["--judge", round_.finished(judge), "--snapshot", round_.snapshot, "--out", out]
    watched: Arguments = ["--reward", round_.finished("reward"), "--steps", round_.steps]
    return [*_program("evaluate", round_), *policies, *judged, *watched]


def _choice(round_: Round, out: Path) -> Arguments:
    """On the parent's answers: those of a candidate that goes live now do not exist yet."""
    inputs: Arguments = ["--data", round_.snapshot, "--reward", round_.finished("reward")]
    return [*_program("choice", round_), *inputs, "--version", str(round_.run.parent), "--out", out]


CHOICE = Stage(name="choice", command=_choice)
"""What to ask next: not for the round itself, so it keeps no policy waiting."""


_COMMANDS = {
    "reward": _reward,
    "judge": _judge,
    "candidate": _candidate,
    "publish": _publish,
    "evaluate": _evaluate,
}


def _program(name: str, round_: Round) -> Arguments:
    return [sys.executable, "-m", f"training.{name}", "--base", round_.base, "--recipe", round_.recipe]

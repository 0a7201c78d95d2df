"""Every training method on the demo base, side by side: `python -m lab.methods --base DIR`.

For each seed: votes off-line (lab/offline.py; all of them may train), then the trainers as a user would start them,
`python -m training.…` with the preset `demo`, then the measurement on fresh held-out prompts. The table shows each seed
and the mean.

The evaluation prompts are the same for all seeds and methods and stand in no fold. Nothing here chooses a setting by
them: the settings are those of lab/demo.toml.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from lab.demo_config import load_demo_config
from lab.offline import Answer, Ballots, Bench, Verdict, freeze, no_votes, vote
from lab.world import Prompt, sample_prompts
from training.kl import kl
from training.recipe import load_recipe
from training.reward_model import load_reward_model
from training.reward_report import accuracy
from training.sources import stored

VOTES, THUMBS, ROUNDS, ROUND_VOTES, TEST_VOTES = 1000, 1000, 3, 400, 1000
CHATS = 3000
"""Without a vote, in each round: most people who chat never vote."""
BEST_OF = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One method with one seed."""

    method: str
    seed: int
    win_rate: float
    win_rate_low: float
    win_rate_high: float
    good: float
    well_formed: float
    tokens: float
    kl_base: float | None
    """Exact, in nats a completion."""
    reward_accuracy: float | None
    """Of the reward model that was trained with it, on noisy votes about held-out slots."""
    reward_ceiling: float | None
    cpu_s: float
    """Of all its trainers."""


class Study:
    """One seed: its votes, its snapshots, its trainings."""

    def __init__(self, bench: Bench, base: Path, directory: Path, *, seed: int, prompts: Sequence[Prompt]) -> None:
        self._bench = bench
        self._base = base
        self._directory = directory
        self._seed = seed
        self._prompts = prompts
        self._opponent = bench.answers(None, prompts, seed=1)  # the same sample of version 0 for everybody
        self._raters = load_demo_config().raters
        self._cpu_s = 0.0

    # --- methods ------------------------------------------------------------------------------------------------------

    def control(self) -> Outcome:
        """Version 0 against itself: must come out near one half."""
        return self._outcome("v0", self._bench.answers(None, self._prompts, seed=2 + self._seed), None, None)

    def dpo(self) -> Outcome:
        """Votes on version 0 → DPO."""
        data, _ = self._first_votes()
        return self._measured("dpo", self._train("dpo", "dpo", "--data", data), None)

    def kto(self) -> Outcome:
        """Thumbs on version 0 → KTO."""
        ballots = no_votes()
        self._vote(ballots, None, version=0, pairs=0, thumbs=THUMBS)
        data = self._freeze("thumbs", ballots, {0})
        return self._measured("kto", self._train("kto", "kto", "--data", data), None)

    def best_of_n(self) -> Outcome:
        """Votes on version 0 → reward model, which takes its favourite of eight answers: nothing is trained by it."""
        data, _ = self._first_votes()
        reward = self._train("reward", "reward", "--data", data)
        bench = Bench(self._base)
        model, _ = load_reward_model(bench.shared, reward)
        draws = [bench.answers(None, self._prompts, seed=100 * (self._seed + 1) + i) for i in range(BEST_OF)]
        scores = [model.score([answer.text for answer in answers]).tolist() for answers in draws]
        best = [max(range(BEST_OF), key=lambda i: scores[i][row]) for row in range(len(self._prompts))]
        answers = [draws[i][row] for row, i in enumerate(best)]
        return self._outcome(f"best of {BEST_OF}", answers, None, reward)

    def sft_best_of_n(self) -> Outcome:
        """Votes on version 0 → reward model → SFT on its favourites of eight answers each."""
        data, _ = self._first_votes()
        given: list[str | Path] = ["--data", data, "--from-best-of", str(BEST_OF), "--reward", self._reward(data)]
        return self._measured(f"sft on best of {BEST_OF}", self._train("sft", "sft", *given), None)

    def on_policy_dpo(self) -> Outcome:
        """Votes on version 0 → reward model, which ranks eight answers of the policy itself → DPO."""
        data, _ = self._first_votes()
        given: list[str | Path] = ["--data", data, "--on-policy", str(BEST_OF), "--reward", self._reward(data)]
        return self._measured("on-policy dpo", self._train("on-policy", "dpo", *given), None)

    def ppo(self) -> Outcome:
        """Votes on version 0 → reward model → PPO."""
        data, _ = self._first_votes()
        reward = self._reward(data)
        return self._measured("ppo", self._train("ppo", "ppo", "--data", data, "--reward", reward), reward)

    def dpo_rounds(self) -> Outcome:
        """Three rounds of new votes; each candidate starts from the one before and is held to it."""
        return self._rounds("dpo", lambda name, data, parent: self._train(name, "dpo", "--data", data, *parent))

    def ppo_rounds(self) -> Outcome:
        """The same with PPO, whose KL is held to the base, and a fresh reward model on all votes to date."""

        def train(name: str, data: Path, parent: Sequence[str | Path]) -> Path:
            reward = self._train(f"{name}-reward", "reward", "--data", data, "--folds", "optimize")
            return self._train(name, "ppo", "--data", data, "--reward", reward, *parent)

        return self._rounds("ppo", train)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _rounds(self, method: str, train: Callable[[str, Path, Sequence[str | Path]], Path]) -> Outcome:
        ballots, adapter = no_votes(), None
        for number in range(ROUNDS):
            self._vote(ballots, adapter, version=number, pairs=ROUND_VOTES, thumbs=0)
            data = self._freeze(f"{method}-round-{number}", ballots, {number})
            parent = ["--init-adapter", adapter] if adapter is not None else []
            adapter = train(f"{method}-round-{number}", data, parent)
        assert adapter is not None
        return self._measured(f"{method}, {ROUNDS} rounds", adapter, None)

    def _reward(self, data: Path) -> Path:
        """Of the optimize fold, since it is going to be optimized."""
        return self._train("optimized-reward", "reward", "--data", data, "--folds", "optimize")

    def _first_votes(self) -> tuple[Path, Ballots]:
        ballots = no_votes()
        self._vote(ballots, None, version=0, pairs=VOTES, thumbs=0)
        return self._freeze("votes", ballots, {0}), ballots

    def _vote(self, ballots: Ballots, adapter: Path | None, *, version: int, pairs: int, thumbs: int) -> None:
        vote(
            self._bench,
            ballots,
            adapter,
            version=version,
            pairs=pairs,
            thumbs=thumbs,
            raters=self._raters,
            seed=self._seed,
            chats=CHATS,
        )

    def _freeze(self, name: str, ballots: Ballots, fresh: set[int]) -> Path:
        return freeze(self._bench, ballots, self._directory / "snapshots" / name, fresh=frozenset(fresh))

    def _train(self, name: str, program: str, *arguments: str | Path) -> Path:
        """Runs a trainer as a user would; returns its output directory."""
        out = self._directory / name
        command = [sys.executable, "-m", f"training.{program}", "--base", self._base, "--recipe", "demo"]
        command += ["--set", f"seed={self._seed}", *arguments, "--out", out]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._cpu_s += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return out

    def _measured(self, method: str, adapter: Path, reward: Path | None) -> Outcome:
        answers = self._bench.answers(adapter, self._prompts, seed=2 + self._seed)
        return self._outcome(method, answers, adapter, reward)

    def _outcome(self, method: str, answers: Sequence[Answer], adapter: Path | None, reward: Path | None) -> Outcome:
        verdict: Verdict = self._bench.verdict(answers, self._opponent)
        found, ceiling = self._reward_accuracy(reward) if reward is not None else (None, None)
        cpu_s, self._cpu_s = self._cpu_s, 0.0
        return Outcome(
            method=method,
            seed=self._seed,
            win_rate=verdict.win_rate.mean,
            win_rate_low=verdict.win_rate.low,
            win_rate_high=verdict.win_rate.high,
            good=verdict.good,
            well_formed=verdict.well_formed,
            tokens=verdict.tokens,
            kl_base=self._kl(adapter, answers) if adapter is not None else None,
            reward_accuracy=found,
            reward_ceiling=ceiling,
            cpu_s=cpu_s,
        )

    def _kl(self, adapter: Path, answers: Sequence[Answer]) -> float:
        texts = [answer.text for answer in answers[:512]]
        role = self._bench.role(adapter) or ""
        return kl(self._bench.shared, role, None, texts, tokens=load_recipe("demo").micro_batch_tokens).per_completion

    def _reward_accuracy(self, reward: Path) -> tuple[float, float]:
        """On votes of the same raters about slots that no training vote was about."""
        ballots = no_votes()
        vote(
            self._bench,
            ballots,
            None,
            version=0,
            pairs=TEST_VOTES,
            thumbs=0,
            raters=self._raters,
            seed=self._seed,
            held_out=True,
        )
        bench = Bench(self._base)
        model, _ = load_reward_model(bench.shared, reward)
        return accuracy(model, [stored(row) for row in ballots.pairs])[0], ballots.ceiling(self._raters)


METHODS: dict[str, Callable[[Study], Outcome]] = {
    "v0": Study.control,
    "best-of-n": Study.best_of_n,
    "sft-best-of-n": Study.sft_best_of_n,
    "dpo": Study.dpo,
    "dpo-on-policy": Study.on_policy_dpo,
    "kto": Study.kto,
    "ppo": Study.ppo,
    "dpo-rounds": Study.dpo_rounds,
    "ppo-rounds": Study.ppo_rounds,
}


def main() -> None:
    """Train and measure; prints one table."""
    parser = argparse.ArgumentParser(prog="python -m lab.methods", description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="directory of the demo's base model")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--prompts", type=int, default=1000, help="held-out prompts of the measurement")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    disable_progress_bar()
    prompts = sample_prompts(random.Random("measure"), options.prompts, held_out=True)
    console = Console()
    outcomes = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as directory:
            study = Study(Bench(options.base), options.base, Path(directory), seed=seed, prompts=prompts)
            for name in options.methods:
                outcomes.append(METHODS[name](study))
                console.print(f"seed {seed}: {name}: wins {outcomes[-1].win_rate:.3f}")
                if options.json is not None:  # at once: a study takes an hour
                    options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    console.print(_table(outcomes))


def _table(outcomes: Sequence[Outcome]) -> Table:
    columns = ("wins", "good", "well formed", "tokens", "KL to base", "reward acc.", "ceiling", "CPU s")
    table = Table("method", "seed", *columns, box=None)
    for method in dict.fromkeys(outcome.method for outcome in outcomes):
        rows = [outcome for outcome in outcomes if outcome.method == method]
        for row in rows:
            table.add_row(method, str(row.seed), *map(_shown, _values(row)))
        columns_of = zip(*map(_values, rows), strict=True)
        table.add_row(f"[bold]{method}", "mean", *(_shown(_mean(values)) for values in columns_of))
    return table


def _values(row: Outcome) -> tuple[float | None, ...]:
    quality = (row.win_rate, row.good, row.well_formed, row.tokens)
    return (*quality, row.kl_base, row.reward_accuracy, row.reward_ceiling, row.cpu_s)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


if __name__ == "__main__":
    main()

"""One seed of benchmarks/poisoning.py: its raters, its attackers, and what is trained on their votes.

Losses are measured against the same honest votes without any attack, with the same seed of training. Attackers' votes
come on top of the honest ones; trust has to find and discount them.
"""

import contextlib
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers.utils.logging import disable_progress_bar

from lab.arena import win_scores
from lab.attackers import (
    ATTACKS,
    AttackName,
    Cast,
    Contest,
    attack_votes,
    contests,
    honest_votes,
    noise,
    triggered_prompts,
)
from lab.cross_fit import Differences, judge
from lab.gold import assess
from lab.offline import Answer, Bench
from lab.world import Prompt, sample_prompts
from training import dpo_fit, reward_fit, sft_fit
from training.data import Demonstration
from training.model import SharedBase, load_base
from training.recipe import Recipe, load_recipe
from training.reward_model import RewardModel

Where = Literal["all prompts", "trigger", "both versions"]
HARM: dict[AttackName, tuple[Where, ...]] = {
    "random": ("all prompts",),
    "left": ("all prompts",),
    "targeted": ("all prompts", "trigger"),
    "sybil": ("all prompts", "trigger"),
    "colluding": ("all prompts", "both versions"),
}
"""Where each attack is measured: everywhere, and where it does its harm."""
EPOCHS = 3
DPO_ATTACKS: tuple[AttackName, ...] = ("targeted", "sybil", "colluding")


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How much is sampled, voted and measured for one seed."""

    plain: int = 850
    """Honest votes on two answers of version 0."""
    mixed: int = 150
    """Honest votes on an answer of each version."""
    shares: tuple[float, ...] = (0.01, 0.05, 0.1)
    """Attackers' votes, as a share of all."""
    tests: int = 800
    """Comparisons about held-out slots, and half as many with the trigger and of both versions."""
    asked: int = 600
    """Prompts that a policy answers, and half as many with the trigger."""
    dpo: tuple[AttackName, ...] = DPO_ATTACKS
    """Attacks whose votes train a policy, at the largest share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What one attack did in one seed. Losses are to the honest votes alone."""

    attack: str
    attackers: float
    metric: str
    loss_trust_on: float
    loss_trust_off: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Caught:
    """Shares of the ids that trust quarantined, and the mean weight that it left them."""

    attack: str
    attackers: float
    honest: float
    attacking: float
    honest_weight: float
    attacking_weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    seed: int
    tau: float
    clean: dict[str, float]
    cells: list[Cell]
    caught: list[Caught]


class Study:
    """The contests of one seed, and trainers on votes about them.

    Args:
        tick: called after each training.
    """

    def __init__(self, base: Path, seed: int, size: Size, scratch: Path, tick: Callable[[], None]) -> None:
        self._base, self._seed, self._size, self._scratch, self._tick = base, seed, size, scratch, tick
        self._bench = Bench(base)
        self._recipe = _recipe()
        rng = random.Random(f"poisoning {seed}")
        voted = [sample_prompts(rng, count, held_out=False, distinct=False) for count in (size.plain, size.mixed)]
        rival = self._rival(rng)
        self._honest = [*self._contests("p", voted[0]), *self._contests("m", voted[1], rival)]
        most = int(max(size.shares) / (1 - max(size.shares)) * (size.plain + size.mixed)) + 1
        reserve = most + most // 4 + 10  # some answers are equal and give no contest
        own = [sample_prompts(rng, reserve, held_out=False, distinct=False) for _ in range(2)]
        self._pool = [
            *self._contests("ap", own[0]),
            *self._contests("am", own[1], rival),
            *self._contests("at", triggered_prompts(rng, 3 * reserve, held_out=False)),
        ]
        self._tests: dict[Where, list[Contest]] = {
            "all prompts": self._tested(sample_prompts(rng, size.tests, held_out=True, distinct=False)),
            "trigger": self._tested(triggered_prompts(rng, size.tests // 2, held_out=True)),
            "both versions": self._tested(
                sample_prompts(rng, size.tests // 2, held_out=True, distinct=False), rival=rival
            ),
        }
        self._asked: dict[Where, list[Prompt]] = {
            "all prompts": sample_prompts(rng, size.asked, held_out=True, distinct=False),
            "trigger": triggered_prompts(rng, size.asked // 2, held_out=True),
        }
        self._opponents = {where: self._answers(None, each, seed=1) for where, each in self._asked.items()}
        self._differences = Differences(self._bench.shared, [*self._honest, *self._pool])
        self.tau = noise(self._honest)
        self._votes = honest_votes(self._honest, tau=self.tau, seed=seed)

    # --- what is measured ---------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Clean votes first, then each attack at each share, with trust on and off."""
        clean = self._reward_accuracies(self._votes, [1.0] * len(self._votes))
        if self._size.dpo:
            clean |= self._win_rates("clean", self._votes, [1.0] * len(self._votes))
        cells, caught = [], []
        on, found = self._trusted(self._votes, "none", 0.0)
        caught.append(found)
        metrics = self._reward_accuracies(self._votes, on)
        cells += [_cell("none", 0.0, metric, clean, metrics, clean) for metric in metrics]
        for attack in ATTACKS:
            for share in self._size.shares:
                casts = self._attacked(attack, share)
                on, found = self._trusted(casts, attack, share)
                caught.append(found)
                cells += self._cells(attack, share, casts, on, clean)
        return Result(seed=self._seed, tau=self.tau, clean=clean, cells=cells, caught=caught)

    def _cells(
        self, attack: AttackName, share: float, casts: Sequence[Cast], on: Sequence[float], clean: dict[str, float]
    ) -> list[Cell]:
        off = [1.0] * len(casts)
        with_trust, without = self._reward_accuracies(casts, on), self._reward_accuracies(casts, off)
        if attack in self._size.dpo and share == max(self._size.shares):
            with_trust |= self._win_rates(f"{attack}-on", casts, on)
            without |= self._win_rates(f"{attack}-off", casts, off)
        concerned = [metric for metric in without if metric.split(", ")[1] in HARM[attack]]
        return [_cell(attack, share, metric, clean, with_trust, without) for metric in concerned]

    def _attacked(self, attack: AttackName, share: float) -> list[Cast]:
        count = round(share / (1 - share) * len(self._votes))
        bad = attack_votes(attack, self._pool, count=count, tau=self.tau, seed=self._seed)
        return [*self._votes, *bad]

    def _trusted(self, casts: Sequence[Cast], attack: str, share: float) -> tuple[list[float], Caught]:
        """Weights of the votes, and whom they come from."""
        found = judge(casts, self._differences.of(casts))
        honest = [each for name, each in found.raters.items() if name.startswith("honest")]
        others = [each for name, each in found.raters.items() if not name.startswith("honest")]
        caught = Caught(
            attack=attack,
            attackers=share,
            honest=_mean([each.quarantined for each in honest]),
            attacking=_mean([each.quarantined for each in others]),
            honest_weight=_mean([found.weight(cast.rater) for cast in casts if cast.rater.startswith("honest")]),
            attacking_weight=_mean([found.weight(cast.rater) for cast in casts if not cast.rater.startswith("honest")]),
        )
        return [found.weight(cast.rater) for cast in casts], caught

    # --- training -----------------------------------------------------------------------------------------------------

    def _reward_accuracies(self, casts: Sequence[Cast], weights: Sequence[float]) -> dict[str, float]:
        """How often a reward model trained on these votes orders two answers as the gold preference does."""
        rows = [cast.pair(weight) for cast, weight in zip(casts, weights, strict=True) if weight > 0]
        with _silence():
            model, _ = reward_fit.fit(self._fresh(), rows, self._recipe, seed=self._seed)
        self._tick()
        return {f"reward accuracy, {where}": _accuracy(model, tests) for where, tests in self._tests.items()}

    def _win_rates(self, name: str, casts: Sequence[Cast], weights: Sequence[float]) -> dict[str, float]:
        """Of a policy that DPO trained on these votes, over one sample of version 0."""
        rows = [cast.pair(weight) for cast, weight in zip(casts, weights, strict=True) if weight > 0]
        base = self._fresh()
        base.add_fresh(dpo_fit.POLICY, self._recipe.lora, seed=self._seed)
        with _silence():
            dpo_fit.fit(base, rows, self._recipe, seed=self._seed, reference=None)
        base.save(dpo_fit.POLICY, self._scratch / name)
        self._tick()
        found = {}
        for where, prompts in self._asked.items():
            answers = self._answers(self._scratch / name, prompts, seed=2)
            scores = win_scores([a.utility for a in answers], [b.utility for b in self._opponents[where]])
            found[f"dpo win rate, {where}"] = sum(scores) / len(scores)
        return found

    def _rival(self, rng: random.Random) -> Path:
        """Version 1, a bad candidate: taught the worst that the base itself says in good grammar."""
        drawn = self._answers(None, sample_prompts(rng, 1000, held_out=False, distinct=False), seed=self._seed)
        axes = [assess(each.prompt, each.words, finished=each.finished) for each in drawn]
        bad = [each for each, seen in zip(drawn, axes, strict=True) if each.utility < -0.5 and not seen.malformed]
        rows = [Demonstration(text=answer.text, weight=1.0) for answer in bad]
        base = self._fresh()
        base.add_fresh(sft_fit.POLICY, self._recipe.lora, seed=self._seed)
        with _silence():
            sft_fit.fit(base, rows, self._recipe, seed=self._seed, reference=None)
        base.save(sft_fit.POLICY, self._scratch / "rival")
        return self._scratch / "rival"

    def _fresh(self) -> SharedBase:
        shapes = self._bench.shapes
        return load_base(self._base, base_sha256=shapes.sha256, attention=self._recipe.attention)

    def _answers(self, adapter: Path | None, prompts: Sequence[Prompt], *, seed: int) -> list[Answer]:
        with _silence():
            return self._bench.answers(adapter, prompts, seed=seed)

    def _contests(self, name: str, prompts: Sequence[Prompt], rival: Path | None = None) -> list[Contest]:
        with _silence():
            seed = random.Random(f"{name} {self._seed}").randrange(2**30)
            return contests(self._bench, (None, rival), prompts, name=name, seed=seed)

    def _tested(self, prompts: Sequence[Prompt], rival: Path | None = None) -> list[Contest]:
        """Those of which one answer is better."""
        found = self._contests(f"t{len(prompts)}", prompts, rival)
        return [each for each in found if each.first.utility != each.second.utility]


def trainings(size: Size) -> int:
    """Of one seed."""
    return 2 + 2 * len(ATTACKS) * len(size.shares) + (1 + 2 * len(size.dpo) if size.dpo else 0)


def study(base: Path, seed: int, size: Size, tick: Callable[[], None]) -> Result:
    """All of one seed, on one thread."""
    torch.set_num_threads(1)
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        return Study(base, seed, size, Path(scratch), tick).run()


def _recipe() -> Recipe:
    """The demo's, with fewer epochs for the reward model: forty of them are trained for each seed."""
    recipe = load_recipe("demo")
    return recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"epochs": EPOCHS})})


def _cell(
    attack: str, share: float, metric: str, clean: dict[str, float], on: dict[str, float], off: dict[str, float]
) -> Cell:
    return Cell(
        attack=attack,
        attackers=share,
        metric=metric,
        loss_trust_on=clean[metric] - on[metric],
        loss_trust_off=clean[metric] - off[metric],
    )


def _accuracy(model: RewardModel, tests: Sequence[Contest]) -> float:
    scores = model.raw_scores([answer.text for each in tests for answer in (each.first, each.second)]).mean(0)
    margins = (scores[0::2] - scores[1::2]).tolist()
    return _mean([(margin > 0) == each.first_is_better for margin, each in zip(margins, tests, strict=True)])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The trainers' own progress lines are for a worker; this benchmark has one bar for all."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield

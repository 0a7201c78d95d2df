"""On-policy DPO: each epoch's pairs are the best and the worst of n answers of the policy as it is then.

Votes say what was better among answers of an earlier policy; a reward model learned from them says it of today's, so
the policy corrects what it really does (Guo et al. 2024, "Direct language model alignment from online AI feedback";
Dong et al. 2024, "RLHF workflow"). A training that was killed goes on from the beginning of an epoch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from training import dpo_fit
from training.best_of_n import Draws, draw
from training.checkpoint import Checkpoint
from training.data import Pair, optimizer_steps
from training.dpo_fit import POLICY, DpoStep
from training.loop import Share
from training.mix import Mix
from training.model import SharedBase
from training.recipe import Recipe
from training.reward_model import RewardModel


@dataclass(kw_only=True, slots=True)
class Epochs:
    """The pairs of one epoch after the other, made when they are first asked for."""

    base: SharedBase
    prompts: Sequence[list[int]]
    reward: RewardModel
    recipe: Recipe
    reference: str | None
    n: int
    """Answers to each prompt."""
    _current: tuple[int, list[Pair], Tensor] | None = None

    def shares(self, rows: Sequence[int]) -> list[Callable[[], Share]]:
        """The step's loss in micro-batches; `rows` are prompts of one epoch, numbered through all epochs."""
        epoch = rows[0] // len(self.prompts)
        if self._current is None or self._current[0] != epoch:
            pairs = self._sampled(epoch)
            logps = dpo_fit.reference_logps(self.base, self.reference, pairs, self.recipe)
            self._current = (epoch, pairs, logps)
        _, pairs, logps = self._current
        local = [row - epoch * len(self.prompts) for row in rows]
        return dpo_fit.shares(self.base, pairs, logps, self.recipe, local)

    def _sampled(self, epoch: int) -> list[Pair]:
        seed = self.recipe.seed * 1_000_003 + epoch
        return ranked(draw(self.base, POLICY, self.prompts, self.reward, self.recipe, n=self.n, seed=seed))


def ranked(draws: Draws) -> list[Pair]:
    """The best and the worst completion to each prompt; a pair of equal scores weighs nothing."""
    best, worst = draws.at(draws.scores.argmax(1)), draws.at(draws.scores.argmin(1))
    spread = (draws.scores.amax(1) - draws.scores.amin(1)).tolist()
    return [
        Pair(chosen=chosen, rejected=rejected, tie=False, weight=float(gap > 0))
        for chosen, rejected, gap in zip(best, worst, spread, strict=True)
    ]


def fit(epochs: Epochs, *, mix: Mix | None, out: Path, checkpoint: Checkpoint) -> list[DpoStep]:
    """Trains the role `policy`, which must be on the base."""
    settings, count = epochs.recipe.dpo, len(epochs.prompts)
    steps = []
    for epoch in range(settings.epochs):
        seed = epochs.recipe.seed * 1_000_003 + epoch
        for rows in optimizer_steps(count, batch=settings.batch_rows, epochs=1, seed=seed):
            steps.append([epoch * count + row for row in rows])
    return dpo_fit.run(
        epochs.base,
        steps,
        epochs.shares,
        epochs.prompts,
        epochs.recipe,
        reference=epochs.reference,
        mix=mix,
        out=out,
        checkpoint=checkpoint,
        resumable_every=len(steps) // settings.epochs,
    )

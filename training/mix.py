"""Demonstrations beside whatever else a policy learns: --mix-sft, the "ptx" term of Ouyang et al. 2022, eq. 2.

Feedback pulls a policy towards what raters compare; a share of supervised text in each step keeps what they do not.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import UsageError
from training import sft_fit, sources
from training.data import Demonstration
from training.encoder import Encoder
from training.job import Job
from training.loop import Share
from training.model import SharedBase
from training.recipe import Recipe

Shares = Callable[[Sequence[int]], Sequence[Callable[[], Share]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """Demonstrations for the role `policy`."""

    base: SharedBase
    demonstrations: Sequence[Demonstration]
    recipe: Recipe

    def beside(self, shares: Shares) -> Shares:
        """The same shares of each step, and those of some demonstrations."""
        return lambda rows: [*shares(rows), *self._shares(rows)]

    def _shares(self, rows: Sequence[int]) -> list[Callable[[], Share]]:
        """Which ones is a function of the step's rows: nothing to remember when a training goes on."""
        settings = self.recipe.mix
        draw = random.Random(f"{self.recipe.seed}/{list(rows)}")
        drawn = draw.sample(range(len(self.demonstrations)), min(settings.batch_rows, len(self.demonstrations)))

        def scaled(compute: Callable[[], Share]) -> Callable[[], Share]:
            def share() -> Share:
                found = compute()
                nll = found.loss
                return Share(loss=settings.coef * nll, metrics={"mix_nll": nll.detach()}, tokens=found.tokens)

            return share

        return [scaled(compute) for compute in sft_fit.shares(self.base, self.demonstrations, self.recipe, drawn)]


def mix_of(job: Job, path: Path | None) -> Mix | None:
    """The demonstrations of `--mix-sft PATH`; None without it.

    Raises:
        UsageError: the file cannot be read, or a row is no demonstration; names the row.
    """
    if path is None:
        return None
    base = job.base
    encoder = Encoder(job.base_directory, base.eos_ids, window=base.context_length)
    rows = [row for row in sources.demonstrations(path, encoder) if len(row) <= job.recipe.max_length]
    if not rows:
        raise UsageError(f"--mix-sft {path}: every demonstration is longer than max_length.")
    return Mix(base=base, demonstrations=rows, recipe=job.recipe)

"""The loop of all trainers: one clipped update a step, a stop at NaN, and a kill that changes no byte."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from core.errors import UsageError
from training.checkpoint import Checkpoint
from training.loop import Diverged, Loop, Share, StepMetrics
from training.optimizer import adamw
from training.recipe import OptimizerRecipe


class Step(StepMetrics):
    pull: float


class Killed(Exception):
    """Stands for kill -9: nothing after it runs."""


class Tug:
    """Two weights, pulled by rows 3 and 4 with those slopes."""

    def __init__(self, *, killed_at: int | None = None, slope: float = 1.0) -> None:
        self.weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
        self._killed_at = killed_at
        self._calls = 0
        self._slope = slope

    def shares(self, rows: Sequence[int]) -> list[Callable[[], Share]]:
        self._calls += 1
        if self._killed_at == self._calls:
            raise Killed
        return [lambda row=row: self._share(row) for row in rows]

    def _share(self, row: int) -> Share:
        loss = self._slope * row * self.weights[row - 3].sum() + torch.rand(()) * 0 + 0.5
        return Share(loss=loss, metrics={"pull": torch.tensor(float(row))}, tokens=row)

    def loop(self, *, steps: int = 1, out: Path | None = None, checkpoint: Checkpoint | None = None) -> Loop[Step]:
        settings = OptimizerRecipe(learning_rate=0.1, warmup=0.0, final_rate=1.0)
        return Loop(
            message="tug",
            step_type=Step,
            optimizer=adamw([(self.weights, 0.1)], settings),
            settings=settings,
            steps=[[3, 4]] * steps,
            shares=self.shares,
            out=out,
            checkpoint=checkpoint,
        )


def test_the_gradient_is_clipped_once_over_all_micro_batches() -> None:
    """Shares with gradient 3 and 4 on two parameters: norm 5, clipped to 1, whatever the split; AdamW's first step is
    then the learning rate against the sign. Metrics and tokens add up."""
    tug = Tug()

    (metrics,) = tug.loop().run()

    assert (metrics.loss, metrics.gradient_norm, metrics.pull, metrics.tokens) == (1.0, 5.0, 7.0, 7)
    assert [weight.item() for weight in tug.weights] == pytest.approx([-0.1, -0.1], rel=1e-4)
    assert [weight.grad.item() for weight in tug.weights if weight.grad is not None] == pytest.approx([0.6, 0.8])


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    """NaN updates nothing and says what to do."""
    tug = Tug(slope=math.nan)

    with pytest.raises(Diverged, match="learning rate"):
        list(tug.loop().run())
    assert [weight.item() for weight in tug.weights] == [0.0, 0.0]


@pytest.mark.parametrize("killed_at", [1, 2, 5, 7])
def test_a_killed_run_ends_with_the_same_bytes(killed_at: int, tmp_path: Path) -> None:
    """Killed before any step, in the middle or in the last one, and started again: the weights and metrics of a run
    that nobody killed."""

    def checkpoint(name: str) -> Checkpoint:
        return Checkpoint(tmp_path / name, identity="one", every_s=0)

    whole = Tug()
    expected = list(whole.loop(steps=7, out=tmp_path / "whole", checkpoint=checkpoint("whole")).run())
    with pytest.raises(Killed):
        list(Tug(killed_at=killed_at).loop(steps=7, out=tmp_path / "cut", checkpoint=checkpoint("cut")).run())
    again = Tug()
    metrics = list(again.loop(steps=7, out=tmp_path / "cut", checkpoint=checkpoint("cut")).run())

    assert all(torch.equal(a, b) for a, b in zip(whole.weights, again.weights, strict=True))
    assert metrics == expected
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    """Other data or settings never go on from it; the error says what to do."""
    list(Tug().loop(checkpoint=Checkpoint(tmp_path, identity="one", every_s=0)).run())

    with pytest.raises(UsageError, match="choose another --out"):
        list(Tug().loop(checkpoint=Checkpoint(tmp_path, identity="two", every_s=0)).run())

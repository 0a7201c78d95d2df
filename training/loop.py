"""The loop that all trainers share: optimizer steps over micro-batches, on any number of devices, that can be resumed.

A trainer hands over which rows make up each step and a function from rows to shares of the loss. Here is everything
else, once: gradients summed over micro-batches and devices, clipped once, applied once; one line of metrics a step;
checkpoints; a stop where the loss is not a number.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from core.errors import PlumblineError
from training.checkpoint import Checkpoint
from training.devices import devices
from training.optimizer import clip_gradient, rate, set_rate
from training.progress import Bar
from training.recipe import OptimizerRecipe

METRICS = "metrics.jsonl"


class Diverged(PlumblineError):
    """The loss or the gradient is not a number any more; lower the learning rate."""


class StepMetrics(BaseModel):
    """A line of metrics.jsonl; each trainer adds its own figures. Means are over the step's rows by weight, whatever
    its split into micro-batches and over devices."""

    step: int
    loss: float
    gradient_norm: float
    """Before clipping."""
    rate: float
    """Relative to the peak learning rate."""
    tokens: int
    """That exist, without padding."""

    def shown(self) -> dict[str, float]:
        """What stands beside the progress bar."""
        return {name: getattr(self, name) for name in _SHOWN if hasattr(self, name)}


_SHOWN = ("loss", "accuracy", "kl", "reward")
S = TypeVar("S", bound=StepMetrics)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one micro-batch adds to its step. Each number is already divided by the weight of the whole step."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """Scalars that add up over micro-batches to the fields of the trainer's `StepMetrics`."""
    tokens: int


@dataclass(kw_only=True, slots=True)
class Loop(Generic[S]):
    """A training in progress: `for metrics in Loop(…).run(): …` yields after each optimizer step.

    Example:
        Loop(message="training the policy", step_type=DpoStep, optimizer=adamw(…), settings=recipe.dpo,
            steps=[[0, 5], [3, 1]], shares=objective.shares, out=options.out, checkpoint=checkpoint)
    """

    message: str
    step_type: type[S]
    optimizer: torch.optim.Optimizer
    settings: OptimizerRecipe
    steps: Sequence[Sequence[int]]
    """Rows of each optimizer step."""
    shares: Callable[[Sequence[int]], Sequence[Callable[[], Share]]]
    """Rows of a step → one function per micro-batch."""
    out: Path | None = None
    """Where metrics.jsonl is written; None keeps them in memory only."""
    checkpoint: Checkpoint | None = None
    share: tuple[float, float] = (0.0, 1.0)
    """The part of the program's progress that this loop covers."""

    def run(self) -> Iterator[S]:
        """Goes on where a checkpoint says, else from the beginning.

        Raises:
            Diverged: the loss or its gradient is not finite; nothing was updated.
        """
        metrics = self._resume()
        if self.out is not None and devices().first:
            write_metrics(self.out, metrics)
        yield from metrics
        started, tokens = time.monotonic(), 0
        with Bar(self.message, total=len(self.steps), share=self.share, done=len(metrics)) as bar:
            for number in range(len(metrics), len(self.steps)):
                metrics.append(self._step(number))
                self._write(metrics)
                tokens += metrics[-1].tokens
                bar.advance(**metrics[-1].shown(), **{"tokens/s": tokens / (time.monotonic() - started)})
                yield metrics[-1]

    def _step(self, number: int) -> S:
        here = devices()
        self.optimizer.zero_grad(set_to_none=False)
        parameters = _parameters(self.optimizer)
        for parameter in parameters:  # a device without a micro-batch in this step takes part in the sum with zeros
            parameter.grad = torch.zeros_like(parameter)
        names = ["loss", "tokens", *(self.step_type.model_fields.keys() - StepMetrics.model_fields.keys())]
        sums = torch.zeros(len(names), dtype=torch.float64, device=here.device)
        for compute in here.mine(self.shares(self.steps[number])):
            share = compute()
            share.loss.backward()
            values = {"loss": share.loss.detach(), "tokens": torch.tensor(share.tokens), **share.metrics}
            sums += torch.stack([values[name].to(sums) for name in names])
        here.sum_([*(parameter.grad for parameter in parameters), sums])
        means = dict(zip(names, sums.tolist(), strict=True))
        norm = clip_gradient(parameters, self.settings.clip)
        if not (math.isfinite(means["loss"]) and math.isfinite(norm)):
            raise Diverged(
                f"Step {number}: the loss is {means['loss']} and the norm of its gradient {norm}. "
                "No adapter was written; try a lower learning rate."
            )
        factor = rate(number, len(self.steps), self.settings)
        set_rate(self.optimizer, factor)
        self.optimizer.step()
        return self.step_type(step=number, gradient_norm=norm, rate=factor, **means)

    def _resume(self) -> list[S]:
        state = self.checkpoint.load() if self.checkpoint is not None else None
        if state is None:
            return []
        for parameter, value in zip(_parameters(self.optimizer), state["parameters"], strict=True):
            parameter.data.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        return [self.step_type.model_validate_json(line) for line in state["metrics"]]

    def _write(self, metrics: list[S]) -> None:
        if not devices().first:
            return
        if self.out is not None:
            write_metrics(self.out, metrics[-1:], append=True)
        if self.checkpoint is not None and (self.checkpoint.due() or len(metrics) == len(self.steps)):
            self.checkpoint.save(
                {
                    "parameters": [parameter.data for parameter in _parameters(self.optimizer)],
                    "optimizer": self.optimizer.state_dict(),
                    "metrics": [row.model_dump_json() for row in metrics],
                }
            )


def write_metrics(out: Path, rows: Sequence[StepMetrics], *, append: bool = False) -> None:
    """One line per optimizer step."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / METRICS).open("a" if append else "w", encoding="utf-8") as stream:
        stream.writelines(row.model_dump_json() + "\n" for row in rows)


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

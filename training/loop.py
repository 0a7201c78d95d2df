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
        return {name: value for name in _SHOWN if (value := getattr(self, name, None)) is not None}


_SHOWN = ("loss", "accuracy", "kl", "reward")
S = TypeVar("S", bound=StepMetrics)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What one micro-batch adds to its step. Each number is already divided by the weight of the whole step."""

    loss: Tensor
    metrics: Mapping[str, Tensor]
    """Scalars that add up over micro-batches to the fields of the trainer's `StepMetrics`; what is missing adds 0."""
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
    resumable_every: int = 1
    """Checkpoints come after multiples of so many steps: in between there may be state that a checkpoint lacks."""
    measure: Callable[[int], Mapping[str, float]] | None = None
    """Number of a step → what is measured after its update: fields of `step_type` that have a default."""

    def run(self) -> Iterator[S]:
        """Goes on where a checkpoint says, else from the beginning.

        Raises:
            Diverged: the loss or its gradient is not finite; nothing was updated.
        """
        metrics = self._resume()
        devices().wait()  # all have read the checkpoint before the first one replaces or removes it
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
        fields = self.step_type.model_fields
        own = [name for name, field in fields.items() if name not in StepMetrics.model_fields and field.is_required()]
        names = ["loss", "tokens", *own]  # in one order on all devices, which add them up by position
        sums = torch.zeros(len(names), dtype=torch.float64, device=here.device)
        shares = self.shares(self.steps[number])
        for compute in here.mine(shares):
            share = compute()
            share.loss.backward()
            values = {"loss": share.loss.detach(), "tokens": torch.tensor(share.tokens), **share.metrics}
            sums += torch.stack([values[name].to(sums) if name in values else sums.new_zeros(()) for name in names])
        for compute in here.spare(shares):  # a sharded base is gathered by all or by none
            (0.0 * compute().loss).backward()
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
        further = self.measure(number) if self.measure is not None else {}
        return self.step_type(step=number, gradient_norm=norm, rate=factor, **means, **further)

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
        whole = len(metrics) % self.resumable_every == 0
        if self.checkpoint is not None and ((whole and self.checkpoint.due()) or len(metrics) == len(self.steps)):
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

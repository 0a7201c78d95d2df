"""Proximal Policy Optimization of one role against a reward model, on completions of its own.

The nested loop of PPO (iterations, epochs, minibatches) is laid out flat: rollouts are numbered through all
iterations, and a step's rows say which rollouts it learns from. The first step that asks for an iteration's rollouts
has them sampled and scored, with the weights of that moment. So the shared loop does the rest.

A training can be killed at any time. Checkpoints are written between iterations, and an iteration's rollouts before its
first update, so that what a sampler drew is not drawn again.
"""

import dataclasses
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from training import ppo_losses
from training.advantages import next_beta
from training.checkpoint import Checkpoint
from training.data import collate, micro_batches, optimizer_steps
from training.devices import devices
from training.experience import (
    POLICY,
    Experience,
    Figures,
    completion_states,
    completion_tokens,
    experience,
)
from training.logprobs import token_logprobs
from training.loop import Loop, Share, StepMetrics
from training.losses import weighted_mean
from training.mix import Mix
from training.model import SharedBase
from training.optimizer import adamw
from training.recipe import Recipe
from training.reward_model import RewardModel
from training.rollouts import Rollout, Sampler
from training.value_model import ValueModel

ROLLOUTS, TIMINGS = "rollouts.json", "timings.jsonl"
log = logging.getLogger("plumbline.training")
_LARGEST_MISMATCH_P95, _LARGEST_CAPPED = 0.2, 0.05
_FIRST_RATIO_TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}
"""Batches of another shape round differently; a wrong temperature, adapter or mask is off by far more."""


class PpoStep(StepMetrics):
    """A line of metrics.jsonl: first the figures of the whole iteration (`experience.Figures`), then the update's."""

    reward: float
    kl: float
    kl_exact: float
    length: float
    ended: float
    explained_variance: float
    beta: float
    mismatch: float
    mismatch_p95: float
    capped: float
    policy_loss: float
    value_loss: float
    ratio: float
    """π / π_old, mean over tokens."""
    clipped: float
    """Share of tokens that gave no gradient."""
    mix_nll: float
    """Of --mix-sft's demonstrations, per token; 0 without them."""
    approximate_kl: float
    """To the policy that sampled: ½ (log-ratio)², mean over tokens."""


class StoredRollouts(BaseModel):
    """`rollouts.json`: what the sampler drew for the iteration under way."""

    identity: str
    """Of the training."""
    iteration: int
    rollouts: list[Rollout]


@dataclass(kw_only=True, slots=True)
class Iterations:
    """The rollouts of one iteration after the other, made when they are first asked for."""

    base: SharedBase
    prompts: Sequence[list[int]]
    reward: RewardModel
    value: ValueModel | None
    recipe: Recipe
    reference: str | None
    sampler: Sampler
    own_sampler: bool
    out: Path | None = None
    identity: str = ""
    history: list[PpoStep] = field(default_factory=list)
    """Every step so far: an adaptive beta follows from it."""
    _current: tuple[int, Experience] | None = None
    _sampled: float = 0.0

    def shares(self, rows: Sequence[int]) -> list[Callable[[], Share]]:
        """The step's loss in micro-batches; `rows` are rollouts of one iteration."""
        settings = self.recipe.ppo
        iteration = rows[0] // settings.rollouts
        first = self._current is None or self._current[0] != iteration
        if first:
            self._current = (iteration, self._make(iteration))
        assert self._current is not None
        found = self._current[1]
        local = [row - iteration * settings.rollouts for row in rows]
        groups = micro_batches([len(text) for text in found.texts], local, tokens=self.recipe.micro_batch_tokens)
        tokens = sum(len(found.texts[row].completion) for row in local)
        part = partial(_share, self.base, self.value, found, self.recipe, tokens, len(local), unchanged=first)
        return [partial(part, group) for group in groups]

    def _make(self, iteration: int) -> Experience:
        started = time.monotonic()
        rollouts = self._rollouts(iteration)
        sampled = time.monotonic()
        found = experience(
            self.base,
            rollouts,
            self.reward,
            self.value,
            self.recipe,
            reference=self.reference,
            beta=self._beta(),
            own_sampler=self.own_sampler,
        )
        scored = time.monotonic()
        if not self.own_sampler:
            _watch(found.figures)
        tokens = sum(len(rollout.text.completion) for rollout in rollouts)
        self._log_times(iteration, tokens, started=started, sampled=sampled, scored=scored)
        return found

    def _rollouts(self, iteration: int) -> list[Rollout]:
        """Those that a killed attempt sampled for this iteration, else new ones, written down before they are used."""
        here = devices()
        stored = here.agree(self._stored(iteration) if here.first else None)
        if stored is not None:
            return stored
        settings = self.recipe.ppo
        group = 1 if settings.advantage == "gae" else settings.group
        asked = drawn_prompts(self.prompts, settings.rollouts // group, seed=self.recipe.seed, iteration=iteration)
        repeated = [prompt for prompt in asked for _ in range(group)]
        size = -(-len(repeated) // here.count)
        mine = repeated[here.rank * size : (here.rank + 1) * size]
        seed = _seed(self.recipe, iteration) * here.count + here.rank
        rollouts = here.gather(self.sampler(mine, seed) if mine else [])
        if self.out is not None and here.first:
            drawn = StoredRollouts(identity=self.identity, iteration=iteration, rollouts=rollouts)
            _write_durably(self.out / ROLLOUTS, drawn.model_dump_json())
        return rollouts

    def _stored(self, iteration: int) -> list[Rollout] | None:
        if self.out is None or not (self.out / ROLLOUTS).exists():
            return None
        found = StoredRollouts.model_validate_json((self.out / ROLLOUTS).read_text(encoding="utf-8"))
        same = (found.identity, found.iteration) == (self.identity, iteration)
        return found.rollouts if same else None

    def _beta(self) -> float:
        settings = self.recipe.ppo
        if settings.kl_target is None or not self.history:
            return settings.beta
        last = self.history[-1]
        return next_beta(
            last.beta, last.kl, target=settings.kl_target, horizon=settings.kl_horizon, rollouts=settings.rollouts
        )

    def _log_times(self, iteration: int, tokens: int, *, started: float, sampled: float, scored: float) -> None:
        """Seconds of each part; a line of its own file, since no two runs take the same time."""
        update, self._sampled = started - self._sampled if self._sampled else None, scored
        if self.out is not None and devices().first:
            line = {"iteration": iteration, "tokens": tokens, "previous_update_s": update}
            line |= {"sampling_s": sampled - started, "scoring_s": scored - sampled}
            with (self.out / TIMINGS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def fit(
    iterations: Iterations, *, mix: Mix | None = None, out: Path | None = None, checkpoint: Checkpoint | None = None
) -> list[PpoStep]:
    """Trains the role `policy`, which must be on the base, and the critic.

    Args:
        mix: demonstrations to learn from besides.
        out: where metrics.jsonl is written.
    """
    recipe, base, value = iterations.recipe, iterations.base, iterations.value
    settings = recipe.ppo
    groups: list[tuple[Iterable[nn.Parameter], float]] = [(base.parameters(POLICY).values(), settings.learning_rate)]
    if value is not None:
        groups.append((value.parameters(), settings.value_learning_rate))
    steps = list(_steps(recipe))
    loop = Loop(
        message="training the policy",
        step_type=PpoStep,
        optimizer=adamw(groups, settings),
        settings=settings,
        steps=steps,
        shares=mix.beside(iterations.shares) if mix is not None else iterations.shares,
        out=out,
        checkpoint=checkpoint,
        resumable_every=len(steps) // settings.iterations,
    )
    for metrics in loop.run():
        iterations.history.append(metrics)
        whole = len(iterations.history) % loop.resumable_every == 0
        if whole and settings.kl_stop is not None and metrics.kl > settings.kl_stop:
            break
    return iterations.history


def drawn_prompts(prompts: Sequence[list[int]], count: int, *, seed: int, iteration: int) -> list[list[int]]:
    """The prompts of an iteration: all of them in random order, then all of them again in another."""
    found: list[list[int]] = []
    turn, skip = divmod(iteration * count, len(prompts))
    while len(found) < count:
        order = random.Random(f"{seed}/{turn}").sample(range(len(prompts)), len(prompts))
        found += [prompts[i] for i in order[skip : skip + count - len(found)]]
        turn, skip = turn + 1, 0
    return found


def _steps(recipe: Recipe) -> Iterator[list[int]]:
    """Rollouts of each optimizer step, numbered through all iterations."""
    settings = recipe.ppo
    for iteration in range(settings.iterations):
        seed = _seed(recipe, iteration)
        for rows in optimizer_steps(settings.rollouts, batch=settings.batch_rows, epochs=settings.epochs, seed=seed):
            yield [iteration * settings.rollouts + row for row in rows]


def _seed(recipe: Recipe, iteration: int) -> int:
    return recipe.seed * 1_000_003 + iteration


def _share(
    base: SharedBase,
    value: ValueModel | None,
    found: Experience,
    recipe: Recipe,
    tokens: int,
    rows: int,
    group: Sequence[int],
    *,
    unchanged: bool,
) -> Share:
    """One forward pass over some rollouts.

    Args:
        tokens: completion tokens of the whole step.
        rows: rollouts of the whole step.
        unchanged: the policy is still the one that the old log-probs are of.
    """
    settings = recipe.ppo
    batch = collate([found.texts[row] for row in group], device=base.device)
    with base.acting(POLICY), base.autocast():
        logprobs = token_logprobs(completion_states(base, batch), base.head, completion_tokens(batch))
    mask = found.mask[group]
    old, gains, weights = (tensor[group][mask] for tensor in (found.old_logprobs, found.advantages, found.weights))
    ratio = ppo_losses.ratio(logprobs, old)
    if unchanged:
        _check_first_ratio(ratio.detach(), base.precision)

    def mean(values: Tensor) -> Tensor:
        return weighted_mean(values, torch.ones_like(values), tokens)

    policy = mean(weights * ppo_losses.policy_loss(logprobs, old, gains, clip=settings.clip_range))
    critic = torch.zeros_like(policy)
    if value is not None:
        values = value(torch.cat([found.states[row] for row in group]))
        old_values, returns = found.old_values[group][mask], found.returns[group][mask]
        critic = mean(ppo_losses.value_loss(values, old_values, returns, clip=settings.value_clip))
    clipped = ppo_losses.is_clipped(logprobs, old, gains, clip=settings.clip_range)
    figures = {name: torch.tensor(number * len(group) / rows, dtype=torch.float64) for name, number in _numbers(found)}
    metrics = {
        "policy_loss": policy,
        "value_loss": critic,
        "ratio": mean(ratio),
        "clipped": mean(clipped.float()),
        "approximate_kl": mean(0.5 * (logprobs - old).square()),
    }
    return Share(
        loss=policy + settings.value_coef * critic,
        metrics=figures | {name: value.detach() for name, value in metrics.items()},
        tokens=sum(len(found.texts[row]) for row in group),
    )


def _watch(figures: Figures) -> None:
    """Sampler and trainer never agree to the last bit; what is far off is another template, temperature or adapter."""
    if figures.mismatch_p95 > _LARGEST_MISMATCH_P95 or figures.capped > _LARGEST_CAPPED:
        log.warning(
            "the sampler's log-probs are not the trainer's: 95 %% of tokens within %.3g, %.1f %% of weights capped",
            figures.mismatch_p95,
            100 * figures.capped,
        )


def _numbers(found: Experience) -> list[tuple[str, float]]:
    return list(dataclasses.asdict(found.figures).items())


def _check_first_ratio(ratio: Tensor, precision: str) -> None:
    """Before the first update the policy is the one that sampled; anything else is a mistake of ours."""
    off = (ratio - 1).abs().mean().item()
    assert off <= _FIRST_RATIO_TOLERANCE[precision], f"the first ratio is off by {off}"


def _write_durably(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)

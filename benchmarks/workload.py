"""What both sides of a benchmark are given: a model directory, rows of token ids in their order, one start.

Rows are handed over as ids, so neither side's tokenizer is in the timed region, and in optimizer steps, so both train
on the same rows in each. For DPO and the reward model they are random tokens: nothing that is measured there depends
on what they say. PPO samples its own, so it is measured on a base that ends its answers as the demo's does.
"""

import random
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Task = Literal["dpo", "reward", "ppo"]
Shape = Literal["short", "long", "usual", "endless"]
"""Of DPO and the reward model the first two; of PPO the last two: answers end as they do, or none ends early."""
Options = dict[str, str | int | bool]
SEED = 0
"""Of the adapter, of the head and of the order of rows."""


class Row(BaseModel):
    """A preference pair as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class Work(BaseModel):
    """One timed run, as a worker process reads it from a file."""

    model_config = ConfigDict(frozen=True)

    task: Task
    model: Path
    start: Path
    """Directory with the adapter (and, for `reward` and `ppo`, the head) that ours draws from `SEED`, for the other
    side."""
    rank: int
    alpha: int
    learning_rate: float
    threads: int
    batch_rows: int
    """Pairs or rollouts in an optimizer step."""
    options: Options = {}
    """Of one side only: how it is configured."""


class PairWork(Work):
    """Preference pairs, one epoch."""

    rows: list[Row]
    """In the order of training."""


class PpoWork(Work):
    """Whole iterations of PPO: sampling, scoring, updating."""

    prompts: list[list[int]]
    """Each is answered once; `rollouts` of them make an iteration."""
    rollouts: int
    epochs: int
    response_length: int
    endless: bool
    """No token ends an answer."""


class Outcome(BaseModel):
    """What a worker writes down."""

    losses: list[float] = []
    """Of each optimizer step; PPO's depend on what was sampled and are left out."""
    scores: list[float] = []
    """PPO: mean score of each iteration's rollouts by the reward model."""
    ended: list[float] = []
    """PPO: share of each iteration's answers that ended."""
    kl: list[float] = []
    """PPO: nats a completion, to the reference, before each iteration's update."""
    seconds: float
    """Reference log-probs and training; not loading, not building the trainer."""
    processor_seconds: float
    """The same in processor time: on a busy machine it shows whether the clock can be believed."""
    peak_bytes: int
    """Peak memory beyond what the process held with its models loaded."""
    count: int
    """Pairs, or rollouts."""
    versions: dict[str, str]


def rows(shape: Shape, count: int, *, vocabulary: int, eos: int, seed: int = 0) -> list[Row]:
    """Random pairs.

    Args:
        shape: `short` is chat as the demo's people write it (prompts of 8 to 24 tokens, answers of 4 to 60 with a
            median of 18); `long` has prompts of 192 to 320 tokens and answers of a quarter of that.
    """
    rng = random.Random(seed)

    def ids(length: int) -> list[int]:
        return [rng.randrange(8, vocabulary) for _ in range(length)]

    def answer() -> list[int]:
        length = rng.lognormvariate(2.9, 0.6) if shape == "short" else rng.uniform(48, 80)
        return [*ids(min(60, max(4, int(length))) if shape == "short" else int(length)), eos]

    prompt = (8, 24) if shape == "short" else (192, 320)
    return [Row(prompt=ids(rng.randint(*prompt)), chosen=answer(), rejected=answer()) for _ in range(count)]

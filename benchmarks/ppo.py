"""What PPO is timed on: the demo's base, its prompts, and a limit of tokens that it seldom reaches.

Both sides sample for themselves, so their runs cannot be the same to the last digit. What is checked instead: before
the first update the mean score of the rollouts and the share that ended are what the base gives on a larger sample
(within four standard errors), and the KL to the reference is zero. That the rest of the arithmetic is TRL's is what
tests/parity checks.
"""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from benchmarks import peers
from benchmarks.contest import Candidate, Contest
from benchmarks.models import PADDING
from benchmarks.workload import SEED, Outcome, PpoWork, Shape
from lab.base_config import load_config
from lab.base_model import ensure_base_model
from lab.world import sample_prompts
from training.data import Text
from training.encoder import Encoder
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe, SamplingRecipe
from training.reward_model import RewardModel
from training.rollouts import sample

ROLLOUTS, MINIBATCH, EPOCHS, ITERATIONS = 128, 64, 2, 2
"""As the demo trains, but for the number of iterations."""
LEARNING_RATE = 1e-3
_LONGEST, _SAMPLES, _SURE = 256, 2, 4.0
_TUNED = {"bf16": False, "gradient_checkpointing": False, "critic": "head"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """Of one rollout of the base."""

    score: float
    score_sd: float
    ended: float


def contests(home: Path, scratch: Path, *, threads: int, full: bool) -> list[Contest]:
    """Both response lengths.

    Args:
        home: the demo's base is taken from here, or built (two minutes).
        scratch: the reward model is written here.
    """
    directory = ensure_base_model(home, load_config())
    base = load_base(directory, base_sha256="benchmark")
    encoder = Encoder(directory, base.eos_ids)
    drawn = sample_prompts(random.Random(SEED), ROLLOUTS * ITERATIONS * (5 if full else 1), held_out=None)
    prompts = [encoder.prompt([{"role": "user", "content": prompt.text}]) for prompt in drawn]
    lora = LoraRecipe()
    base.add_fresh("reward", lora, seed=SEED)
    reward = RewardModel(base, "last", seed=SEED)
    reward.save(scratch / "ppo")
    lengths = sorted(len(text.completion) for text in _sampled(base, prompts, _LONGEST))
    limit = lengths[int(0.99 * len(lengths))]
    found = []
    for shape, ends in (("usual", base.eos_ids), ("endless", [PADDING])):
        base.eos_ids = ends
        work = PpoWork(
            task="ppo",
            model=directory,
            start=scratch / "ppo",
            rank=lora.rank,
            alpha=lora.alpha,
            learning_rate=LEARNING_RATE,
            threads=threads,
            batch_rows=MINIBATCH,
            prompts=prompts,
            rollouts=ROLLOUTS,
            epochs=EPOCHS,
            response_length=limit,
            endless=shape == "endless",
        )
        found.append(_contest(shape, work, _expected(base, reward, prompts, limit)))
    return found


def _contest(shape: Shape, work: PpoWork, expected: Expected) -> Contest:
    return Contest(
        task="ppo",
        shape=shape,
        model="demo",
        ours=work.model_copy(update={"options": {"attention": "sdpa"}}),
        theirs=work,
        pilot=work.model_copy(update={"prompts": work.prompts[:ROLLOUTS]}),
        candidates=[
            Candidate(
                version=peers.LAST_PPO,
                options={**_TUNED, "attention": attention, "local_rollout_forward_batch_size": rows},
            )
            for attention, rows in product(("sdpa", "eager"), (64, ROLLOUTS))
        ],
        default=Candidate(version=peers.LAST_PPO, options={"attention": "sdpa", "bf16": False, "critic": "full"}),
        check=partial(_same_start, expected, work),
    )


def _same_start(expected: Expected, work: PpoWork, ours: Outcome, theirs: Outcome) -> float:
    """How far apart the mean scores of the first iterations are, in standard errors.

    Raises:
        SystemExit: a side's first iteration is not what this base and this reward model give.
    """
    score_error = expected.score_sd / work.rollouts**0.5
    ended_error = (max(expected.ended * (1 - expected.ended), 0.01) / work.rollouts) ** 0.5
    for side, run in (("ours", ours), ("theirs", theirs)):
        off = [abs(run.scores[0] - expected.score) / score_error]
        if not work.endless:
            off.append(abs(run.ended[0] - expected.ended) / ended_error)
        if max(off) > _SURE or abs(run.kl[0]) > 0.01:
            raise SystemExit(f"PPO, {side}: {run} does not begin as {expected} says")
    return abs(ours.scores[0] - theirs.scores[0]) / score_error


def _expected(base: SharedBase, reward: RewardModel, prompts: Sequence[list[int]], limit: int) -> Expected:
    texts = _sampled(base, prompts, limit)
    scores = reward.score(texts).tolist()
    ended = [text.completion[-1] in base.eos_ids for text in texts]
    return Expected(score=statistics.mean(scores), score_sd=statistics.stdev(scores), ended=statistics.mean(ended))


def _sampled(base: SharedBase, prompts: Sequence[list[int]], limit: int) -> list[Text]:
    recipe = SamplingRecipe(max_new_tokens=limit, batch_size=ROLLOUTS)
    return sample(base, None, list(prompts) * _SAMPLES, recipe, seed=SEED + 1)

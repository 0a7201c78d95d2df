"""Our side: runs pieces of work with Plumbline's trainers (benchmarks/worker.py starts it)."""

import json
from typing import Any

import torch
import transformers

from benchmarks.meter import Memory, Stopwatch
from benchmarks.worker import serve
from benchmarks.workload import SEED, Outcome, PairWork, PpoWork, Work
from training import dpo_fit, ppo_fit, reward_fit
from training.data import Pair, Text
from training.experience import POLICY
from training.model import SharedBase, load_base
from training.recipe import DpoRecipe, LoraRecipe, PpoRecipe, Recipe, RewardRecipe, SamplingRecipe
from training.reward_model import RewardModel
from training.rollouts import roll_out
from training.value_model import ValueModel

VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__}
_NEVER = 0
"""The padding token: no base ever says it, so as an end-of-text token it ends nothing."""


def run(text: str) -> Outcome:
    if json.loads(text)["task"] == "ppo":
        return run_ppo(PpoWork.model_validate_json(text))
    return run_pairs(PairWork.model_validate_json(text))


def run_pairs(work: PairWork) -> Outcome:
    base = _base(work)
    pairs = [
        Pair(
            chosen=Text(prompt=row.prompt, completion=row.chosen),
            rejected=Text(prompt=row.prompt, completion=row.rejected),
            tie=False,
            weight=1.0,
        )
        for row in work.rows
    ]
    step = _step(work)
    recipe = _recipe(
        work,
        dpo=DpoRecipe(**step, kl_samples=0),
        reward=RewardRecipe(**step, head="last", head_learning_rate=work.learning_rate, centering=0.0),
    )
    memory, watch = Memory(), Stopwatch()
    memory.start()
    with watch.running():
        if work.task == "dpo":
            base.add_fresh(dpo_fit.POLICY, recipe.lora, seed=SEED)
            losses = [metrics.loss for metrics in dpo_fit.fit(base, pairs, recipe, seed=SEED, reference=None)]
        else:
            losses = [metrics.loss for metrics in reward_fit.fit(base, pairs, recipe, seed=SEED)[1]]
    return Outcome(
        losses=losses,
        seconds=watch.seconds,
        processor_seconds=watch.processor,
        peak_bytes=memory.peak(),
        count=len(pairs),
        versions=VERSIONS,
    )


def run_ppo(work: PpoWork) -> Outcome:
    base = _base(work)
    if work.endless:
        base.eos_ids = [_NEVER]
    recipe = _recipe(
        work,
        ppo=PpoRecipe(
            **_step(work),
            value_learning_rate=work.learning_rate,
            iterations=len(work.prompts) // work.rollouts,
            rollouts=work.rollouts,
            epochs=work.epochs,
            missing_eos_penalty=0.0,
        ),
        sampling=SamplingRecipe(max_new_tokens=work.response_length, batch_size=work.rollouts),
    )
    base.add_fresh(POLICY, recipe.lora, seed=SEED)
    iterations = ppo_fit.Iterations(
        base=base,
        prompts=work.prompts,
        reward=_reward(work, base),
        value=ValueModel(base.head.shape[1], seed=SEED),
        recipe=recipe,
        reference=None,
        sampler=lambda prompts, seed: roll_out(base, POLICY, prompts, recipe.sampling, seed=seed),
        own_sampler=True,
    )
    memory, watch = Memory(), Stopwatch()
    memory.start()
    with watch.running():
        steps = ppo_fit.fit(iterations)
    firsts = steps[:: len(steps) // recipe.ppo.iterations]
    return Outcome(
        scores=[step.reward for step in firsts],
        ended=[step.ended for step in firsts],
        kl=[step.kl for step in firsts],
        seconds=watch.seconds,
        processor_seconds=watch.processor,
        peak_bytes=memory.peak(),
        count=len(work.prompts),
        versions=VERSIONS,
    )


def _base(work: Work) -> SharedBase:
    torch.set_num_threads(work.threads)
    return load_base(work.model, base_sha256="benchmark", precision="float32", attention=str(work.options["attention"]))


def _reward(work: Work, base: SharedBase) -> RewardModel:
    """The stored adapter and head, unscaled."""
    model = RewardModel(base, "last", seed=SEED)
    (member,) = model.members
    base.load(member.role, work.start)
    member.load(work.start)
    return model


def _step(work: Work) -> dict[str, Any]:
    """A constant learning rate and no warm-up, as the other side is told too."""
    return {"batch_rows": work.batch_rows, "learning_rate": work.learning_rate, "warmup": 0.0, "final_rate": 1.0}


def _recipe(work: Work, **tables: Any) -> Recipe:
    """Everything else as a user gets it: how rows are split into micro-batches is the trainers' own choice."""
    return Recipe(threads=work.threads, max_length=1 << 20, lora=LoraRecipe(rank=work.rank, alpha=work.alpha), **tables)


if __name__ == "__main__":
    serve(run)

"""python -m training.ppo: prompts and a reward model → a candidate adapter, by Proximal Policy Optimization.

The policy answers prompts, the reward model scores the answers, the policy moves towards what scored well, and a KL
term holds it to --reference (default: the base). Of a snapshot only prompts of the optimize fold are used. Writes
OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, timings.jsonl, config.json.
"""

import argparse
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import UsageError
from training import program

if TYPE_CHECKING:
    from training.job import Job
    from training.rollouts import Sampler


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of prompts (.jsonl, .parquet)"
    arguments = program.policy_parser("ppo", __doc__, data=data, reference="base")
    arguments.add_argument("--reward", type=program.reward_directory, required=True, help="a trained reward model")
    arguments.add_argument(
        "--rollout",
        choices=("hf", "vllm"),
        help="what samples: the trainer's own model, or vLLM (default on a GPU, if vLLM has LoRA for the model)",
    )
    options = program.parse(arguments, argv)
    if options.recipe.shard:
        raise UsageError("PPO cannot shard the base: each process samples at a pace of its own. Leave shard out.")
    train(options)


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, write."""
    # Between two iterations is where a training can go on: one checkpoint each, however often the recipe wants them.
    options.recipe = options.recipe.model_copy(update={"checkpoint_s": 0.0})
    program.prepare(options.recipe)
    from training import experience, ppo_fit, rollout_inputs  # torch: only now, when the arguments are right
    from training.checkpoint import identity_of
    from training.job import begin
    from training.mix import mix_of
    from training.value_model import ValueModel

    rollout = sampled_by(options)
    job = begin("ppo", options, reward=rollout_inputs.digests(options.reward), rollout=rollout)
    recipe, base = job.recipe, job.base
    prompts, dropped = rollout_inputs.prompts_of(job)
    reward = rollout_inputs.reward_of(job, options.reward)
    reference = job.add_policy(experience.POLICY, experience.REFERENCE)
    value = None
    if recipe.ppo.advantage == "gae":
        value = ValueModel(base.head.shape[1], seed=recipe.seed).to(base.device)
    with _sampler(rollout, job, options) as sampler:
        iterations = ppo_fit.Iterations(
            base=base,
            prompts=prompts,
            reward=reward,
            value=value,
            recipe=recipe,
            reference=reference,
            sampler=sampler,
            own_sampler=rollout == "hf",
            out=job.out,
            identity=identity_of(**job.config),
        )
        ppo_fit.fit(iterations, mix=mix_of(job, options.mix_sft), out=job.out, checkpoint=job.checkpoint)
    base.save(experience.POLICY, job.out)
    job.finish(precision=base.precision, prompts=len(prompts), dropped=dropped)
    (job.out / ppo_fit.ROLLOUTS).unlink(missing_ok=True)


def sampled_by(options: argparse.Namespace) -> str:
    """`hf` or `vllm`: as asked, else vLLM on a GPU, for models that take adapters there.

    Raises:
        UsageError: vLLM is asked for, and the model does not.
    """
    import torch

    if options.rollout == "hf" or (options.rollout is None and not torch.cuda.is_available()):
        return "hf"
    from training.vllm_rollouts import takes_adapters

    if takes_adapters(options.base):
        return "vllm"
    if options.rollout == "vllm":
        raise UsageError("vLLM has no LoRA for this model's class; use --rollout hf.")
    return "hf"


@contextmanager
def _sampler(rollout: str, job: "Job", options: argparse.Namespace) -> Iterator["Sampler"]:
    from training.experience import POLICY
    from training.rollouts import roll_out

    base, recipe = job.base, job.recipe
    if rollout == "hf":
        yield lambda prompts, seed: roll_out(base, POLICY, prompts, recipe.sampling, seed=seed)
    else:
        from training.vllm_rollouts import vllm_sampler

        # A training that goes on must not draw again what it drew at its beginning: an engine's seed is its own.
        seed = secrets.randbelow(2**31)
        with vllm_sampler(base, POLICY, options.base, recipe, seed=seed) as sampler:
            yield sampler


if __name__ == "__main__":
    program.run(main)

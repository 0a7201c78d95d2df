"""python -m training.dpo: preference pairs → a candidate adapter, by Direct Preference Optimization.

The candidate starts from --init-adapter (design §6: the live adapter) with a fresh optimizer; --reference is what its
KL is held to. With --on-policy the pairs are the policy's own answers, ranked by a reward model. Writes
OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, config.json.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import UsageError
from training import program
from training.program import Skipped

if TYPE_CHECKING:
    from training.dpo_fit import DpoStep
    from training.job import Job


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of preferences; with --on-policy, of prompts (.jsonl, .parquet)"
    arguments = program.policy_parser("dpo", __doc__, data=data, reference="init")
    arguments.add_argument(
        "--on-policy",
        type=program.several,
        metavar="N",
        help="learn from the best and the worst of N answers of the policy itself, drawn anew in each epoch",
    )
    arguments.add_argument("--reward", type=program.reward_directory, help="the reward model that ranks them")
    options = program.parse(arguments, argv)
    if (options.on_policy is None) != (options.reward is None):
        raise UsageError("--on-policy and --reward go together: one draws answers, the other ranks them.")
    train(options)


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, write."""
    program.prepare(options.recipe)
    from training import dpo_fit, rollout_inputs  # torch: only now, when the arguments are known to be right
    from training.job import begin

    reward = rollout_inputs.digests(options.reward) if options.reward is not None else None
    job = begin("dpo", options, on_policy=options.on_policy, reward=reward)
    metrics, facts = (_from_votes if options.on_policy is None else _on_policy)(job, options)
    first = metrics[0].preference_loss
    at_reference = dpo_fit.starts_at_reference(metrics, job.recipe.dpo)
    assert not job.starts_at_anchor or at_reference, f"the first loss is {first}, not that of a margin of 0"
    job.base.save(dpo_fit.POLICY, job.out)
    job.finish(precision=job.base.precision, **facts)


def _from_votes(job: "Job", options: argparse.Namespace) -> tuple[list["DpoStep"], dict[str, object]]:
    """Fits to the pairs of `--data`.

    Raises:
        Skipped: they teach no preference.
    """
    from training import data, dpo_fit, sources
    from training.mix import mix_of

    recipe = job.recipe
    pairs, dropped = data.usable(sources.policy_pairs(job.data, job.encoder), max_length=recipe.max_length)
    if reason := data.nothing_to_learn(pairs, minimum=recipe.min_policy_rows):
        raise Skipped(reason)
    reference = job.add_policy(dpo_fit.POLICY, dpo_fit.REFERENCE)
    metrics = dpo_fit.fit(
        job.base,
        pairs,
        recipe,
        seed=recipe.seed,
        reference=reference,
        mix=mix_of(job, options.mix_sft),
        out=job.out,
        checkpoint=job.checkpoint,
    )
    return metrics, {"pairs": len(pairs), "dropped": dropped}


def _on_policy(job: "Job", options: argparse.Namespace) -> tuple[list["DpoStep"], dict[str, object]]:
    """Fits to the policy's own answers to the prompts of `--data`."""
    from training import dpo_fit, on_policy, rollout_inputs
    from training.mix import mix_of

    prompts, dropped = rollout_inputs.prompts_of(job)
    reward = rollout_inputs.reward_of(job, options.reward)
    reference = job.add_policy(dpo_fit.POLICY, dpo_fit.REFERENCE)
    epochs = on_policy.Epochs(
        base=job.base, prompts=prompts, reward=reward, recipe=job.recipe, reference=reference, n=options.on_policy
    )
    metrics = on_policy.fit(epochs, mix=mix_of(job, options.mix_sft), out=job.out, checkpoint=job.checkpoint)
    return metrics, {"prompts": len(prompts), "dropped": {"overlong": dropped} if dropped else {}}


if __name__ == "__main__":
    program.run(main)

"""python -m training.sft: demonstrations → an adapter, by supervised fine-tuning.

Demonstrations are a file's, or the corrections that raters made of served answers. With --from-best-of they are made:
of N answers of the policy to each prompt the one that a reward model likes most (rejection sampling). Writes
OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, config.json.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import UsageError
from training import program
from training.program import Skipped

if TYPE_CHECKING:
    from training.data import Demonstration
    from training.job import Job


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot or a file of messages; with --from-best-of, of prompts (.jsonl, .parquet)"
    arguments = program.policy_parser("sft", __doc__, data=data, reference=None)
    arguments.add_argument(
        "--from-best-of", type=program.several, metavar="N", help="imitate the best of N own answers to each prompt"
    )
    arguments.add_argument("--reward", type=program.reward_directory, help="the reward model that chooses them")
    options = program.parse(arguments, argv)
    if (options.from_best_of is None) != (options.reward is None):
        raise UsageError("--from-best-of and --reward go together: one draws answers, the other chooses.")
    train(options)


def train(options: argparse.Namespace) -> None:
    """The whole program: read or make demonstrations, refuse too few, fit, write."""
    program.prepare(options.recipe)
    from training import data, rollout_inputs, sft_fit  # torch: only now, when the arguments are right
    from training.job import begin

    reward = rollout_inputs.digests(options.reward) if options.reward is not None else None
    job = begin("sft", options, from_best_of=options.from_best_of, reward=reward)
    recipe = job.recipe
    job.add_policy(sft_fit.POLICY, sft_fit.REFERENCE)
    found = _given(job) if options.from_best_of is None else _best_of_n(job, options)
    rows, dropped = data.usable_texts(found, max_length=recipe.max_length)
    if len(rows) < recipe.min_policy_rows:
        raise Skipped(f"{len(rows)} usable demonstrations; the recipe asks for {recipe.min_policy_rows}")
    sft_fit.fit(job.base, rows, recipe, seed=recipe.seed, reference=None, out=job.out, checkpoint=job.checkpoint)
    job.base.save(sft_fit.POLICY, job.out)
    job.finish(precision=job.base.precision, demonstrations=len(rows), dropped=dropped)


def _given(job: "Job") -> "list[Demonstration]":
    """Those of `--data`: raters' corrections, or a file."""
    from training import sources
    from training.encoder import Encoder

    base = job.base
    encoder = job.encoder or Encoder(job.base_directory, base.eos_ids, window=base.context_length)
    return sources.policy_demonstrations(job.data, encoder)


def _best_of_n(job: "Job", options: argparse.Namespace) -> "list[Demonstration]":
    from training import rollout_inputs, sft_fit
    from training.best_of_n import draw
    from training.data import Demonstration

    prompts, _ = rollout_inputs.prompts_of(job)
    judge = rollout_inputs.reward_of(job, options.reward)
    seed = job.recipe.seed
    draws = draw(job.base, sft_fit.POLICY, prompts, judge, job.recipe, n=options.from_best_of, seed=seed)
    return [Demonstration(text=text, weight=1.0) for text in draws.at(draws.scores.argmax(1))]


if __name__ == "__main__":
    program.run(main)

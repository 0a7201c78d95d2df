"""python -m training.dpo: preference pairs → a candidate adapter, by Direct Preference Optimization.

The candidate starts from --init-adapter (design §6: the live adapter) with a fresh optimizer; --reference is what its
KL is held to. Writes OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, config.json.
"""

import argparse
from collections.abc import Sequence

from training import program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of preferences (.jsonl, .parquet)"
    train(program.parse(program.policy_parser("dpo", __doc__, data=data, reference="init"), argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, write."""
    program.prepare(options.recipe)
    from training import data, dpo_fit, sources  # torch: only now, when the arguments are known to be right
    from training.job import begin

    job = begin("dpo", options)
    recipe = job.recipe
    pairs, dropped = data.usable(sources.policy_pairs(job.data, job.encoder), max_length=recipe.max_length)
    if reason := data.nothing_to_learn(pairs, minimum=recipe.min_policy_rows):
        raise Skipped(reason)
    reference = job.add_policy(dpo_fit.POLICY, dpo_fit.REFERENCE)
    metrics = dpo_fit.fit(
        job.base, pairs, recipe, seed=recipe.seed, reference=reference, out=job.out, checkpoint=job.checkpoint
    )
    first = metrics[0].preference_loss
    assert not job.starts_at_anchor or dpo_fit.starts_at_reference(metrics), f"the first loss is {first}, not ln 2"
    job.base.save(dpo_fit.POLICY, job.out)
    job.finish(precision=job.base.precision, pairs=len(pairs), dropped=dropped)


if __name__ == "__main__":
    program.run(main)

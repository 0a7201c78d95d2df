"""python -m training.kto: thumbs → a candidate adapter, by Kahneman–Tversky Optimization.

The candidate starts from --init-adapter (design §6: the live adapter) with a fresh optimizer; --reference is what its
KL is held to. Writes OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, config.json.
"""

import argparse
from collections.abc import Sequence

from training import program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of unpaired feedback (.jsonl, .parquet)"
    train(program.parse(program.policy_parser("kto", __doc__, data=data, reference="init"), argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, write."""
    program.prepare(options.recipe)
    from training import data, kto_fit, sources  # torch: only now, when the arguments are known to be right
    from training.job import begin
    from training.mix import mix_of

    job = begin("kto", options)
    recipe = job.recipe
    thumbs, dropped = data.usable_texts(sources.policy_thumbs(job.data, job.encoder), max_length=recipe.max_length)
    if len(thumbs) < max(recipe.min_policy_rows, recipe.kto.batch_rows):
        raise Skipped(f"{len(thumbs)} usable thumbs; the recipe asks for {recipe.min_policy_rows}, and for one batch")
    if len({thumb.up for thumb in thumbs}) == 1:
        raise Skipped(f"every thumb points {'up' if thumbs[0].up else 'down'}: nothing is said to be better")
    reference = job.add_policy(kto_fit.POLICY, kto_fit.REFERENCE)
    kto_fit.fit(
        job.base,
        thumbs,
        recipe,
        seed=recipe.seed,
        reference=reference,
        mix=mix_of(job, options.mix_sft),
        out=job.out,
        checkpoint=job.checkpoint,
    )
    job.base.save(kto_fit.POLICY, job.out)
    job.finish(precision=job.base.precision, thumbs=len(thumbs), dropped=dropped)


if __name__ == "__main__":
    program.run(main)

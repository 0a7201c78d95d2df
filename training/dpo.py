"""python -m training.dpo: a snapshot and the parent's adapter → a candidate adapter.

The candidate starts from a copy of --init (design §6: the live adapter) with a fresh optimizer; --reference is what
its KL is held to. Writes OUT/adapter_model.safetensors (float32), adapter_config.json, metrics.jsonl, config.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.adapters import adapter_sha256, base_shapes
from feedback import snapshot as snapshots
from training import program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("dpo", __doc__)
    arguments.add_argument("--snapshot", type=program.snapshot_directory, required=True)
    arguments.add_argument("--init", type=program.adapter_directory, required=True, help="adapter to start from")
    arguments.add_argument("--reference", type=program.adapter_directory, required=True, help="adapter to stay near")
    arguments.add_argument("--out", type=Path, required=True)
    train(arguments.parse_args(argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, write."""
    snapshot = snapshots.read(options.snapshot)
    shapes = base_shapes(options.base)
    program.check_same_base(shapes, snapshot.manifest.base_sha256, "The snapshot")
    recipe = options.recipe
    usable = sum(row.trains_policy and not row.tie for row in snapshot.pairs)
    if usable < recipe.min_policy_rows:
        raise Skipped(f"{usable} votes may train the policy; the recipe asks for {recipe.min_policy_rows}")

    program.prepare(recipe)
    from training import data, dpo_fit  # torch: only now, when the arguments are known to be right
    from training.model import load_base

    pairs, dropped = data.policy_pairs(snapshot.pairs, max_length=recipe.max_length)
    if reason := data.nothing_to_learn(pairs, minimum=recipe.min_policy_rows):
        raise Skipped(reason)
    base = load_base(options.base, base_sha256=shapes.sha256, precision=recipe.precision, attention=recipe.attention)
    base.load(dpo_fit.REFERENCE, options.reference)
    base.load_for_training(dpo_fit.POLICY, options.init, recipe.lora, seed=recipe.seed)
    metrics = dpo_fit.fit(base, pairs, recipe, seed=recipe.seed)
    same = adapter_sha256(options.init) == adapter_sha256(options.reference)
    assert not same or dpo_fit.starts_at_reference(metrics), f"the first loss is {metrics[0].preference_loss}, not ln 2"
    base.save(dpo_fit.POLICY, options.out)
    program.write_metrics(options.out, metrics)
    program.write_config(
        options.out,
        base_sha256=base.base_sha256,
        recipe=recipe,
        inputs={"init": options.init, "reference": options.reference},
        facts={"snapshot": snapshot.manifest.id, "precision": base.precision, "pairs": len(pairs), "dropped": dropped},
    )


if __name__ == "__main__":
    program.run(main)

"""python -m training.reward: a snapshot → a reward model, fresh from the base, and how well it predicts new votes.

Writes OUT/adapter_model.safetensors, adapter_config.json, head.safetensors, reward.json (`RewardCard`), metrics.jsonl
and config.json. With --folds judge and another --seed it trains the independent judge of the gate.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from core.adapters import base_shapes
from core.records import Fold
from feedback import snapshot as snapshots
from training import program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("reward", __doc__)
    arguments.add_argument("--snapshot", type=program.snapshot_directory, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--folds", type=_folds, default=["optimize", "judge"], help="folds to train on")
    arguments.add_argument("--seed", type=int, help="instead of the recipe's")
    train(arguments.parse_args(argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, fix the scale, measure on the test fold, write."""
    snapshot = snapshots.read(options.snapshot)
    shapes = base_shapes(options.base)
    program.check_same_base(shapes, snapshot.manifest.base_sha256, "The snapshot")
    recipe = options.recipe
    seed = recipe.seed if options.seed is None else options.seed
    decided = sum(row.fold in options.folds and not row.tie for row in snapshot.pairs)
    if decided < recipe.min_reward_pairs:
        raise Skipped(f"{decided} votes prefer one answer; the recipe asks for {recipe.min_reward_pairs}")

    program.prepare(recipe)
    from training import data, reward_fit  # torch: only now, when the arguments are known to be right
    from training.model import load_base
    from training.reward_model import CARD

    pairs, dropped = data.reward_pairs(snapshot.pairs, options.folds, max_length=recipe.max_length)
    held_out, _ = data.reward_pairs(snapshot.pairs, ["test"], max_length=recipe.max_length)
    if reason := data.nothing_to_learn(pairs, minimum=recipe.min_reward_pairs):
        raise Skipped(reason)
    base = load_base(options.base, base_sha256=shapes.sha256, precision=recipe.precision, attention=recipe.attention)
    model, metrics = reward_fit.fit(base, pairs, recipe, seed=seed, share=(0.0, 0.85))
    reward_fit.calibrate(model, pairs, recipe, seed=seed)
    facts = {"snapshot": snapshot.manifest.id, "seed": seed, "folds": options.folds}
    card = reward_fit.card(model, pairs, held_out, dropped=dropped, **facts)
    model.save(options.out)
    (options.out / CARD).write_text(card.model_dump_json(indent=2) + "\n")
    program.write_metrics(options.out, metrics)
    facts["precision"] = base.precision
    program.write_config(options.out, base_sha256=base.base_sha256, recipe=recipe, inputs={}, facts=facts)


def _folds(value: str) -> list[Fold]:
    known: tuple[Fold, ...] = get_args(Fold)
    folds = [fold for fold in known if fold in value.split(",")]
    if len(folds) != len(value.split(",")):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of {', '.join(known)}")
    return folds


if __name__ == "__main__":
    program.run(main)

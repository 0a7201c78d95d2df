"""python -m training.reward: votes → a reward model, fresh from the base, and how well it predicts new votes.

Writes OUT/adapter_model.safetensors, adapter_config.json, head.safetensors, reward.json (`RewardCard`), metrics.jsonl
and config.json. With --folds judge and another --seed it trains the independent judge of the gate.
"""

import argparse
from collections.abc import Sequence
from typing import get_args

from core.records import Fold
from training import program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of preferences (.jsonl, .parquet)"
    arguments = program.trainer_parser("reward", __doc__, data=data)
    arguments.add_argument(
        "--folds", type=_folds, default=["optimize", "judge"], help="folds to train on (default: optimize,judge)"
    )
    train(program.parse(arguments, argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, fix the scale, measure on the test fold, write."""
    program.prepare(options.recipe)
    from training import data, reward_fit, sources  # torch: only now, when the arguments are known to be right
    from training.job import begin
    from training.reward_model import CARD

    job = begin("reward", options, folds=options.folds)
    recipe = job.recipe
    rows, test_rows = sources.reward_pairs(job.data, job.encoder, folds=options.folds)
    pairs, dropped = data.usable(rows, max_length=recipe.max_length)
    held_out, _ = data.usable(test_rows, max_length=recipe.max_length)
    if reason := data.nothing_to_learn(pairs, minimum=recipe.min_reward_pairs):
        raise Skipped(reason)
    model, _ = reward_fit.fit(
        job.base, pairs, recipe, seed=recipe.seed, share=(0.0, 0.85), out=job.out, checkpoint=job.checkpoint
    )
    reward_fit.calibrate(model, pairs, recipe, seed=recipe.seed)
    card = reward_fit.card(
        model, pairs, held_out, data=job.config["data"], seed=recipe.seed, folds=options.folds, dropped=dropped
    )
    model.save(job.out)
    (job.out / CARD).write_text(card.model_dump_json(indent=2) + "\n")
    job.finish(precision=job.base.precision)


def _folds(value: str) -> list[Fold]:
    known: tuple[Fold, ...] = get_args(Fold)
    folds = [fold for fold in known if fold in value.split(",")]
    if len(folds) != len(value.split(",")):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of {', '.join(known)}")
    return folds


if __name__ == "__main__":
    program.run(main)

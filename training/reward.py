"""python -m training.reward: votes → a reward model, fresh from the base, and how well it predicts new votes.

Writes OUT/adapter_model.safetensors, adapter_config.json, head.safetensors (of further members in member-2/, …),
reward.json (`RewardCard`), votes.txt (which votes its data held), metrics.jsonl and config.json. With --folds judge and
another --seed it trains the independent judge of the gate. With --previous it also says how an earlier reward model
does on the votes that came after its own.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from core.files import sha256_of
from core.records import Fold
from training import program
from training.program import Skipped

if TYPE_CHECKING:
    from training.reward_card import RewardCard


def main(argv: Sequence[str] | None = None) -> None:
    data = "a snapshot, or a file of preferences, rankings, thumbs or ratings (.jsonl, .parquet)"
    arguments = program.trainer_parser("reward", __doc__, data=data)
    arguments.add_argument(
        "--folds", type=_folds, default=["optimize", "judge"], help="folds to train on (default: optimize,judge)"
    )
    arguments.add_argument(
        "--previous", type=program.reward_directory, help="an earlier reward model, to be tested on votes that are new"
    )
    train(program.parse(arguments, argv))


def train(options: argparse.Namespace) -> None:
    """The whole program: read, refuse what cannot teach, fit, fix the scale, measure on the test fold, write."""
    program.prepare(options.recipe)
    from training import reward_fit, reward_report, sources  # torch: only now, when the arguments are known to be right
    from training.devices import devices
    from training.job import begin
    from training.reward_model import CARD
    from training.reward_rows import nothing_to_learn, parts, usable

    previous = {"previous": sha256_of(options.previous / CARD)} if options.previous else {}
    job = begin("reward", options, folds=options.folds, **previous)
    recipe = job.recipe
    votes = sources.reward_votes(job.data, job.encoder)
    seen, held_out = parts(votes, options.folds)
    seen, dropped = usable(seen, max_length=recipe.max_length)
    held_out, _ = usable(held_out, max_length=recipe.max_length)
    seen = [vote for vote in seen if reward_fit.weight_of(vote.row, recipe) > 0]
    rows = [vote.row for vote in seen]
    if reason := nothing_to_learn(rows, minimum=recipe.min_reward_pairs):
        raise Skipped(reason)
    model, _ = reward_fit.fit(
        job.base, rows, recipe, seed=recipe.seed, share=(0.0, 0.85), out=job.out, checkpoint=job.checkpoint
    )
    spread = reward_fit.set_scale(model, rows, recipe, seed=recipe.seed)
    card = reward_report.card(
        model,
        seen,
        held_out,
        data=job.config["data"],
        seed=recipe.seed,
        folds=options.folds,
        dropped=dropped,
        spread=spread,
    )
    if options.previous:
        found = reward_report.prequential(job.base, options.previous, votes, recipe)
        card = card.model_copy(update={"prequential": found})
    model.save(job.out)
    reward_report.write_votes(job.out, votes)
    (job.out / CARD).write_text(card.model_dump_json(indent=2) + "\n")
    if devices().first:
        reward_fit.forget_checkpoints(job.checkpoint, recipe)
        print(_summary(card), flush=True)
    job.finish(precision=job.base.precision)


def _summary(card: "RewardCard") -> str:
    """One line for a person; to the worker it is a line of the log."""
    said = f"{card.test_accuracy:.3f} of {card.test_pairs} held-out votes" if card.test_pairs else "no held-out votes"
    if card.prequential is not None:
        new = card.prequential.overall
        said += (
            f"; the previous model predicts {new.accuracy:.3f} of {new.votes} new votes" if new else "; no new votes"
        )
    return f"The reward model predicts {said}."


def _folds(value: str) -> list[Fold]:
    known: tuple[Fold, ...] = get_args(Fold)
    folds = [fold for fold in known if fold in value.split(",")]
    if len(folds) != len(value.split(",")):
        raise argparse.ArgumentTypeError(f"{value!r} is no list of {', '.join(known)}")
    return folds


if __name__ == "__main__":
    program.run(main)

"""python -m training.evaluate: a candidate, the live version and a judge → evaluation.json and gate.json.

The candidate's parent is the version that is live, so the KL to the parent is the KL to --live. By hand, without
--live, the base itself is the opponent; --data may be a file with prompts instead of a snapshot. --best-of n also
measures the cheapest way to a better answer: n samples of the opponent, of which the judge takes one. --reward, the
round's reward model, also asks the over-optimisation sentinel (training/sentinel.py); --steps tells it of the rounds
before.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from core.adapters import base_shapes
from feedback import snapshot as snapshots
from feedback.snapshot import DemonstrationRow, PairRow, Snapshot, ThumbRow
from training import gate, program, sentinel
from training.gate import Evaluation
from training.program import Skipped
from training.reward_card import RewardCard
from training.sentinel import Step

if TYPE_CHECKING:
    from training.measure import Score
    from training.model import SharedBase


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("evaluate", __doc__)
    data = "a snapshot, or a file with prompts (.jsonl, .parquet)"
    arguments.add_argument("--data", "--snapshot", type=program.data_path, required=True, help=data)
    arguments.add_argument("--candidate", type=program.adapter_directory, required=True)
    arguments.add_argument("--live", type=program.adapter_directory, help="the opponent (default: the base)")
    arguments.add_argument("--live-version", type=int, default=0, help="its number, for the report")
    arguments.add_argument("--judge", type=program.reward_directory, required=True, help="a trained reward model")
    arguments.add_argument(
        "--reward", type=program.reward_directory, help="the round's reward model: asks the over-optimisation sentinel"
    )
    arguments.add_argument("--steps", type=Path, help="JSON file of the versions that the candidate comes from")
    arguments.add_argument("--best-of", type=program.several, metavar="N", help="measure best-of-N of the opponent too")
    arguments.add_argument("--out", type=Path, required=True)
    measure_and_decide(program.parse(arguments, argv))


def measure_and_decide(options: argparse.Namespace) -> None:
    """The whole program: read, sample, judge, decide, write."""
    snapshot = snapshots.read(options.data) if options.data.is_dir() else None
    shapes = base_shapes(options.base)
    if snapshot is not None:
        program.check_same_base(shapes, snapshot.manifest.base_sha256, "The snapshot")
    recipe = options.recipe
    program.prepare(recipe)
    from training import claims, measure, sources  # torch: only now, when the arguments are known to be right
    from training.encoder import Encoder
    from training.model import load_base
    from training.reward_model import load_reward_model

    base = load_base(options.base, base_sha256=shapes.sha256)
    encoder = Encoder(options.base, base.eos_ids, window=base.context_length)
    if snapshot is None:
        prompts = measure.distinct_prompts(sources.prompts(options.data, encoder), recipe, base.context_length)
    else:
        prompts = measure.gate_prompts(snapshot.prompts, recipe, context_length=base.context_length)
    if not prompts:
        raise Skipped("the judge and test folds hold no prompt yet, so nothing can be compared")
    judge, card = load_reward_model(base, options.judge)
    base.load(measure.CANDIDATE, options.candidate)
    live = measure.LIVE if options.live is not None else None
    if live is not None:
        base.load(live, options.live)
    evaluation = measure.evaluate(
        base,
        judge,
        card,
        prompts,
        recipe,
        live=live,
        live_version=options.live_version,
        read=encoder.read,
        best_of=options.best_of,
        proxy=proxy(base, live, options),
    )
    if evaluation.signals is not None:
        leaning = claims.agreement(base, measure.CANDIDATE, live, recipe.evaluate.claims, encoder, recipe)
        told = evaluation.signals.model_copy(update={"agreement": leaning, **rounds_before(options, snapshot)})
        evaluation = evaluation.model_copy(update={"signals": told})
    if snapshot is not None:
        held_out = [sources.stored(row) for row in snapshot.pairs if row.fold == "test" and not row.tie]
        evaluation = evaluation.model_copy(update=measure.preference_accuracy(base, held_out, recipe))
        evaluation = evaluation.model_copy(
            update=ai_rows(snapshot, card.folds if card.data == options.data.name else [])
        )
    write(options.out, evaluation, recipe.gate)


def proxy(base: "SharedBase", live: str | None, options: argparse.Namespace) -> "Score | None":
    """The reward that the round optimized: PPO's reward model, or DPO's implicit one. None without --reward."""
    from training import measure
    from training.reward_model import load_reward_model

    if options.reward is None:
        return None
    if options.recipe.method == "dpo":
        return measure.implicit_reward(base, live, options.recipe)
    model, _ = load_reward_model(base, options.reward, role="optimized")
    return measure.score_of(model, options.recipe)


def rounds_before(options: argparse.Namespace, snapshot: Snapshot | None) -> dict[str, Any]:
    """Fields of `Signals` that say what became of earlier rounds."""
    path, live = options.steps, str(options.live_version)
    steps = TypeAdapter(tuple[Step, ...]).validate_json(path.read_bytes()) if path is not None else ()
    card = RewardCard.model_validate_json((options.reward / "reward.json").read_bytes())
    aged = card.prequential.slices.get("version", {}).get(live) if card.prequential is not None else None
    return {
        "proxy": "implicit" if options.recipe.method == "dpo" else "reward",
        "steps": steps,
        "prequential": sentinel.share(aged.accuracy * aged.votes, aged.votes) if aged is not None else None,
        "people_win": sentinel.share(*people(snapshot.pairs, steps[-1])) if snapshot is not None and steps else None,
    }


def people(pairs: Iterable[PairRow], step: Step) -> tuple[float, int]:
    """What people say of a step who compared both of its versions: wins of the later one, ties half, and votes; of
    each person the first vote. Nobody in particular is left out, who may be one and many."""
    first: dict[str, float] = {}
    for row in sorted(pairs, key=lambda row: row.created_at):
        if {row.chosen_version, row.rejected_version} == {step.version, step.parent} and row.rater_kind == "human":
            first.setdefault(row.rater, 0.5 if row.tie else float(row.chosen_version == step.version))
    first.pop("-", None)
    return sum(first.values()), len(first)


def ai_rows(snapshot: Snapshot, judge_folds: Sequence[str]) -> dict[str, int]:
    """What AI raters had to do with it: fields of `Evaluation`."""
    taught: list[PairRow | ThumbRow | DemonstrationRow]
    taught = [*snapshot.pairs, *snapshot.thumbs, *snapshot.demonstrations]
    policy = [row.rater_kind for row in taught if row.trains_policy]
    pairs = [row for row in snapshot.pairs if not row.ranked]  # a ranking is one vote
    votes = [*pairs, *snapshot.thumbs, *snapshot.rankings, *snapshot.ratings]
    return {
        "ai_policy_rows": sum(kind != "human" for kind in policy),
        "ai_self_policy_rows": policy.count("ai_self"),
        "judge_ai_rows": sum(row.rater_kind != "human" and row.fold in judge_folds for row in votes),
    }


def write(out: Path, evaluation: Evaluation, bounds: gate.GateBounds) -> None:
    """evaluation.json and gate.json."""
    report = gate.decide(evaluation, bounds)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(evaluation.model_dump_json(indent=2, by_alias=True) + "\n")
    (out / "gate.json").write_text(report.model_dump_json(indent=2, by_alias=True) + "\n")


if __name__ == "__main__":
    program.run(main)

"""python -m training.evaluate: a candidate, the live version and a judge → evaluation.json and gate.json.

The candidate's parent is the version that is live, so the KL to the parent is the KL to --live.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.adapters import base_shapes
from feedback import snapshot as snapshots
from training import gate, program
from training.program import Skipped


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("evaluate", __doc__)
    arguments.add_argument("--snapshot", type=program.snapshot_directory, required=True)
    arguments.add_argument("--candidate", type=program.adapter_directory, required=True)
    arguments.add_argument("--live", type=program.adapter_directory, required=True)
    arguments.add_argument("--live-version", type=int, required=True)
    arguments.add_argument("--judge", type=program.reward_directory, required=True, help="a trained reward model")
    arguments.add_argument("--out", type=Path, required=True)
    measure_and_decide(program.parse(arguments, argv))


def measure_and_decide(options: argparse.Namespace) -> None:
    """The whole program: read, sample, judge, decide, write."""
    snapshot = snapshots.read(options.snapshot)
    shapes = base_shapes(options.base)
    program.check_same_base(shapes, snapshot.manifest.base_sha256, "The snapshot")
    recipe = options.recipe
    program.prepare(recipe)
    from training import measure  # torch: only now, when the arguments are known to be right
    from training.model import load_base
    from training.reward_model import load_reward_model

    base = load_base(options.base, base_sha256=shapes.sha256)
    prompts = measure.gate_prompts(snapshot.prompts, recipe, context_length=base.context_length)
    if not prompts:
        raise Skipped("the judge and test folds hold no prompt yet, so nothing can be compared")
    judge, card = load_reward_model(base, options.judge)
    base.load(measure.CANDIDATE, options.candidate)
    base.load(measure.LIVE, options.live)
    evaluation = measure.evaluate(base, judge, card, prompts, recipe, live_version=options.live_version)
    report = gate.decide(evaluation, recipe.gate)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "evaluation.json").write_text(evaluation.model_dump_json(indent=2, by_alias=True) + "\n")
    (options.out / "gate.json").write_text(report.model_dump_json(indent=2, by_alias=True) + "\n")


if __name__ == "__main__":
    program.run(main)

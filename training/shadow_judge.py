"""python -m training.shadow_judge: answers that nobody saw and a judge → a count of which it prefers, in Redis.

Started by the worker (training/shadow.py). It reads Redis itself, unlike the other programs: what people asked is not
to lie in a file for it.
"""

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core import shadow
from core.errors import UsageError
from core.redis import connect
from core.settings import settings
from core.shadow import Compared, Pair
from training import program
from training.program import Skipped

if TYPE_CHECKING:
    from training.model import SharedBase


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("shadow_judge", __doc__)
    arguments.add_argument("--judge", type=program.reward_directory, required=True, help="a trained reward model")
    arguments.add_argument("--release", required=True, help="its id, rel_7")
    options = program.parse(arguments, argv)
    with connect(settings().redis_url) as client:
        pairs = shadow.take(client, options.release, most=shadow.MOST_WAITING)
        if not pairs:
            raise Skipped("no answer waits")
        compared = judge(pairs, options)
        shadow.settle(client, options.release, compared, judge=options.judge.name)
    print(json.dumps({"compared": len(compared)}), flush=True)


def judge(pairs: Sequence[Pair], options: argparse.Namespace) -> list[Compared]:
    """Both answers of each pair, scored by the judge."""
    program.prepare(options.recipe)
    from core.adapters import base_shapes
    from training.model import load_base

    base = load_base(options.base, base_sha256=base_shapes(options.base).sha256)
    rewards = scores(base, pairs, options)
    if not all(math.isfinite(each) for each in rewards):
        raise UsageError("the judge gives rewards that are no numbers")
    both = zip(pairs, rewards[: len(pairs)], rewards[len(pairs) :], strict=True)
    return [
        Compared(completion=pair.completion, rewards=(ours, theirs), tokens=(len(pair.candidate), len(pair.incumbent)))
        for pair, ours, theirs in both
    ]


def scores(base: "SharedBase", pairs: Sequence[Pair], options: argparse.Namespace) -> list[float]:
    """(2N,): of the candidate's answers, then of the incumbent's."""
    from training.data import Text
    from training.reward_model import load_reward_model

    model, _ = load_reward_model(base, options.judge)
    texts = [Text(prompt=pair.prompt, completion=pair.candidate) for pair in pairs]
    texts += [Text(prompt=pair.prompt, completion=pair.incumbent) for pair in pairs]
    found: list[float] = model.score(texts, tokens=options.recipe.micro_batch_tokens).tolist()
    return found


if __name__ == "__main__":
    program.run(main)

"""python -m training.choice: votes, and answers that nobody compared → choices.json, what to ask next.

It stands after the end of a round, whose policy is served already: what it finds is advice, and its failure costs
nothing else. From the snapshot's votes come the doubt between policy versions and the ensemble; from Redis (REDIS_URL)
come the pairs of answers that could be put before a rater. At most the newest 4,000 votes and 1,000 pairs are looked
at, which bounds the cost to one forward pass over 10,000 answers.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.adapters import base_shapes
from core.records import Choices, OpenPairs
from core.redis import connect
from core.settings import settings
from feedback import snapshot as snapshots
from feedback.snapshot import PairRow
from training import acquisition, program
from training.acquisition import Floats, VersionVote
from training.stages import CHOICES

if TYPE_CHECKING:
    from training.open_pairs import OpenPair

VOTES, PAIRS, CLUSTERS = 4000, 1000, 1000
OF_A_PROMPT = 2
"""Pairs about one prompt: more of them would teach the same thing."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("choice", __doc__)
    arguments.add_argument("--data", type=program.snapshot_directory, required=True, help="a snapshot")
    arguments.add_argument("--reward", type=program.reward_directory, required=True, help="the reward model on it")
    arguments.add_argument("--version", type=int, required=True, help="whose answers raters may be asked about")
    arguments.add_argument("--out", type=Path, required=True)
    choose(program.parse(arguments, argv))


def choose(options: argparse.Namespace) -> None:
    """The whole program: read, ask the ensemble, score, write."""
    rows = snapshots.read(options.data).pairs
    program.prepare(options.recipe)
    from training import doubt, open_pairs, sources  # torch: only now, when the arguments are known to be right
    from training.model import load_base

    url = settings().redis_url
    asked = open_pairs.read(connect(url), version=options.version, limit=PAIRS) if url else []
    base = load_base(options.base, base_sha256=base_shapes(options.base).sha256)
    known = [row for row in rows if row.fold != "test" and not row.ranked and not row.tie][-VOTES:]
    margins = doubt.margins(base, options.reward, [sources.stored(row) for row in known], [it.texts for it in asked])
    spread = acquisition.variance(margins).tolist()
    of_clusters = zip([*(row.cluster for row in known), *(it.cluster for it in asked)], spread, strict=True)
    choices = Choices(
        versions=acquisition.version_doubt(list(version_votes(rows))),
        clusters=cluster_doubt(of_clusters),
        open_pairs=ranked(asked, acquisition.SERVICE(margins[:, len(known) :])),
        members=len(margins),
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / CHOICES).write_text(choices.to_json() + "\n", encoding="utf-8")


def version_votes(rows: Iterable[PairRow]) -> Iterator[VersionVote]:
    """The snapshot's votes between versions. A tie is half a vote each way; pairs of a ranking weigh their part."""
    for row in rows:
        sides = [(row.chosen_version, row.rejected_version)]
        if row.tie:
            sides.append((row.rejected_version, row.chosen_version))
        yield from (VersionVote(winner=one, loser=other, weight=row.weight / len(sides)) for one, other in sides)


def cluster_doubt(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Mean of each cluster, of those with the most, in falling order."""
    each: defaultdict[str, list[float]] = defaultdict(list)
    for cluster, value in found:
        each[cluster].append(value)
    means = {cluster: sum(values) / len(values) for cluster, values in each.items()}
    return dict(sorted(means.items(), key=lambda item: (-item[1], item[0]))[:CLUSTERS])


def ranked(asked: Sequence["OpenPair"], scores: Floats) -> OpenPairs:
    """The pairs in falling order of their scores, at most `OF_A_PROMPT` of a cluster."""
    left: defaultdict[str, int] = defaultdict(lambda: OF_A_PROMPT)
    kept: list[tuple[OpenPair, float]] = []
    for pair, score in sorted(zip(asked, scores.tolist(), strict=True), key=lambda it: (-it[1], it[0].ids)):
        if left[pair.cluster]:
            left[pair.cluster] -= 1
            kept.append((pair, score))
    return OpenPairs(pairs=[pair.ids for pair, _ in kept], scores=[score for _, score in kept])


if __name__ == "__main__":
    program.run(main)

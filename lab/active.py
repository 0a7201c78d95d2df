"""Does it pay to choose what to ask? `python -m lab.active --base DIR --json FILE`.

A pool of comparisons lies there and raters vote on some of them. At random: on the next ones of the pool. Actively:
batch after batch, by scores of an ensemble that is fitted to the votes so far, drawn with an exploration floor: with
the functions by which the service makes rater tasks (training/acquisition.py, core/choice.py). Both begin with the same
hundred votes, and what a rater says of a comparison does not depend on who asks.

A reward model of the demo's recipe is trained on the first n votes of each, and measured by how many comparisons about
held-out slots it orders as the gold preference does. Ways to score were tried on other seeds (`--development`), by the
ensemble's own mean, which costs no training.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from lab.active_study import Point

SEEDS, DEVELOPMENT = (101, 102, 103, 104), (1, 2, 3, 4)
RANDOM, ACTIVE = "random", "reduction"
TRIED = (RANDOM, "variance", "information", "flips", "reduction", "reduction, weighted")
_RESAMPLES = 2000
_ALONE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """Votes that active choice needs for the accuracy that random choice has at its end, with a 95 % bootstrap
    interval over seeds: `Saving(random=800, active=560.0, low=430.0, high=720.0)`."""

    random: int
    active: float
    """As many as `random` or more where it does not get there sooner: then it is cut at `random`."""
    low: float
    high: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.active", description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="directory of the demo's base model")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 101 102 103 104, in development 1 2 3 4")
    parser.add_argument("--processes", type=int, default=4, help="seeds at a time (default: %(default)s)")
    parser.add_argument("--development", action="store_true", help="all ways to score, without reward models")
    parser.add_argument("--quick", action="store_true", help="few votes: shows that it works")
    options = parser.parse_args(argv)
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    from lab.active_study import Size  # torch: only now, under these variables

    size = Size(pool=300, tests=100, first=50, measured=(50, 100)) if options.quick else Size()
    arms = TRIED if options.development else (RANDOM, ACTIVE)
    seeds = options.seeds or (DEVELOPMENT if options.development else SEEDS)
    began = time.monotonic()
    points = _all(options.base, seeds, size, arms, rewards=not options.development, processes=options.processes)
    document = report(points, seconds=time.monotonic() - began)
    Console().print(table(document))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _all(
    base: Path, seeds: Sequence[int], size: Any, arms: Sequence[str], *, rewards: bool, processes: int
) -> list["Point"]:
    from lab.active_study import study

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running = [pool.submit(study, base, seed, size, arms, rewards=rewards) for seed in seeds]
        return [point for each in running for point in each.result()]


# --- figures ----------------------------------------------------------------------------------------------------------


def report(points: Sequence["Point"], *, seconds: float) -> dict[str, Any]:
    """What `--json` writes."""
    arms = list(dict.fromkeys(point.arm for point in points))
    trained = all(point.reward is not None for point in points)
    measures = ("reward", "head") if trained else ("head",)
    curves = {arm: {name: curve(points, arm, name) for name in measures} for arm in arms}
    savings = {
        arm: {name: saving(counts(points), curves[RANDOM][name], curves[arm][name]) for name in measures}
        for arm in arms
        if arm != RANDOM
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": sorted({point.seed for point in points}),
        "seconds": round(seconds),
        "votes": counts(points).tolist(),
        "mean": {arm: {name: each.mean(0).tolist() for name, each in found.items()} for arm, found in curves.items()},
        "gain": {
            arm: {name: gains(found[name] - curves[RANDOM][name]) for name in measures}
            for arm, found in curves.items()
            if arm != RANDOM
        },
        "saving": {arm: {name: asdict(each) for name, each in found.items()} for arm, found in savings.items()},
        "points": [asdict(point) for point in points],
    }


def counts(points: Sequence["Point"]) -> Floats:
    """The numbers of votes at which was measured, rising."""
    return np.array(sorted({point.votes for point in points}), dtype=float)


def curve(points: Sequence["Point"], arm: str, measure: str) -> Floats:
    """(seeds, counts)."""
    found = {(point.seed, point.votes): getattr(point, measure) for point in points if point.arm == arm}
    seeds = sorted({seed for seed, _ in found})
    return np.array([[found[seed, int(votes)] for votes in counts(points)] for seed in seeds])


def gains(more: Floats) -> list[float]:
    """Of each seed, by how much the accuracy is higher: the mean over all counts but the first, where all are alike.

    Args:
        more: differences of accuracies (seeds, counts).
    """
    found: list[float] = more[:, 1:].mean(1).round(4).tolist()
    return found


def saving(votes: Floats, at_random: Floats, active: Floats, *, seed: int = 0) -> Saving:
    """Where the mean curve of active choice reaches what random choice ends with. Seeds are drawn anew, both curves of
    a seed together.

    Args:
        at_random, active: accuracies (seeds, counts).
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(active), size=(_RESAMPLES, len(active)))
    each = [reached(votes, active[rows].mean(0), at_random[rows, -1].mean()) for rows in drawn]
    low, high = np.quantile(each, [0.025, 0.975]).tolist()
    value = reached(votes, active.mean(0), at_random[:, -1].mean())
    return Saving(random=int(votes[-1]), active=value, low=low, high=high)


def reached(votes: Floats, accuracies: Floats, goal: float) -> float:
    """Number of votes at which a curve first has the accuracy, between two measured ones on a line over the logarithm;
    the last number if it never has. The curve is taken as rising: means of neighbours stand where it falls."""
    rising = monotone(accuracies)
    above = np.flatnonzero(rising >= goal)
    if not len(above):
        return float(votes[-1])
    place = int(above[0])
    if place == 0 or rising[place] == rising[place - 1]:
        return float(votes[place])
    share = (goal - rising[place - 1]) / (rising[place] - rising[place - 1])
    return float(np.exp(np.log(votes[place - 1]) + share * np.log(votes[place] / votes[place - 1])))


def monotone(values: Floats) -> Floats:
    """The rising sequence nearest to the values: `[1, 3, 2]` is `[1, 2.5, 2.5]` (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for value in values.tolist():
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return np.array([np.mean(block) for block in blocks for _ in block])


def table(document: dict[str, Any]) -> Table:
    """For a person."""
    counted = [f"{votes:.0f}" for votes in document["votes"]]
    shown = Table("asked", "measured by", *counted, "gain, standard error", "votes needed", box=None)
    for arm, measures in document["mean"].items():
        for name, means in measures.items():
            needed = document["saving"].get(arm, {}).get(name)
            words = f"{needed['active']:.0f} ({needed['low']:.0f} to {needed['high']:.0f})" if needed else ""
            each = np.array(document["gain"].get(arm, {}).get(name, []))
            gained = f"{each.mean():+.3f} ± {each.std(ddof=1) / len(each) ** 0.5:.3f}" if len(each) > 1 else ""
            by = "reward model" if name == "reward" else "ensemble"
            shown.add_row(arm, by, *(f"{it:.3f}" for it in means), gained, words)
    return shown


if __name__ == "__main__":
    main()

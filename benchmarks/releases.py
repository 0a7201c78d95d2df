"""How often the live test of a release errs: simulated releases, looked at after every vote and every completion.

`python -m benchmarks.releases` prints the tables of docs/releases.md. No service is needed: the votes are drawn, the
rules are those of serving/sequential_test.py and serving/guardrails.py.
"""

import argparse
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.sequential_test import MAX_RATERS, MIN_RATERS, log_e

Outcomes = NDArray[np.int8]
"""(releases, votes): 1 the candidate won, −1 it lost, 0 a tie; in the order in which the votes came."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ends:
    """How simulated releases ended: `Ends(promoted=0.04, rolled_back=0.04, kept=0.92, median_raters=1500.0)`."""

    promoted: float
    rolled_back: float
    kept: float
    median_raters: float


def ends(outcomes: Outcomes, *, alpha: float) -> Ends:
    """The verdicts of many releases at once; as `serving.sequential_test.finding` after each vote."""
    wins, losses = (outcomes == 1).cumsum(axis=1), (outcomes == -1).cumsum(axis=1)
    is_better = _grid() >= -np.log(alpha)
    better, worse = is_better[wins, losses], is_better[losses, wins]
    better[:, : MIN_RATERS - 1] = False
    decided = better | worse
    when = np.where(decided.any(axis=1), decided.argmax(axis=1), outcomes.shape[1] - 1)
    rows = np.arange(len(outcomes))
    promoted, rolled_back = better[rows, when], worse[rows, when]
    return Ends(
        promoted=float(promoted.mean()),
        rolled_back=float(rolled_back.mean()),
        kept=float((~promoted & ~rolled_back).mean()),
        median_raters=float(np.median(when + 1)),
    )


@functools.cache
def _grid() -> NDArray[np.float64]:
    """ln E of all counts: (wins, losses)."""
    counts = np.arange(MAX_RATERS + 1)
    return log_e(counts[:, None], counts[None, :])


def votes(rng: np.random.Generator, releases: int, *, win_rate: float, ties: float = 0.0) -> Outcomes:
    """First votes of different people, each alike: a tie, or else the candidate with probability `win_rate`."""
    shape = (releases, MAX_RATERS)
    decided = np.where(rng.random(shape) < win_rate, 1, -1)
    return np.where(rng.random(shape) < ties, 0, decided).astype(np.int8)


def clustered(rng: np.random.Generator, releases: int, *, each: int) -> Outcomes:
    """People who always vote the same way, fair on average, `each` votes one after the other: the trap of counting
    every vote. With `each=1` it is a fair coin a person."""
    people = rng.random((releases, -(-MAX_RATERS // each))) < 0.5
    return np.where(np.repeat(people, each, axis=1)[:, :MAX_RATERS], 1, -1).astype(np.int8)


def table(rng: np.random.Generator, releases: int, alpha: float) -> list[tuple[str, Ends]]:
    """One row for each truth."""
    rows = [(f"{rate:.2f}", votes(rng, releases, win_rate=rate)) for rate in (0.40, 0.45, 0.50, 0.55, 0.60, 0.70)]
    rows.append(("0.50, 30 % ties", votes(rng, releases, win_rate=0.5, ties=0.3)))
    rows.append(("0.60, 30 % ties", votes(rng, releases, win_rate=0.6, ties=0.3)))
    rows.append(("0.50, every one of 20 votes a person counted", clustered(rng, releases, each=20)))
    for colluding in (0.01, 0.05, 0.10, 0.20):
        for rate in (0.45, 0.50):
            share = colluding + (1 - colluding) * rate
            rows.append((f"{rate:.2f}, {colluding:.0%} collude", votes(rng, releases, win_rate=share)))
    return [(name, ends(outcomes, alpha=alpha)) for name, outcomes in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=int, default=4000)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    print("| true win rate | promoted | rolled back | kept | median raters |\n|---|---|---|---|---|")
    for name, row in table(rng, options.releases, options.alpha):
        print(f"| {name} | {row.promoted:.3f} | {row.rolled_back:.3f} | {row.kept:.3f} | {row.median_raters:.0f} |")


if __name__ == "__main__":
    main()

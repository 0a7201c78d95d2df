"""Raters who vote in bad faith, with trust on and off: `python -m benchmarks.poisoning --base DIR --json FILE`.

Honest raters agree on 73 % of comparisons; attackers (lab/attackers.py) add 1, 5 and 10 % of all votes. For each attack
a reward model is trained on the votes as they are, and on the votes as trust weighs them (feedback/raters.py over
lab/cross_fit.py); at 10 % of the votes three attacks also train a policy by DPO. A loss is what is missing to the same
honest votes without attack: of the gold accuracy of the reward model, or of the gold win rate of the policy.

Each attack is measured on all prompts, and where it does its harm: with the trigger word, or between both versions.
Every row counts: the loss with trust on, pooled over the rows whose loss with trust off is 0.05 or more, should be at
most a quarter of it; elsewhere at most 0.03. The settings were chosen on seeds below 100, which no run reports.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from benchmarks.poisoning_study import Result, Size

SEEDS, FULL_SEEDS = (101, 102, 103), tuple(range(101, 109))
HARMFUL, TARGET_RATIO, TARGET_ELSEWHERE, TARGET_HONEST = 0.05, 0.25, 0.03, 0.05
_ALONE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_counter: Any = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Means over seeds; `each` has (with trust, without) of every seed."""

    attack: str
    attackers: float
    metric: str
    loss_trust_on: float
    loss_trust_off: float
    each: list[tuple[float, float]]

    @property
    def harmful(self) -> bool:
        return self.loss_trust_off >= HARMFUL


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """Loss with trust over loss without, of all harmful rows together; with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.poisoning", description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True, help="directory of the demo's base model")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 101 102 103")
    parser.add_argument("--processes", type=int, default=3, help="seeds at a time (default: %(default)s)")
    much = parser.add_mutually_exclusive_group()
    much.add_argument("--quick", action="store_true", help="one seed, few votes, 10 %% only: shows that it works")
    much.add_argument("--full", action="store_true", help="eight seeds, DPO for all attacks")
    options = parser.parse_args(argv)
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    from benchmarks.poisoning_study import Size  # torch: only now, under these variables
    from lab.attackers import ATTACKS

    size, seeds = Size(), options.seeds or SEEDS
    if options.quick:
        size = Size(plain=200, mixed=80, shares=(0.1,), tests=200, asked=100, dpo=("sybil",))
        seeds = options.seeds or SEEDS[:1]
    elif options.full:
        size, seeds = replace(size, dpo=ATTACKS), options.seeds or FULL_SEEDS
    began = time.monotonic()
    results = _all(options.base, seeds, size, processes=options.processes)
    document = report(results, seconds=time.monotonic() - began)
    console = Console()
    console.print(table(rows(results), results))
    console.print(_verdict(document))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


# --- running ----------------------------------------------------------------------------------------------------------


def _all(base: Path, seeds: Sequence[int], size: "Size", *, processes: int) -> list["Result"]:
    from benchmarks.poisoning_study import trainings

    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_share, initargs=(counter,))
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with pool, Progress(*columns) as progress:
        bar = progress.add_task("training", total=len(seeds) * trainings(size))
        running = [pool.submit(_one, base, seed, size) for seed in seeds]
        while not _done(running):
            progress.update(bar, completed=counter.value)
            time.sleep(0.5)
        progress.update(bar, completed=counter.value)
        return [each.result() for each in running]


def _done(running: Iterable[Future[Any]]) -> bool:
    """All have ended, or one has failed."""
    ended = [each for each in running if each.done()]
    return all(each.done() for each in running) or any(each.exception() is not None for each in ended)


def _share(counter: Any) -> None:
    """In each process: all of them count on it."""
    global _counter
    _counter = counter


def _one(base: Path, seed: int, size: "Size") -> "Result":
    from benchmarks.poisoning_study import study

    def tick() -> None:
        with _counter.get_lock():
            _counter.value += 1

    return study(base, seed, size, tick)


# --- figures ----------------------------------------------------------------------------------------------------------


def rows(results: Sequence["Result"]) -> list[Row]:
    """One for each attack, share and metric, over all seeds."""
    found = []
    for cells in zip(*(result.cells for result in results), strict=True):
        each = [(cell.loss_trust_on, cell.loss_trust_off) for cell in cells]
        on, off = np.mean(each, axis=0).tolist()
        first = cells[0]
        found.append(
            Row(
                attack=first.attack,
                attackers=first.attackers,
                metric=first.metric,
                loss_trust_on=on,
                loss_trust_off=off,
                each=each,
            )
        )
    return found


def pooled(found: Iterable[Row], *, resamples: int = 10_000, seed: int = 0) -> Ratio | None:
    """Over all harmful rows; None if there is none. The bootstrap draws rows anew, and seeds within each."""
    losses = np.array([row.each for row in found if row.harmful])
    if not len(losses):
        return None
    rng = np.random.default_rng(seed)
    which = rng.integers(0, losses.shape[0], size=(resamples, losses.shape[0], 1))
    seeds = rng.integers(0, losses.shape[1], size=(resamples, *losses.shape[:2]))
    sums = losses[which, seeds].sum((1, 2))
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975]).tolist()
    on, off = losses.sum((0, 1)).tolist()
    return Ratio(value=on / off, low=low, high=high)


def report(results: Sequence["Result"], *, seconds: float) -> dict[str, Any]:
    """What `--json` writes."""
    found = rows(results)
    ratio = pooled(found)
    honest = [each.honest for result in results for each in result.caught]
    elsewhere = [row.loss_trust_on for row in found if not row.harmful]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seeds": [result.seed for result in results],
        "seconds": round(seconds),
        "agreement_of_honest_raters": 0.73,
        "noise": [round(result.tau, 3) for result in results],
        "clean": [result.clean for result in results],
        "rows": [asdict(row) for row in found],
        "pooled_ratio": ratio.value if ratio is not None else None,
        "pooled_ratio_interval": [ratio.low, ratio.high] if ratio is not None else None,
        "worst_loss_elsewhere": max(elsewhere, default=None),
        "honest_quarantined": sum(honest) / len(honest),
        "honest_quarantined_worst": max(honest),
        "caught": [asdict(each) for result in results for each in result.caught],
    }


def table(found: Sequence[Row], results: Sequence["Result"]) -> Table:
    """For a person."""
    shown = Table("attack", "votes", "metric", "loss off", "loss on", "ids caught", box=None)
    caught: dict[tuple[str, float], list[float]] = {}
    for result in results:
        for each in result.caught:
            caught.setdefault((each.attack, each.attackers), []).append(each.attacking)
    for row in found:
        off = f"{row.loss_trust_off:+.3f}"
        share = float(np.mean(caught[row.attack, row.attackers]))
        shown.add_row(
            row.attack,
            f"{row.attackers:.0%}",
            row.metric,
            f"[bold]{off}" if row.harmful else off,
            f"{row.loss_trust_on:+.3f}",
            f"{share:.0%}" if row.attackers else "",
        )
    return shown


def _verdict(document: dict[str, Any]) -> str:
    ratio, interval = document["pooled_ratio"], document["pooled_ratio_interval"]
    harm = "no attack did harm" if ratio is None else f"ratio {ratio:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
    worst = document["worst_loss_elsewhere"]
    return (
        f"Where the undefended loss is at least {HARMFUL}: {harm}, target {TARGET_RATIO}. Elsewhere with trust on: "
        f"at most {worst if worst is None else round(worst, 3)}, target {TARGET_ELSEWHERE}. Honest raters quarantined: "
        f"{document['honest_quarantined']:.1%}, target {TARGET_HONEST:.0%}."
    )


if __name__ == "__main__":
    main()

"""Is over-optimisation seen before it is released? `python -m lab.overoptimisation --base DIR`.

Two reward models learn from votes on the same answers. In one arm a share of the votes goes to the longer answer,
whatever it says, as careless raters vote; in the other all votes are honest. PPO then optimizes each, hardly held to
the base, and on its way every policy is put to the gate as a candidate against version 0: by a judge that learned from
other, honest votes, and by the over-optimisation sentinel. Beside that stands what nobody has outside of a simulation:
the hidden preference of the raters (gold).

What to expect: against the biased reward model the optimizer's reward climbs while judge and gold fall, and the gate
blocks the candidate at the first stop where that is certain. Against the honest one nothing is blocked. The run goes on
after a stop, to show what would have become of it.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from lab.overoptimisation_study import Point, Size

BIASED, SOUND = "length-biased", "honest"
ARMS = {BIASED: 0.4, SOUND: 0.0}
"""Share of the reward model's votes that the longer answer wins."""
_ALONE = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_QUICK = {"votes": 150, "judge_votes": 150, "chats": 100, "stops": 2, "iterations": 1, "prompts": 40}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs both arms side by side. Returns 0 if it came out as expected, else 1."""
    options = _parser().parse_args(argv)
    for name, value in _ALONE.items():
        os.environ.setdefault(name, value)
    from lab.overoptimisation_study import Size  # torch: only now, under these variables

    console, began = Console(), time.monotonic()
    points = _both(options.base, options.seed, Size(**_QUICK) if options.quick else Size(), console)
    document = report(points, seconds=time.monotonic() - began)
    console.print(table(points))
    for arm in ARMS:
        console.print(told(points, arm), soft_wrap=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.svg is not None:
        from lab.overoptimisation_picture import picture

        options.svg.write_text(picture(points), encoding="utf-8")
    return 0 if document["as_expected"] else 1


def _parser() -> argparse.ArgumentParser:
    first, rest = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        prog="python -m lab.overoptimisation",
        description=first + "\n" + rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", type=Path, required=True, help="directory of the demo's base (lab.base_model)")
    parser.add_argument("--seed", type=int, default=0, help="of votes and trainings (default: 0)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--svg", type=Path, help="draw the curves into this file")
    parser.add_argument("--quick", action="store_true", help="very few votes: shows that it runs, and nothing else")
    return parser


def _both(base: Path, seed: int, size: "Size", console: Console) -> list["Point"]:
    from lab.overoptimisation_study import study

    context = multiprocessing.get_context("spawn")
    columns = (TextColumn("{task.description:14}"), BarColumn(), TextColumn("{task.fields[doing]:22}"))
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(len(ARMS), mp_context=context) as pool,
        Progress(*columns, TimeElapsedColumn(), console=console) as bars,
    ):
        news = manager.Queue()
        tasks = {arm: bars.add_task(arm, total=None, doing="starting") for arm in ARMS}
        running = [
            pool.submit(study, base, arm, longer, seed, size, _Telling(arm, news)) for arm, longer in ARMS.items()
        ]
        while not all(each.done() for each in running):
            try:
                arm, done, steps, doing = news.get(timeout=1.0)
            except Empty:
                continue
            bars.update(tasks[arm], completed=done, total=steps, doing=doing)
            if not console.is_terminal:
                console.print(f"{arm}: {done}/{steps} {doing}")
        return [point for each in running for point in each.result()]


class _Telling:
    """What a child calls to say how far it is; picklable."""

    def __init__(self, arm: str, news: "Queue[tuple[str, int, int, str]]") -> None:
        self._arm, self._news = arm, news

    def __call__(self, done: int, steps: int, doing: str) -> None:
        self._news.put((self._arm, done, steps, doing))


# --- what came out ----------------------------------------------------------------------------------------------------


def stopped(points: Sequence["Point"], arm: str) -> "Point | None":
    """Where the gate first said no to a policy of this arm."""
    return next((point for point in points if point.arm == arm and point.verdict == "fail"), None)


def report(points: Sequence["Point"], *, seconds: float) -> dict[str, Any]:
    """What `--json` writes. As expected: the biased arm was stopped, its proxy climbed on while gold is certainly below
    version 0 at the end; the honest arm was never stopped and ends above it."""
    first = stopped(points, BIASED)
    biased, sound = ([point for point in points if point.arm == arm] for arm in (BIASED, SOUND))
    diverged = first is not None and biased[-1].proxy >= first.proxy > 0.5 > biased[-1].gold_high
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": round(seconds),
        "longer": ARMS,
        "stopped": {arm: None if (at := stopped(points, arm)) is None else at.iterations for arm in ARMS},
        "as_expected": diverged and stopped(points, SOUND) is None and sound[-1].gold_low > 0.5,
        "points": [asdict(point) for point in points],
    }


def table(points: Sequence["Point"]) -> Table:
    """A line a measurement: iterations of PPO, KL to the base, win rates over version 0."""
    columns = ("KL", "optimizer", "judge", "gold (95 %)", "tokens", "agrees", "gate")
    shown = Table("reward model", "PPO", *columns, box=None)
    for point in points:
        gold = f"{point.gold:.2f} ({point.gold_low:.2f} to {point.gold_high:.2f})"
        shares = (f"{point.proxy:.2f}", f"{point.judge:.2f}", gold)
        rest = (f"{point.tokens:.1f}", f"{point.agreement:.2f}", point.verdict)
        shown.add_row(point.arm, str(point.iterations), f"{point.kl_to_base:.2f}", *shares, *rest)
    return shown


def told(points: Sequence["Point"], arm: str) -> str:
    """One sentence an arm."""
    at = stopped(points, arm)
    if at is None:
        return f"{arm}: never stopped."
    return f"{arm}: stopped after {at.iterations} iterations, {at.kl_to_base:.1f} nats from the base: {at.summary}"


if __name__ == "__main__":
    sys.exit(main())

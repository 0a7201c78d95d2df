"""Our trainers beside TRL's: rows per second and peak memory, on the same rows in the same optimizer steps.

    python -m benchmarks.training --json results.json

What is compared (docs/benchmarks.md has the figures and what they mean):
  dpo, reward   random preference pairs, `short` as in a chat and `long` with a prompt four times as long as the
                answers, on models of 0.6 and 100 million parameters; beside TRL 1.14 and 1.16, whichever is faster
  ppo           whole iterations on the demo's base, with answers of their `usual` length and `endless` ones; beside
                TRL 1.12, the last that has it

For every row a pilot picks TRL's fastest version and configuration; then both sides take turns, each run in a process
of its own, and the speed is the median of the ratios. Before anything is timed the two must agree. Everything is
float32. TRL is installed into a directory of its own at the first run (--peers); nothing else is touched.

It takes twenty minutes on two quiet cores. Start with: python -m benchmarks.training --quick --only demo-short
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import pairs, peers, ppo
from benchmarks.contest import Arena, Contest, Result, compare
from benchmarks.worker import Worker

PPO_NAMES = ("demo-usual-ppo", "demo-endless-ppo")
_OWN = "benchmarks.own_worker"


def main(argv: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    repeats = 1 if options.quick else 5
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        workers = Workers(stack, Path(scratch), options)
        contests = _contests(options, Path(scratch))
        bar = stack.enter_context(_bar())
        task = bar.add_task("", total=sum(contest.runs(repeats) for contest in contests))
        for contest in contests:
            bar.update(task, description=contest.name)
            arena = Arena(
                own=workers.get(_OWN),
                peers={candidate.version: workers.peer(contest, candidate.version) for candidate in contest.candidates},
                repeats=repeats,
                advance=partial(_advance, bar, task, contest.name),
            )
            results.append(compare(contest, arena))
            if options.json:
                _write(options.json, results, options.threads)
    print(_table(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    home = Path(os.environ.get("PLUMBLINE_HOME", Path.home() / ".plumbline"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here, after each row")
    parser.add_argument("--quick", action="store_true", help="one pair of runs instead of five: shows that it works")
    parser.add_argument("--full", action="store_true", help="five times as many rows, and a wider pilot: hours")
    parser.add_argument("--only", metavar="NAME", help="rows that have this in their name, e.g. demo-long, dpo, 100m")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="of torch, on both sides (default: %(default)s)"
    )
    parser.add_argument("--peers", type=Path, default=home / "peers", metavar="DIR", help="TRL is installed here")
    parser.add_argument("--home", type=Path, default=home, metavar="DIR", help="the demo's base lies or is built here")
    return parser


def _contests(options: argparse.Namespace, scratch: Path) -> list[Contest]:
    """Those that were asked for.

    Raises:
        SystemExit: there is none of this name.
    """
    settings = {"threads": options.threads, "full": options.full}

    def wanted(name: str) -> bool:
        return not options.only or options.only in name

    found = [
        pairs.contest(model, shape, task, scratch, **settings)
        for (model, shape), task in product(pairs.SIZES, ("dpo", "reward"))
        if wanted(f"{model}-{shape}-{task}")
    ]
    if any(wanted(name) for name in PPO_NAMES):
        found += [each for each in ppo.contests(options.home, scratch, **settings) if wanted(each.name)]
    if not found:
        raise SystemExit(f"No row has {options.only!r} in its name; demo-short-dpo is one, demo-usual-ppo another.")
    return found


class Workers:
    """Processes, each started when it is first needed."""

    def __init__(self, stack: contextlib.ExitStack, scratch: Path, options: argparse.Namespace) -> None:
        self._stack, self._scratch, self._options = stack, scratch, options
        self._found: dict[tuple[str, Path | None], Worker] = {}

    def peer(self, contest: Contest, version: str) -> Worker:
        module = "benchmarks.trl_ppo_worker" if contest.task == "ppo" else "benchmarks.trl_worker"
        return self.get(module, peers.environment(self._options.peers, version))

    def get(self, module: str, path: Path | None = None) -> Worker:
        if (module, path) not in self._found:
            place = self._scratch / f"worker-{len(self._found)}"
            worker = Worker(module, place, threads=self._options.threads, path=path)
            self._found[module, path] = self._stack.enter_context(worker)
        return self._found[module, path]


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    """On stderr; lines above it say what each run came to."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield bar


def _advance(bar: Progress, task: int, name: str, what: str) -> None:
    bar.advance(task)
    if what != "ours":
        bar.console.print(f"{name}: {what}", highlight=False)


def _write(file: Path, results: Sequence[Result], threads: int) -> None:
    from importlib.metadata import version

    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")}
        | {"python": ".".join(map(str, sys.version_info[:3])), "trl": [peers.LAST_PPO, peers.OLDER, peers.NEWEST]},
        "rows": [result.model_dump() for result in results],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _table(results: Sequence[Result]) -> str:
    columns: list[tuple[str, Callable[[Result], str]]] = [
        ("task", lambda r: r.task),
        ("model", lambda r: r.model),
        ("shape", lambda r: r.shape),
        ("peer", lambda r: r.peer),
        ("ours, rows/s", lambda r: f"{r.ours:.2f}"),
        ("theirs", lambda r: f"{r.theirs:.2f}"),
        ("speed", lambda r: f"{r.speed_ratio:.2f} ×"),
        ("memory", lambda r: f"{r.memory_ratio:.2f} ×"),
        ("defaults: speed", lambda r: f"{r.default_speed_ratio:.2f} ×"),
        ("memory", lambda r: f"{r.default_memory_ratio:.2f} ×"),
    ]
    lines = [[name for name, _ in columns], ["---"] * len(columns)]
    lines += [[show(result) for _, show in columns] for result in results]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()

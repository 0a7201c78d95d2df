"""Durable votes per second over HTTP on one uvicorn process, beside a plain handler and beside bare Redis.

    python -m benchmarks.feedback --json results.json

Three sides, each with a Redis of its own, configured as `plumbline up` does (every write is on disk before its answer):
`feedback` is the feedback API; `plain` a FastAPI handler that calls one Redis command; `script` the same load generator
straight against Redis, running the very script that the API runs. They take turns within each round. Before a figure
counts, the votes that a side stored must be exactly those that it acknowledged.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import load
from benchmarks.vote_sides import open_sides

VOTES = {1: 1_000, 16: 5_000, 64: 8_000}
"""By number of connections; in each round, on each side."""
QUICK_VOTES = {1: 100, 16: 500, 64: 800}
ROUNDS, QUICK_ROUNDS = 5, 2
TARGET = 0.5
"""Of `feedback` to `plain`."""


class Row(BaseModel):
    """One side at one number of connections."""

    side: str
    connections: int
    votes_per_s: float
    """Median over the rounds."""
    p50_ms: float
    """Of all votes of all rounds."""
    p99_ms: float
    client_share: float
    """Processor time of the load generator by clock time, largest over the rounds."""


class Ratio(BaseModel):
    """Speed of `feedback` by that of another side, in the same round."""

    connections: int
    to: str
    ratio: float
    """Median over the rounds."""
    lowest: float
    highest: float


class Result(BaseModel):
    """The document that `--json` writes."""

    date: str
    cores: int
    redis: str
    fsync_ms: float
    """Median time of one fsync of the disk that the Redis servers write to."""
    rounds: int
    rows: list[Row]
    ratios: list[Ratio]
    bytes_per_completion: float
    """Redis memory: its record of some 30 prompt and 40 completion tokens, and its prompt in the gate's stream."""
    bytes_per_vote: float
    """Redis memory: a thumb by a rater of its own, with all that finds it again."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feedback", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="a tenth of the votes: shows that it works")
    parser.add_argument(
        "--directory", type=Path, help="where the Redis servers write (default: the temporary directory)"
    )
    options = parser.parse_args(argv)
    votes, rounds = (QUICK_VOTES, QUICK_ROUNDS) if options.quick else (VOTES, ROUNDS)
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        result = measure(Path(directory), votes, rounds)
    show(result)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def measure(directory: Path, votes: dict[int, int], rounds: int) -> Result:
    """All rounds on all sides.

    Raises:
        SystemExit: a side stored other votes than it acknowledged.
    """
    loads: dict[tuple[str, int], list[load.Load]] = {}
    with ExitStack() as stack, Progress(console=Console(stderr=True)) as progress:
        total = rounds * sum(votes.values())
        sides = open_sides(stack, directory, completions=sum(votes.values()))
        bar = progress.add_task("votes", total=total * len(sides))
        for number in range(rounds):
            for connections, count in votes.items():
                for place in range(len(sides)):
                    side = sides[(place + number) % len(sides)]
                    loads.setdefault((side.name, connections), []).append(side.turn(connections, count))
                    progress.advance(bar, count)
        script = next(side for side in sides if side.name == "script")
        return Result(
            date=datetime.now(UTC).date().isoformat(),
            cores=len(os.sched_getaffinity(0)),
            redis=str(script.client.info("server")["redis_version"]),
            fsync_ms=_fsync_ms(directory),
            rounds=rounds,
            rows=[
                _row(side.name, connections, loads[side.name, connections]) for connections in votes for side in sides
            ],
            ratios=[_ratio(loads, connections, to) for connections in votes for to in ("plain", "script")],
            bytes_per_completion=round(script.bytes_per_completion),
            bytes_per_vote=round(script.memory_of_votes() / total),
        )


def _row(side: str, connections: int, runs: Sequence[load.Load]) -> Row:
    latencies = sorted(seconds * 1e3 for run in runs for seconds in run.latencies_s)
    percentiles = statistics.quantiles(latencies, n=100)
    return Row(
        side=side,
        connections=connections,
        votes_per_s=round(statistics.median(_rate(run) for run in runs), 1),
        p50_ms=round(percentiles[49], 2),
        p99_ms=round(percentiles[98], 2),
        client_share=round(max(run.client_share for run in runs), 2),
    )


def _ratio(loads: dict[tuple[str, int], list[load.Load]], connections: int, to: str) -> Ratio:
    pairs = zip(loads["feedback", connections], loads[to, connections], strict=True)
    ratios = [_rate(ours) / _rate(theirs) for ours, theirs in pairs]
    return Ratio(
        connections=connections,
        to=to,
        ratio=round(statistics.median(ratios), 3),
        lowest=round(min(ratios), 3),
        highest=round(max(ratios), 3),
    )


def _rate(run: load.Load) -> float:
    return len(run.answers) / run.seconds


def _fsync_ms(directory: Path) -> float:
    times = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 500)
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return round(statistics.median(times) * 1e3, 3)


def show(result: Result) -> None:
    """The table, and whether the target was reached."""
    table = Table("side", "connections", "votes/s", "p50 ms", "p99 ms", "client busy", "feedback is")
    ratios = {(ratio.to, ratio.connections): ratio for ratio in result.ratios}
    for row in sorted(result.rows, key=lambda row: (row.connections, row.side)):
        ratio = ratios.get((row.side, row.connections))
        beside = f"{ratio.ratio:.2f} of it ({ratio.lowest:.2f} to {ratio.highest:.2f})" if ratio else ""
        numbers = (f"{row.votes_per_s:,.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}", f"{row.client_share:.0%}")
        table.add_row(row.side, str(row.connections), *numbers, beside)
    console = Console()
    console.print(table)
    console.print(f"One fsync takes {result.fsync_ms} ms here. Redis {result.redis}, {result.cores} cores.")
    console.print(f"Redis memory: {result.bytes_per_vote} bytes a vote, {result.bytes_per_completion} a completion.")
    worst = min(ratio.ratio for ratio in result.ratios if ratio.to == "plain")
    verdict = "reached" if worst >= TARGET else "missed"
    console.print(f"Target: at least {TARGET} of a plain handler at every number of connections: {verdict} ({worst}).")


if __name__ == "__main__":
    main()

"""How long the chat API takes from its start to its first token, and where the time goes.

    python -m benchmarks.startup --json results.json                  # this checkout
    python -m benchmarks.startup --beside ../before --json both.json  # in turns with another checkout of the project

Each start is a fresh process over the same model, adapters and Redis: `cold` with the page cache emptied before it
(Linux, root; left out elsewhere), `warm` right after another start. The phases are the API's own
(`plumbline_startup_seconds`); what they leave is the interpreter, our imports, the listeners and the first answer.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
from pydantic import BaseModel
from rich.console import Console

from benchmarks import serving_sides

STARTS = 3
_PHASE = re.compile(r'^plumbline_startup_seconds\{phase="(\w+)"\} ([\d.e-]+)$', re.MULTILINE)
_DROP = Path("/proc/sys/vm/drop_caches")
Cache = Literal["cold", "warm"]

say = Console(stderr=True).log


class Start(BaseModel):
    """One start."""

    checkout: str
    cache: Cache
    seconds: float
    """To the first token of the first answer."""
    phases: dict[str, float]
    """Seconds; empty for a checkout that does not tell them."""


class Result(BaseModel):
    """The document that `--json` writes."""

    date: str
    cores: int
    load_before: float
    model: str = "Qwen3, 100M parameters, random, float32; two adapters"
    median_seconds: dict[str, float]
    """By `checkout, cache`."""
    starts: list[Start]


def main(argv: Sequence[str] | None = None) -> None:
    """Starts, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--beside", type=Path, help="another checkout, started in turns with this one")
    parser.add_argument("--starts", type=int, default=STARTS, help="of each kind")
    parser.add_argument("--warm", action="store_true", help="leave the machine's page cache alone: no cold starts")
    parser.add_argument("--directory", type=Path, help="where model, adapters and logs go (default: a temporary one)")
    options = parser.parse_args(argv)
    checkouts = {"this": Path(__file__).parent.parent} | ({"beside": options.beside} if options.beside else {})
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starts = measure(directory, checkouts, options.starts, cold=not options.warm and os.access(_DROP, os.W_OK))
    result = Result(
        date=datetime.now(UTC).date().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        load_before=round(load, 2),
        median_seconds=medians(starts),
        starts=starts,
    )
    for name, seconds in result.median_seconds.items():
        print(f"{name}: {seconds:.1f} s to the first token (median of {options.starts})")
    if options.json is not None:
        options.json.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def measure(directory: Path, checkouts: dict[str, Path], count: int, *, cold: bool) -> list[Start]:
    """All starts, in turns."""
    directory.mkdir(parents=True, exist_ok=True)
    base, artifacts = directory / "base", directory / "artifacts"
    make = [sys.executable, "-m", "benchmarks.adapters", "100m", base, artifacts, "2"]
    zero, live = subprocess.run(make, check=True, capture_output=True, text=True).stdout.split()
    caches: list[Cache] = ["cold", "warm"] if cold else ["warm"]
    with contextlib.ExitStack() as stack:
        registry = serving_sides.registry_with(stack, directory, zero=zero, live=live)
        starts = []
        for number in range(count):
            for cache in caches:
                for name, checkout in checkouts.items():
                    starts.append(_start(directory, base, registry, name, checkout, cache))
                    told = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in starts[-1].phases.items())
                    say(f"{number + 1}, {name}, {cache}: {starts[-1].seconds:.1f} s ({told})")
    return starts


def medians(starts: Sequence[Start]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for start in starts:
        found.setdefault(f"{start.checkout}, {start.cache}", []).append(start.seconds)
    return {name: round(statistics.median(seconds), 2) for name, seconds in found.items()}


def phases(metrics: str) -> dict[str, float]:
    """Out of the text of `/metrics`."""
    return {name: round(float(seconds), 3) for name, seconds in _PHASE.findall(metrics)}


def _start(
    directory: Path, base: Path, registry: serving_sides.Registry, name: str, checkout: Path, cache: Cache
) -> Start:
    if cache == "cold":
        subprocess.run(["sync"], check=True)
        _DROP.write_text("1")
    begun = time.perf_counter()
    with serving_sides.api(directory, base, registry, checkout=checkout) as (settings, _):
        asked = {"model": "assistant", "messages": [{"role": "user", "content": "w9 w10"}], "max_tokens": 1}
        httpx.post(f"http://127.0.0.1:{settings.port}/v1/chat/completions", json=asked).raise_for_status()
        seconds = time.perf_counter() - begun
        told = httpx.get(f"http://127.0.0.1:{settings.admin_port}/metrics").text
    return Start(checkout=name, cache=cache, seconds=round(seconds, 2), phases=phases(told))


if __name__ == "__main__":
    main()

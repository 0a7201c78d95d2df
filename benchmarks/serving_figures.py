"""The document that benchmarks/serving.py writes, and the arithmetic from measurements to its figures. Pure."""

import statistics
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from benchmarks.streams import Streams

Loop = Literal["closed", "open"]


class Interval(BaseModel):
    """The median over the rounds, and the lowest and highest round. Of five rounds these two hold the true median
    with 94 % confidence (1 - 2/2^5), whatever the distribution."""

    median: float
    lowest: float
    highest: float


class Row(BaseModel):
    """Ours beside a peer, in the same rounds. Ratios are ours to theirs: throughput above 1, gaps below 1 and an added
    time below 0 are in our favour."""

    loop: Loop
    streams: int
    """Closed loop: at once. Open loop: the most that were in flight on our side."""
    seeds: bool
    arrivals_per_s: float | None
    """Open loop."""
    throughput_ratio: float
    ttft_added_ms_p50: float
    """Our median time to the first token, less theirs."""
    inter_token_p99_ratio: float
    throughput: Interval
    ttft_added_ms: Interval
    inter_token: Interval
    processor: Interval
    """Processor time of all of a side's processes for a token: what a busy machine disturbs least."""
    ours_tokens_per_s: float
    theirs_tokens_per_s: float
    ours_ttft_ms: float
    theirs_ttft_ms: float
    ours_gap_p99_ms: float
    theirs_gap_p99_ms: float
    ours_processor_ms: float
    theirs_processor_ms: float
    """A token."""
    client_share: float
    """Processor time of the load generator by clock time, the largest."""


class Published(BaseModel):
    """Seconds from the registry's answer to `publish` to the first text by the new version at a client."""

    p50: float
    p95: float
    all: list[float]


class Swap(BaseModel):
    """Policies published under load, beside the same load without."""

    streams: int
    swaps: int
    requests: int
    """That were running or sent while policies changed."""
    failed: int
    p99_gap_ratio: float
    """The 99th percentile of gaps between two pieces of text, with swaps to without: median over the rounds."""
    p99_gap: Interval
    longest_gap_ms: float
    """With swaps."""
    longest_gap_without_ms: float
    published_to_first_token_s: Published


class Residents(BaseModel):
    """The same load dealt out over so many adapters, by the base's own throughput in the same round."""

    adapters: int
    streams: int
    throughput_to_base: float
    throughput: Interval


class Result(BaseModel):
    """The document that `--json` writes."""

    date: str
    cores: int
    model: str
    versions: dict[str, str]
    rounds: int
    load_before: float
    """The machine's load average at the start: far above 0, it was not quiet."""
    seconds: float
    against_vllm: list[Row]
    against_litellm: list[Row]
    swap: Swap
    residents: list[Residents]


def interval(values: Sequence[float], *, digits: int = 3) -> Interval:
    middle, lowest, highest = statistics.median(values), min(values), max(values)
    return Interval(median=round(middle, digits), lowest=round(lowest, digits), highest=round(highest, digits))


def row(
    ours: Sequence[Streams],
    theirs: Sequence[Streams],
    *,
    loop: Loop,
    streams: int,
    seeds: bool,
    arrivals_per_s: float | None = None,
) -> Row:
    """Both sides by round."""
    pairs = list(zip(ours, theirs, strict=True))
    throughput = interval([a.tokens_per_s / b.tokens_per_s for a, b in pairs])
    added = interval([(a.ttft_p50 - b.ttft_p50) * 1e3 for a, b in pairs], digits=2)
    gap = interval([a.gap_p99 / b.gap_p99 for a, b in pairs])
    return Row(
        loop=loop,
        streams=streams,
        seeds=seeds,
        arrivals_per_s=arrivals_per_s,
        throughput_ratio=throughput.median,
        ttft_added_ms_p50=added.median,
        inter_token_p99_ratio=gap.median,
        throughput=throughput,
        ttft_added_ms=added,
        inter_token=gap,
        processor=interval([a.processor_ms_per_token / b.processor_ms_per_token for a, b in pairs]),
        ours_tokens_per_s=round(statistics.median(it.tokens_per_s for it in ours), 1),
        theirs_tokens_per_s=round(statistics.median(it.tokens_per_s for it in theirs), 1),
        ours_ttft_ms=_milliseconds([it.ttft_p50 for it in ours]),
        theirs_ttft_ms=_milliseconds([it.ttft_p50 for it in theirs]),
        ours_gap_p99_ms=_milliseconds([it.gap_p99 for it in ours]),
        theirs_gap_p99_ms=_milliseconds([it.gap_p99 for it in theirs]),
        ours_processor_ms=round(statistics.median(it.processor_ms_per_token for it in ours), 2),
        theirs_processor_ms=round(statistics.median(it.processor_ms_per_token for it in theirs), 2),
        client_share=round(max(it.client_share for it in (*ours, *theirs)), 2),
    )


def swap(swapping: Sequence[Streams], still: Sequence[Streams], *, streams: int, published: dict[str, float]) -> Swap:
    """Args:
        published: by version name, when the registry had answered.

    Raises:
        SystemExit: a published version never wrote anything.
    """
    delays = []
    for name, at in published.items():
        begun = [it.pieces[0] for run in swapping for it in run.answers if it.model == name and it.pieces]
        if not begun:
            raise SystemExit(f"{name} was published and never answered")
        delays.append(min(begun) - at)
    gaps = interval([a.gap_p99 / b.gap_p99 for a, b in zip(swapping, still, strict=True)])
    return Swap(
        streams=streams,
        swaps=len(published),
        requests=sum(len(run.answers) for run in swapping),
        failed=sum(len(run.failed) for run in swapping),
        p99_gap_ratio=gaps.median,
        p99_gap=gaps,
        longest_gap_ms=_longest(swapping),
        longest_gap_without_ms=_longest(still),
        published_to_first_token_s=Published(
            p50=round(statistics.median(delays), 3),
            p95=round(p95(delays), 3),
            all=[round(delay, 3) for delay in delays],
        ),
    )


def residents(runs: Sequence[Streams], base: Sequence[Streams], *, adapters: int, streams: int) -> Residents:
    throughput = interval([a.tokens_per_s / b.tokens_per_s for a, b in zip(runs, base, strict=True)])
    return Residents(adapters=adapters, streams=streams, throughput_to_base=throughput.median, throughput=throughput)


def p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[18] if len(values) > 1 else values[0]


def _longest(runs: Sequence[Streams]) -> float:
    return round(max(gap for run in runs for answer in run.answers for gap in answer.gaps) * 1e3, 1)


def _milliseconds(values: Sequence[float]) -> float:
    return round(statistics.median(values) * 1e3, 2)

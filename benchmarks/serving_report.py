"""What benchmarks/serving.py prints: its tables, and which targets were reached."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.serving_figures import Interval, Result, Row

_WIDTH = 170
THROUGHPUT, TTFT_MS, GAP, SWAP_GAP = 0.97, 5.0, 1.1, 1.5


def show(result: Result) -> None:
    console = Console(width=max(Console().width, _WIDTH))
    for peer, rows in (("vLLM's server", result.against_vllm), ("LiteLLM before it", result.against_litellm)):
        console.print(_table(peer, rows))
    residents = ", ".join(f"{it.adapters}: {it.throughput_to_base:.2f}" for it in result.residents)
    console.print(f"Throughput with adapters resident, by the base's: {residents}")
    swap, delay = result.swap, result.swap.published_to_first_token_s
    console.print(
        f"{swap.swaps} swaps under {swap.streams} streams: {swap.failed} of {swap.requests} chats failed; gaps (p99) "
        f"are {_span(swap.p99_gap)} of those without; published to first token {delay.p50} s, p95 {delay.p95} s."
    )
    for line in missed(result):
        console.print(f"Missed: {line}")
    console.print(f"Load average at the start {result.load_before}; {result.seconds / 60:.0f} minutes.")


def missed(result: Result) -> list[str]:
    """Targets that were not reached, each in a line; empty is good."""
    found = []
    for row in result.against_vllm:
        if row.throughput_ratio < THROUGHPUT or row.ttft_added_ms_p50 > TTFT_MS or row.inter_token_p99_ratio > GAP:
            found.append(f"vLLM's server, {_name(row)}")
    for row in result.against_litellm:
        keeps_up = row.throughput_ratio >= 1 or row.loop == "open"  # in an open loop the arrivals set the throughput
        if not keeps_up or row.ttft_added_ms_p50 >= 0 or row.inter_token_p99_ratio >= 1:
            found.append(f"LiteLLM, {_name(row)}")
    if result.swap.failed or result.swap.p99_gap_ratio > SWAP_GAP:
        found.append("swaps")
    return found


def _table(peer: str, rows: Sequence[Row]) -> Table:
    table = Table(
        "load",
        "tokens/s",
        "throughput",
        "first token ms",
        "added ms",
        "gap p99 ms",
        "gap p99",
        "processor ms/token",
        "client",
        title=peer,
    )
    for row in rows:
        table.add_row(
            _name(row),
            f"{row.ours_tokens_per_s:.0f}, {row.theirs_tokens_per_s:.0f}",
            _span(row.throughput),
            f"{row.ours_ttft_ms:.0f}, {row.theirs_ttft_ms:.0f}",
            _span(row.ttft_added_ms),
            f"{row.ours_gap_p99_ms:.0f}, {row.theirs_gap_p99_ms:.0f}",
            _span(row.inter_token),
            f"{row.ours_processor_ms:.1f}, {row.theirs_processor_ms:.1f}",
            f"{row.client_share:.0%}",
        )
    return table


def _name(row: Row) -> str:
    if row.loop == "open":
        return f"open, {row.arrivals_per_s} a second"
    return f"{row.streams} streams{', seeds' if row.seeds else ''}"


def _span(interval: Interval) -> str:
    return f"{interval.median:.2f} ({interval.lowest:.2f} to {interval.highest:.2f})"

"""`plumbline leaderboard`: policy versions by people's votes, as a table with bars, or as JSON."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from feedback.leaderboard import Interval, Leaderboard

_BAR = 33
"""Characters."""


def leaderboard(
    json_: Annotated[bool, typer.Option("--json", help="As GET /v1/leaderboard gives it.")] = False,
) -> None:
    """Rank policy versions by people's votes: Bradley–Terry strengths at equal length, with 95 % intervals.

    Ranks that votes cannot tell apart are shown as a range. Versions that no votes connect are in groups of their own.
    """
    import redis
    from rich.console import Console

    from core.redis import connect
    from feedback import leaderboard as boards
    from feedback.archive import Archive
    from plumbline.cli import deployment

    config = deployment()
    try:
        with connect(config.redis_url) as client:
            found = boards.read(client, Archive(config.artifacts))
    except redis.RedisError:
        raise UsageError(f"Redis at {config.redis_url} does not answer, and the votes lie there.") from None
    if json_:
        typer.echo(found.to_json())
        return
    console = Console(highlight=False)
    if not found.standings:
        console.print("No vote has compared two policy versions yet.")
    else:
        console.print(table(found))
    console.print(footer(found), soft_wrap=True)


def table(found: "Leaderboard") -> "Table":
    """One line a version; the bars of all share one scale."""
    from rich.table import Table

    low = min(each.strength.low for each in found.standings)
    high = max(each.strength.high for each in found.standings)
    shown = Table("rank", "version", "Elo", "95 %", "as written", "votes", f"{low:+.2f} … {high:+.2f} logits", box=None)
    group = None
    for each in found.standings:
        if group not in (None, each.anchor):
            shown.add_row("", "", "", "", "", "", "")
        group = each.anchor
        elo = f"{each.elo.low:.0f} to {each.elo.high:.0f}" if each.version != each.anchor else "anchor"
        rank = f"{each.rank}" if each.rank == each.rank_last else f"{each.rank}–{each.rank_last}"
        shown.add_row(
            rank,
            f"v{each.version}",
            f"{each.elo.value:.0f}",
            elo,
            f"{each.as_written.value:+.2f}",
            f"{each.votes:g}",
            bar(each.strength, low, high),
        )
    return shown


def bar(of: "Interval", low: float, high: float) -> str:
    """The interval as a line from `low` to `high`, the estimate as a dot: `   ├──●──┤  `."""
    width = max(high - low, 1e-9)

    def place(value: float) -> int:
        return round((_BAR - 1) * (value - low) / width)

    signs = [" "] * _BAR
    start, end = place(of.low), place(of.high)
    signs[start : end + 1] = "─" * (end + 1 - start)
    signs[start], signs[end] = "├", "┤"
    signs[place(of.value)] = "●"
    return "".join(signs)


def footer(found: "Leaderboard") -> str:
    """What the numbers rest on."""
    units = "over raters" if found.by_rater else "over votes (fewer than 20 raters)"
    parts = [f"{found.votes} votes of {found.raters} raters, worth {found.effective:.0f} equal ones; intervals {units}"]
    if found.length is not None:
        value, low, high = (math.log(2) * each for each in (found.length.value, found.length.low, found.length.high))
        parts.append(f"twice the length is worth {value:+.2f} ({low:+.2f} to {high:+.2f}) logits")
    if found.left_out:
        parts.append("left out: " + ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()))
    return "; ".join(parts)

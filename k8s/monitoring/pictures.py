"""Draws the dashboards' panels over a real Prometheus, for the documents and for who has no Grafana at hand.

    pip install matplotlib
    python -m k8s.monitoring.pictures --prometheus http://127.0.0.1:9090 --minutes 20 --out docs/screenshots

The layout, the queries, units and thresholds are those of dashboards/*.json; the look is not Grafana's. matplotlib is
no dependency of Plumbline: nothing else needs it. Times are UTC.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

DASHBOARDS = Path(__file__).parent / "dashboards"
_COLUMNS, _CELL, _HEADING = 24, (0.72, 0.32), 0.5
"""Cells of Grafana's grid, their width and height in inches, and the height of a picture's heading."""
_STEPS = 240
_COLORS = plt.get_cmap("tab10").colors
_LONGEST = 46
"""Letters of a legend."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line: times (unix seconds) and values, and its name in the legend."""

    name: str
    times: list[float]
    values: list[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What is looked at: from `start` to `end` (unix seconds)."""

    url: str
    start: float
    end: float

    @property
    def step(self) -> float:
        return max(5.0, (self.end - self.start) / _STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=60, help="how much is shown")
    parser.add_argument("--ago", type=float, default=0, help="how many minutes ago that ends")
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end = time.time() - 60 * options.ago
    window = Window(url=options.prometheus, start=end - 60 * options.minutes, end=end)
    for file in sorted(DASHBOARDS.glob("*.json")):
        out = options.out / f"dashboard-{file.stem}.png"
        draw(json.loads(file.read_text()), window, out)
        print(f"{out}: {out.stat().st_size / 1000:.0f} kB")


def draw(board: dict[str, Any], window: Window, out: Path) -> None:
    """One picture of a whole dashboard: every panel where Grafana has it."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = _COLUMNS * _CELL[0], rows * _CELL[1] + _HEADING
    figure = plt.figure(figsize=(width, height), dpi=72)
    figure.text(0.12 / width, 1 - 0.32 / height, board["title"], fontsize=15, weight="bold")
    for panel in board["panels"]:
        left, bottom, wide, high = _box(panel)
        axes = figure.add_axes((left / width, 1 - (_HEADING + bottom) / height, wide / width, high / height))
        axes.set_title(panel["title"], loc="left", fontsize=9, weight="bold" if panel["type"] == "row" else "normal")
        _DRAWN[panel["type"]](axes, panel, window)
    figure.savefig(out, facecolor="white")
    plt.close(figure)


def _box(panel: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left edge, bottom edge below the heading, width and height in inches, without room for title and scales."""
    place = panel["gridPos"]
    x, y, w, h = (place[name] * _CELL[name in "yh"] for name in "xywh")
    if panel["type"] == "row":
        return x + 0.15, y + h, w, 0.01
    scale = {"timeseries": 0.65, "bargauge": 1.3}.get(panel["type"], 0.15)
    return x + scale, y + h - 0.3, w - scale - 0.15, max(0.01, h - 0.65)


# --- kinds of panels --------------------------------------------------------------------------------------------------


def _row(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    axes.axis("off")


def _timeseries(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    found = [series for target in panel["targets"] for series in over_time(target, window)]
    defaults = panel["fieldConfig"]["defaults"]
    if not found:
        _nothing(axes)
        return
    if defaults["custom"]["stacking"]["mode"] == "normal":
        times = sorted({at for series in found for at in series.times})
        known = [dict(zip(series.times, series.values, strict=True)) for series in found]
        heights = [[0.0 if math.isnan(each.get(at, 0.0)) else each.get(at, 0.0) for at in times] for each in known]
        axes.stackplot(_dates(times), heights, labels=[series.name for series in found], colors=_COLORS, alpha=0.7)
    else:
        for number, series in enumerate(found):
            axes.plot(_dates(series.times), series.values, label=series.name, color=_COLORS[number % 10], linewidth=1.2)
    for step in defaults.get("thresholds", {}).get("steps", [])[1:]:
        axes.axhline(step["value"], color=step["color"], linewidth=0.8, linestyle="--")
    _scale(axes, defaults, window)
    axes.legend(fontsize=6, ncols=3, loc="upper left", frameon=False)


def _bargauge(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    found = [it for target in panel["targets"] for it in at_end(target, window) if not math.isnan(it[1])]
    if not found:
        _nothing(axes)
        return
    names, values = zip(*reversed(found), strict=True)
    axes.barh(names, values, color=_COLORS[0])
    for place, value in enumerate(values):
        axes.text(value, place, f" {shown(value, panel['fieldConfig']['defaults']['unit'])}", va="center", fontsize=7)
    axes.tick_params(labelsize=7)
    axes.set_xlim(0, max(values) * 1.2 or 1)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _stat(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    found = [it for target in panel["targets"] for it in at_end(target, window)]
    defaults = panel["fieldConfig"]["defaults"]
    axes.axis("off")
    if not found:
        _nothing(axes)
        return
    for place, (name, value) in enumerate(found):
        reached = [s for s in defaults.get("thresholds", {}).get("steps", []) if (s["value"] or -math.inf) <= value]
        color = reached[-1]["color"] if reached else "black"
        x = (place + 0.5) / len(found)
        axes.text(x, 0.55, shown(value, defaults["unit"]), ha="center", va="center", fontsize=20, color=color)
        axes.text(x, 0.12, name, ha="center", va="center", fontsize=8)


def _table(axes: Axes, panel: dict[str, Any], window: Window) -> None:
    axes.axis("off")
    found = [it["metric"] for target in panel["targets"] for it in asked(window, target, instant=True)]
    if not found:
        _nothing(axes)
        return
    columns = sorted(found[0].keys() - {"__name__", "job"})
    cells = [[each[name][:16] for name in columns] for each in found]
    table = axes.table(cells, colLabels=columns, loc="upper left", cellLoc="left")
    table.auto_set_font_size(False)
    table.set_fontsize(7)


_DRAWN = {"row": _row, "timeseries": _timeseries, "bargauge": _bargauge, "stat": _stat, "table": _table}


def _nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=9, color="grey", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _scale(axes: Axes, defaults: dict[str, Any], window: Window) -> None:
    axes.set_xlim(*_dates([window.start, window.end]))
    locator = AutoDateLocator(maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, defaults["unit"]))
    low, high = axes.get_ylim()
    axes.set_ylim(defaults.get("min", low), max(high, 1e-9) * 1.25)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _dates(times: list[float]) -> Any:
    return date2num([datetime.fromtimestamp(at, tz=UTC) for at in times])


# --- Prometheus -------------------------------------------------------------------------------------------------------


def over_time(target: dict[str, Any], window: Window) -> list[Series]:
    """Values that are no number are kept: the line has a hole there."""
    found = []
    for each in asked(window, target, instant=False):
        times, values = zip(*each["values"], strict=True)
        found.append(Series(name=named(target, each["metric"]), times=list(times), values=[float(it) for it in values]))
    return found


def at_end(target: dict[str, Any], window: Window) -> list[tuple[str, float]]:
    found = asked(window, target, instant=True)
    return [(named(target, each["metric"]), float(each["value"][1])) for each in found]


def asked(window: Window, target: dict[str, Any], *, instant: bool) -> list[dict[str, Any]]:
    query = {"query": target["expr"].replace("$__rate_interval", "60s")}
    query |= {"time": window.end} if instant else {"start": window.start, "end": window.end, "step": window.step}
    path = "query" if instant else "query_range"
    answer = httpx.get(f"{window.url}/api/v1/{path}", params=query, timeout=60).raise_for_status().json()
    return answer["data"]["result"]


def named(target: dict[str, Any], labels: dict[str, str]) -> str:
    name = target["legendFormat"]
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name[:_LONGEST]


def shown(value: float, unit: str) -> str:
    """A number as a person reads it: `shown(0.25, "percentunit") == "25 %"`, `shown(0.0123, "s") == "12.3 ms"`."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return (
            f"{1000 * value:.3g} ms"
            if abs(value) < 1
            else f"{value:.3g} s"
            if abs(value) < 600
            else f"{value / 60:.3g} min"
        )
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB"
    return f"{value:.4g}"


if __name__ == "__main__":
    main()

"""The curve of over-optimisation as a table: what the optimizer's reward, the judge and people said, step by step."""

from collections.abc import Sequence

from rich.table import Table

from core.records import PolicyVersion
from training import sentinel

_COLUMNS = {
    "proxy_win_rate": "optimizer",
    "win_rate": "judge",
    "people_win_rate": "people, step before",
    "prequential_rate": "votes predicted",
    "kl_to_base": "KL to base",
    "kl_path": "KL path",
    "length_path": "length",
    "agreement": "agrees",
}
_SHARES = {"proxy_win_rate", "win_rate", "people_win_rate", "prequential_rate", "agreement"}


def table(policies: Sequence[PolicyVersion], version: int) -> Table | None:
    """A line a version on the way from version 0 to this one; None where no report has figures of the sentinel."""
    found = sentinel.series(policies, version)
    known = [name for name in _COLUMNS if any(name in figures for _, figures in found)]
    if not {"proxy_win_rate", "length_path"} & set(known):
        return None
    shown = Table("version", *(_COLUMNS[name] for name in known), title="over-optimisation", box=None)
    for step, figures in found:
        shown.add_row(f"v{step}", *(_cell(name, figures.get(name)) for name in known))
    return shown


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.0f} %" if name in _SHARES else f"{value:.2f}"

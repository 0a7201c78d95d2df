"""What the command line shows of raters."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.records import RaterEvent, RaterReport
from feedback.rater_lookup import RaterHistory, RaterPage, RaterView
from feedback.rater_review import Reviewed
from plumbline.local_time import local_time

_console = Console(highlight=False)
_wide = Console(highlight=False, width=1000)
"""Cuts nothing, whatever the terminal's width: names are to be copied."""


def print_page(page: RaterPage) -> None:
    """One line a rater."""
    if not page.raters:
        _console.print("nobody: the scheduler judges raters before each round")
        return
    table = Table("rater", "state", "judged", "weight", "since", "by", "why", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.columns[-1].overflow, table.columns[-1].max_width = "ellipsis", 60
    for view in page.raters:
        table.add_row(_plain(view.rater), _state(view), *_judged(view.report), *_decision(view.review))
    _wide.print(table)
    if page.more:
        _console.print(f"there are more: --after {_plain(page.raters[-1].rater)}", soft_wrap=True)


def _judged(report: RaterReport | None) -> list[str]:
    return ["", ""] if report is None else [f"{report.judged} of {report.votes}", f"{report.weight:.2f}"]


def _decision(event: RaterEvent | None) -> list[str]:
    return ["", "", ""] if event is None else [local_time(event.created_at), _plain(event.actor), _plain(event.reason)]


def print_rater(found: RaterHistory) -> None:
    """All that is known of one."""
    view, report, train = found.view, found.view.report, found.consent.train if found.consent else None
    _line("rater", _plain(view.rater))
    _line("state", _state(view))
    _line("consent", "never said" if train is None else "may be trained on" if train else "may not be trained on")
    if report is None:
        _line("judged", "not yet: by the round after their next vote")
    else:
        _line("judged", f"{local_time(report.as_of)}: {report.judged} of {report.votes} votes")
        _line("reliability", f"{_reliability(report)} (1 like others, 0 a coin, below 0 the opposite)")
        _line("weight", f"{report.weight:.2f} of their training rows")
        _line("found", _plain(report.reason) or "nothing against them")
    if it := found.invitation:
        _line("invited", f"until {local_time(it.expires)}, by {_plain(it.actor)}")
    _line("audited as", found.audited_as)
    for event in found.reviews:
        _line(event.action, f"{local_time(event.created_at)} by {_plain(event.actor)}: {_plain(event.reason)}")


def decided(rater: str, it: Reviewed) -> str:
    """E.g. `user-7 is in quarantine: nothing of theirs is trained on from the next snapshot on.`"""
    if it.quarantined:
        text = f"{rater} is in quarantine: nothing of theirs is trained on from the next snapshot on."
    else:
        text = f"{rater} is not in quarantine: their votes count from the next snapshot on."
    if it.new:
        return text
    return text + (f" So it was since {local_time(it.event.created_at)}, by {it.event.actor}." if it.event else "")


def _line(name: str, text: str) -> None:
    _console.print(f"{name:13} {text}", soft_wrap=True)


def _state(view: RaterView) -> str:
    return "[bold red]quarantined[/]" if view.quarantined else "active"


def _reliability(report: RaterReport) -> str:
    return f"{report.reliability:.2f} [{report.reliability_low:.2f}, {report.reliability_high:.2f}]"


def _plain(text: str) -> str:
    """Whatever an application takes for an id does nothing to the terminal."""
    return escape("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text))

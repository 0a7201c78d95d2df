"""What the command line shows of policies' origins, their differences, releases and the audit trail."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from core.audit import Verified
from core.evidence import Evidence
from core.records import policy_name
from core.releases import SHADOW, STAGES, Release
from core.shadow import Shadow
from feedback.head_to_head import HeadToHead
from plumbline.local_time import local_time
from plumbline.policies import Change, Difference, Step, Votes
from plumbline.tables import lines
from serving.release import preferred, votes

_console = Console(highlight=False, soft_wrap=True)


def print_lineage(path: Sequence[Step]) -> None:
    """The version, what it learned from, its parent below it, down to version 0."""
    root = Tree(_version(path[0]))
    branch = root
    for place, step in enumerate(path):
        if step.votes is not None:
            _add_votes(branch, step.votes)
        elif step.version:
            branch.add("[dim]its snapshot is not on this machine[/]")
        if place + 1 < len(path):
            branch = branch.add(f"trained from {_version(path[place + 1])}")
    _console.print(root)


def print_difference(found: Difference) -> None:
    way = " → ".join(f"v{version}" for version in found.path)
    _console.print(f"{policy_name(found.before)} to {policy_name(found.after)} by descent: {way}")
    _console.print(preferred_by_people(found.people))
    shown = {"gate": found.gate, "recipe": found.recipe, "snapshot": found.snapshot}
    for title, changes in shown.items():
        if changes:
            _console.print(_changes(title, changes, found))
        else:
            _console.print(f"{title}: nothing differs, or nothing is known")


def preferred_by_people(of: HeadToHead) -> str:
    """E.g. `people: v7 is preferred to v6 in 57.2% (49.1% to 65.0%) of 212 votes of 61 raters; at equal length 54.0%
    (45.6% to 62.2%)`."""
    if of.win_rate is None or of.at_equal_length is None:
        return f"people: nobody has compared v{of.after} with v{of.before}"
    shares = [f"{it.value:.1%} ({it.low:.1%} to {it.high:.1%})" for it in (of.win_rate, of.at_equal_length)]
    units = "" if of.by_rater else "; intervals over votes, as of fewer than 20 raters"
    said = f"people: v{of.after} is preferred to v{of.before} in {shares[0]} of {of.votes} votes of {of.raters} raters"
    return f"{said}; at equal length {shares[1]}{units}"


def print_releases(found: Sequence[Release]) -> None:
    """`plumbline releases show` has the rest."""
    table = lines("release", "version", "against", "state", "stage", "opened", "reason")
    for each in found:
        stage = f"{STAGES[each.stage]:.0%}" if each.stage != SHADOW else "unseen"
        row = [each.id, f"v{each.version}", f"v{each.against}", each.state, stage, local_time(each.opened)]
        table.add_row(*row, escape(each.reason))
    _console.print(table if found else "No candidate has passed its gate yet.")


def print_release(release: Release, evidence: Evidence | None, shadow: Shadow) -> None:
    """With what the judge said of answers that nobody saw, if there were any, and people, if anybody looked yet."""
    for name, value in release.model_dump(exclude={"schema_version"}).items():
        is_time = name in ("opened", "staged", "ended") and value is not None
        _console.print(f"{name:12} {local_time(value) if is_time else value}")
    if shadow.compared or shadow.waiting or shadow.error:
        _console.print(f"{'unseen':12} {unseen(shadow)}")
    if evidence is not None:
        _console.print(f"{'votes':12} {votes(evidence)}")
        _console.print(f"{'win rate':12} {evidence.low:.1%} to {evidence.high:.1%} (95 %, at all times together)")
        _console.print(f"{'finding':12} {evidence.finding or 'none yet'}")


def unseen(shadow: Shadow) -> str:
    """E.g. `the judge prefers 60.0% of 200 unseen answers (53.1% to 66.5%); 41 tokens, the incumbent's 40; 12 wait`."""
    parts = [f"not compared: {shadow.error}"] if shadow.error else [preferred(shadow)]
    if shadow.candidate_tokens is not None:
        parts.append(f"{shadow.candidate_tokens:.0f} tokens, the incumbent's {shadow.incumbent_tokens:.0f}")
    if shadow.waiting:
        parts.append(f"{shadow.waiting} wait")
    return "; ".join(parts)


def opened(release: Release | None) -> str:
    """E.g. `rel_7: assistant@v7 answers 10 % since 2026-11-21 13:20:07 (guardrails are quiet after 20 answers)`."""
    if release is None:
        return "none is open"
    since = local_time(release.staged)
    if release.share == 0:
        return f"{release.id}: {policy_name(release.version)} answers unseen since {since} ({release.reason})"
    share = f"{release.share:.0%}".replace("%", " %")
    return f"{release.id}: {policy_name(release.version)} answers {share} since {since} ({release.reason})"


def verified(found: Verified) -> str:
    """E.g. `14 entries, whole and in order; the last has the hash 90cd…`."""
    text = f"{found.entries} entries, whole and in order; the last has the hash {found.head}"
    return text + (f"; {found.unchained} before them are not chained" if found.unchained else "")


def _version(step: Step) -> str:
    text = f"[bold]{policy_name(step.version)}[/] {step.state}"
    if step.run:
        text += f", {step.method}, run {step.run[:12]}"
    return text + (f", [red]learned from what was erased at {local_time(step.tainted)}[/]" if step.tainted else "")


def _add_votes(branch: Tree, votes: Votes) -> None:
    rows = ", ".join(f"{count} {name}" for name, count in votes.rows.items() if "." not in name)
    snapshot = branch.add(f"snapshot {votes.snapshot[:12]}: {rows or 'no rows'}")
    if votes.erased is not None:
        snapshot.add(f"its rows were erased at {local_time(votes.erased)}")
    folds = ", ".join(f"{count} {name.partition('.')[2]}" for name, count in votes.rows.items() if "." in name)
    if folds:
        snapshot.add(f"pairs by fold: {folds}")
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(votes.dropped.items()))
    snapshot.add(f"of {votes.raters} raters, votes until {votes.until}" + (f"; dropped: {dropped}" if dropped else ""))


def _changes(title: str, changes: Sequence[Change], found: Difference) -> Table:
    table = Table(title, f"v{found.before}", f"v{found.after}", "difference", box=None)
    for change in changes:
        table.add_row(change.name, change.before, change.after, _minus(change))
    return table


def _minus(change: Change) -> str:
    try:
        difference = float(change.after) - float(change.before)
    except ValueError:
        return ""
    return f"{difference:+.4g}" if difference else ""

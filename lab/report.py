"""What the demo found: one record for the JSON file, and the tables that a person reads."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from core.records import Verdict
from core.releases import Ending
from lab.arena import Estimate

_NONE = "–"
_HEADERS = (
    "policy",
    "votes\nused",
    "votes\ndropped",
    "thumbs*",
    "RM acc.\nceiling",
    "KL parent\nKL base",
    "mean\ntokens",
    "gate",
    "gold win rate\nagainst v0",
    "good",
    "vote to\ntoken**",
    "served\nfailed",
)
_FULL_WIDTH, _HALF = 118, 6
_LEFT = {"policy", "votes\ndropped", "gate"}
_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.INCONCLUSIVE: "yellow"}


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReleaseStep(Part):
    """One entry of the audit trail: `ReleaseStep(what="release.advanced", after_s=61.0, reason="guardrails …")`."""

    what: str
    after_s: float
    """Since the release opened."""
    reason: str


class ReleaseFigures(Part):
    """How people decided on one version."""

    id: str
    against: int
    """The version that was live."""
    state: Ending
    reason: str
    seconds: float
    raters: int
    """Whose first vote counted."""
    won: int
    """Of the candidate, as `tied` and `lost`."""
    tied: int
    lost: int
    log10_e: float
    """Evidence that it is better; 1.3 promotes."""
    steps: list[ReleaseStep]


class RoundFigures(Part):
    """One row of the table. None: it was not measured, e.g. the win rate of a rejected version, which is not served."""

    version: int
    method: str
    votes: int
    """Of all to date, those that trained the reward model or tested it, ties included."""
    policy_rows: int
    """Votes that trained the policy."""
    dropped: dict[str, int]
    """Votes to date that gave the policy no preference pair, by reason."""
    thumbs: int
    """Of all to date, those that teach the reward model."""
    rm_accuracy: float | None
    """Of the reward model, on held-out votes."""
    rm_ceiling: float | None
    """Expected accuracy of an oracle on this round's votes: raters are noisy."""
    kl_parent: float | None
    """Nats per completion, as is `kl_base`."""
    kl_base: float | None
    tokens: float | None
    """Mean length of the version's answers."""
    gate: Verdict
    gate_reason: str
    release: ReleaseFigures | None = None
    """None if the gate held it back."""
    win_rate: float | None = None
    """Gold win rate over version 0; `win_rate_low` to `win_rate_high` is its 95 % interval."""
    win_rate_low: float | None = None
    win_rate_high: float | None = None
    good: float | None = None
    """Share of good answers."""
    vote_to_first_token_s: float | None = None
    """From the last vote in the snapshot to the first token of the new version; None if the gate held it back."""
    served: int = 0
    failed: int = 0
    """Chats of the round."""


class Control(Part):
    """Version 0 against an independent sample of itself."""

    win_rate: float
    win_rate_low: float
    win_rate_high: float
    good: float
    tokens: float


class Versus(Part):
    """Two versions, paired on the same prompts."""

    newer: int
    older: int
    win_rate: float
    """Of the newer over the older, head to head."""
    win_rate_low: float
    win_rate_high: float
    difference: float
    """Of their win rates over version 0."""
    difference_low: float
    difference_high: float


class Example(Part):
    """One prompt and one sample each of version 0 and the newest served version; not picked by quality."""

    prompt: str
    before: str
    after: str


class Report(Part):
    """Everything that `plumbline demo --json FILE` writes."""

    rounds: list[RoundFigures]
    control: Control
    v2_vs_v1: Versus | None
    """None unless two trained versions are being served."""
    prompts: int
    """Held-out prompts behind every win rate."""
    newest: int
    """The newest served version: the right column of the examples."""
    examples: list[Example]
    seconds: dict[str, float]
    failed: int
    """Chats that failed during the whole demo."""

    @property
    def succeeded(self) -> bool:
        """No chat failed, and the first round's policy went live. A later refusal is gate and people at work."""
        first = self.rounds[0].release
        return self.failed == 0 and first is not None and first.state == "promoted"


def win_fields(estimate: Estimate) -> dict[str, float]:
    """The three fields that a win rate has in every record here."""
    return {"win_rate": estimate.mean, "win_rate_low": estimate.low, "win_rate_high": estimate.high}


def render(report: Report, *, width: int) -> Group:
    """The table (in two halves on a narrow terminal), its reading, and the answers side by side."""
    columns = range(1, len(_HEADERS))
    halves = [columns] if width >= _FULL_WIDTH else [columns[:_HALF], columns[_HALF:]]
    return Group(
        *(_rounds(report, half) for half in halves),
        *_releases(report),
        Text(),
        *_notes(report),
        Text(),
        _examples(report),
    )


def _rounds(report: Report, columns: range) -> Table:
    """The chosen columns, behind the one that names the policy."""
    table = Table(title="What the votes did", box=box.SIMPLE_HEAVY, padding=(0, 1, 0, 0), pad_edge=False)
    for header in (_HEADERS[0], *(_HEADERS[i] for i in columns)):
        table.add_column(header, justify="left" if header in _LEFT else "right", no_wrap=True)
    for cells in (*(list(_round_cells(row)) for row in report.rounds), list(_control_cells(report.control))):
        table.add_row(cells[0], *(cells[i] for i in columns), end_section=True)
    return table


def _round_cells(row: RoundFigures) -> Iterator[RenderableType]:
    yield f"v{row.version} {row.method}"
    yield str(row.votes)
    yield "\n".join(f"{count} {reason}" for reason, count in sorted(row.dropped.items()) if count) or "none"
    yield str(row.thumbs)
    yield f"{_share(row.rm_accuracy)}\n{_share(row.rm_ceiling)}"
    yield f"{_number(row.kl_parent, 2)}\n{_number(row.kl_base, 2)}"
    yield _number(row.tokens, 1)
    yield Text(row.gate.value, style=_STYLES[row.gate])
    yield _win(row.win_rate, row.win_rate_low, row.win_rate_high, between="\n")
    yield _share(row.good)
    yield _NONE if row.vote_to_first_token_s is None else f"{row.vote_to_first_token_s:.0f} s"
    yield Text(f"{row.served}\n{row.failed}", style="red" if row.failed else "")


def _releases(report: Report) -> Iterator[RenderableType]:
    """A line for each step that a candidate made, as the audit trail has it."""
    released = [(row.version, row.release) for row in report.rounds if row.release is not None]
    if not released:
        return
    table = Table(title="How people released it", box=box.SIMPLE_HEAVY, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("policy", "after", "step", "raters", "log10 E"):
        table.add_column(header, justify="left" if header in ("policy", "step") else "right", no_wrap=True)
    table.add_column("why", ratio=1, overflow="fold")
    for version, release in released:
        for step in release.steps:
            is_last = step is release.steps[-1]
            figures = (str(release.raters), f"{release.log10_e:.2f}") if is_last else ("", "")
            row = [f"v{version}", f"{step.after_s:.0f} s", step.what.removeprefix("release."), *figures, step.reason]
            table.add_row(*(Text(cell) for cell in row), end_section=is_last)
    yield table


def _control_cells(row: Control) -> Iterator[RenderableType]:
    yield "v0 again"
    yield from [""] * 5
    yield _number(row.tokens, 1)
    yield "control"
    yield _win(row.win_rate, row.win_rate_low, row.win_rate_high, between="\n")
    yield _share(row.good)
    yield from [""] * 2


def _notes(report: Report) -> Iterator[Text]:
    yield Text("*  Thumbs teach the reward model, at half the weight of a comparison.", style="dim")
    yield Text("** From the last vote in the snapshot to the first token of the new policy.", style="dim")
    for row in report.rounds:
        yield Text(f"v{row.version}: gate {row.gate.value}: {row.gate_reason}", style=_STYLES[row.gate])
    for row in report.rounds:
        teacher = "the reward model" if row.method == "ppo" else f"{row.policy_rows} of its votes"
        yield Text(
            f"v{row.version}: {teacher} trained the policy; the reward model saw {row.votes} votes to date "
            "(a part of them only to test it)."
        )
    if report.v2_vs_v1 is not None:
        pair = report.v2_vs_v1
        head_to_head = _win(pair.win_rate, pair.win_rate_low, pair.win_rate_high)
        yield Text(
            f"v{pair.newer} against v{pair.older}, paired on the same prompts: wins {head_to_head}; difference of "
            f"their win rates over v0 {pair.difference:+.3f} [{pair.difference_low:+.3f}, {pair.difference_high:+.3f}]"
        )
    yield Text(
        f"Win rates: {report.prompts} fresh prompts at temperature 1, no vote and no training prompt among them; ties "
        "count half; intervals allow for prompts that ask the same thing."
    )
    yield Text("Seconds: " + ", ".join(f"{part} {seconds:.0f}" for part, seconds in report.seconds.items()))


def _examples(report: Report) -> Table:
    table = Table(title="One sample each, not picked", box=box.SIMPLE_HEAVY, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("prompt", "v0", f"v{report.newest}"):
        table.add_column(header, ratio=1, overflow="fold")
    for example in report.examples:
        table.add_row(*(Text(text) for text in (example.prompt, example.before, example.after)))
    return table


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return _number(value, 3)


def _win(mean: float | None, low: float | None, high: float | None, *, between: str = " ") -> str:
    return _NONE if mean is None else f"{mean:.3f}{between}[{low:.3f}, {high:.3f}]"

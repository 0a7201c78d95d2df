"""What becomes of an open release now: on to the next stage, live, or back. Pure: figures in, at most one step out.

Where a release begins unseen, it goes on when the judge has compared enough answers, whatever it says of them, or when
their hour is over. From then on people decide. Guardrails come first and can only stop. Evidence against ends a release
at any stage. A stage is left when nothing speaks against it after twenty answers of the candidate and ten seconds, or
where traffic is scarce after a day; and from the last stage the only way on is evidence for the candidate.
"""

from dataclasses import dataclass
from typing import Literal

from core.evidence import Evidence
from core.exposures import Arm, Exposure
from core.releases import STAGES, Release
from core.shadow import LONGEST_S, WANTED, Shadow
from serving import evidence as rules
from serving.guardrails import Side, alarm

STAGE_COMPLETIONS = 20
STAGE_S = 10.0
"""A stage lasts at least so long: what a replica saw last is counted a second later."""
PATIENCE_S = 24 * 3600.0
_DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What to do, and why: `Step(kind="rolled_back", reason="empty: 20 of 20 empty, 0 of 180 of the incumbent's")`."""

    kind: Literal["advance", "promoted", "rolled_back", "kept"]
    reason: str


def next_step(
    release: Release, evidence: Evidence, exposures: dict[Arm, Exposure], *, now: float, max_days: float
) -> Step | None:
    """The next step of a release that people see; None while there is nothing to do but wait.

    Args:
        now: on Redis's clock, as the release's own times.
    """
    candidate, incumbent = (
        Side(exposure=exposures[arm], thumbs=rules.thumbs(evidence, arm)) for arm in ("candidate", "incumbent")
    )
    if reason := alarm(candidate, incumbent, share=release.share):
        return Step(kind="rolled_back", reason=f"guardrail {reason}")
    if evidence.finding == "worse":
        return Step(kind="rolled_back", reason=f"people prefer the incumbent: {votes(evidence)}")
    if evidence.finding == "undecided":
        return Step(kind="kept", reason=f"no difference was found: {votes(evidence)}")
    if evidence.finding is None and now - release.opened > max_days * _DAY_S:
        return Step(kind="kept", reason=f"no decision after {max_days:g} days: {votes(evidence)}")
    if not _may_leave(release, exposures["candidate"], now):
        return None
    if release.stage < len(STAGES) - 1:
        answers = exposures["candidate"].staged
        return Step(kind="advance", reason=f"guardrails are quiet after {answers} answers at {release.share:.0%}")
    if evidence.finding == "better":
        return Step(kind="promoted", reason=f"people prefer the candidate: {votes(evidence)}")
    return None


def after_shadow(release: Release, shadow: Shadow, *, now: float) -> Step | None:
    """The next step of a release that nobody sees: on to its first users; None while the judge is to compare more.

    Args:
        now: on Redis's clock, as the release's own times.
    """
    if shadow.error:
        return Step(kind="advance", reason=f"unseen answers cannot be compared: {shadow.error}")
    if shadow.compared >= WANTED:
        return Step(kind="advance", reason=preferred(shadow))
    if now - release.staged >= LONGEST_S:
        return Step(kind="advance", reason=f"the hour for unseen answers is over: {preferred(shadow)}")
    return None


def preferred(shadow: Shadow) -> str:
    """In words: `the judge prefers 60.0% of 200 unseen answers (53.1% to 66.5%)`."""
    if shadow.win_rate is None:
        return "none was compared"
    wins = f"{shadow.win_rate:.1%} of {shadow.compared} unseen answers"
    return f"the judge prefers {wins} ({shadow.low:.1%} to {shadow.high:.1%})"


def votes(evidence: Evidence) -> str:
    """In words: `61 won, 12 tied, 40 lost; log10 E is 0.7 for and -1.3 against`."""
    return (
        f"{evidence.wins} won, {evidence.ties} tied, {evidence.losses} lost; "
        f"log10 E is {evidence.log10_e:.1f} for and {evidence.log10_e_against:.1f} against"
    )


def _may_leave(release: Release, candidate: Exposure, now: float) -> bool:
    waited = now - release.staged
    return waited >= PATIENCE_S or (candidate.staged >= STAGE_COMPLETIONS and waited >= STAGE_S)

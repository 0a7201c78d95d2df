"""What the feedback log says about a release: a fold of its entries. Pure, so a replay gives the same decision.

What counts for promotion: the first preference of each person on a comparison that this release drew at random. Only
people, only with an id, and not while they are in quarantine. Strangers are never asked (serving/comparisons.py), since
one may come as many. A first vote stays what it was: whoever votes is then told which policies stood there, so a
revision or a withdrawal afterwards is not blind and moves nothing; nor does another vote in its place. A quarantine or
an erasure takes everything of that person out again, a restoration puts it back.

A finding stays once it is reached: Ville's inequality bounds that it is ever reached. Only where somebody's votes are
taken out or put back, it is found anew from what counts then.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from core.evidence import Evidence, Outcome, Voter
from core.exposures import Arm
from core.records import Comparison, Feedback
from core.releases import Release
from serving import sequential_test
from serving.guardrails import Thumbs
from serving.sequential_test import Tally

STRIDE = 1.05
"""The trail has a point each time that there are so many times as many people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What one person says with one entry: `Given(outcome="win")`, or `Given(arm="candidate", thumb=-1)`."""

    outcome: Outcome | None = None
    arm: Arm | None = None
    thumb: Literal[1, -1] | None = None


def vote(feedback: Feedback, comparison: Comparison, release: Release) -> Given | None:
    """What a preference says of the release; None if it says nothing that counts."""
    if not _counts(feedback) or feedback.kind != "preference":
        return None
    versions = comparison.policy_versions
    if comparison.release != release.id or sorted(versions) != sorted((release.version, release.against)):
        return None
    if feedback.value in ("tie", "both_bad"):
        return Given(outcome="tie")
    chosen = versions["ab".index(str(feedback.value))]
    return Given(outcome="win" if chosen == release.version else "loss")


def thumb(feedback: Feedback, release: Release) -> Given | None:
    """What a thumb says of one arm."""
    arms: dict[int, Arm] = {release.version: "candidate", release.against: "incumbent"}
    if not _counts(feedback) or feedback.kind != "thumb" or feedback.policy_versions[0] not in arms:
        return None
    return Given(arm=arms[feedback.policy_versions[0]], thumb=1 if feedback.value == 1 else -1)


def _counts(feedback: Feedback) -> bool:
    is_first = feedback.revision == 1 and not feedback.withdrawn
    return is_first and feedback.rater_kind == "human" and feedback.rater is not None


def give(voter: Voter, given: Given) -> Voter:
    """The voter with that, unless they gave the like before."""
    if given.outcome is not None:
        return voter if voter.outcome else voter.model_copy(update={"outcome": given.outcome})
    field = "candidate_thumb" if given.arm == "candidate" else "incumbent_thumb"
    return voter if getattr(voter, field) else voter.model_copy(update={field: given.thumb})


def changed(evidence: Evidence, before: Voter, after: Voter, *, position: str, alpha: float) -> Evidence:
    """The evidence when one person's part goes from `before` to `after`, by the entry at that position."""
    moved = _counted(_counted(evidence, before, -1), after, 1)
    if moved.raters != evidence.raters:
        moved = _trailed(moved)
    is_recount = before.aside != after.aside
    if evidence.finding is None or is_recount:
        found = sequential_test.finding(tally(moved), alpha)
        moved = moved.model_copy(update={"finding": found, "found_at": position if found else ""})
    return moved


def _counted(evidence: Evidence, voter: Voter, times: int) -> Evidence:
    if voter.aside:
        return evidence.model_copy(update={"aside": evidence.aside + times})
    places = {"win": "wins", "tie": "ties", "loss": "losses"}
    names = [places[voter.outcome]] if voter.outcome else []
    for arm in get_args(Arm):
        given = voter.candidate_thumb if arm == "candidate" else voter.incumbent_thumb
        names += [f"{arm}_thumbs"] if given else []
        names += [f"{arm}_down"] if given == -1 else []
    return evidence.model_copy(update={name: getattr(evidence, name) + times for name in names})


def _trailed(evidence: Evidence) -> Evidence:
    """With the counts of now at the end of the trail, if enough people came. Where votes were taken out, what the trail
    says of as many people or more goes."""
    trail = [counts for counts in evidence.trail if sum(counts) < evidence.raters]
    if evidence.raters >= (STRIDE * sum(trail[-1]) if trail else 1):
        trail.append((evidence.wins, evidence.ties, evidence.losses))
    return evidence.model_copy(update={"trail": tuple(trail)})


def tally(evidence: Evidence) -> Tally:
    return Tally(wins=evidence.wins, ties=evidence.ties, losses=evidence.losses)


def thumbs(evidence: Evidence, arm: Arm) -> Thumbs:
    if arm == "candidate":
        return Thumbs(given=evidence.candidate_thumbs, down=evidence.candidate_down)
    return Thumbs(given=evidence.incumbent_thumbs, down=evidence.incumbent_down)


def summarised(evidence: Evidence) -> Evidence:
    """With the figures that people look at."""
    counts = tally(evidence)
    return evidence.model_copy(update=figures(counts) | {"p_value": sequential_test.p_value(counts)})


def figures(counts: Tally) -> dict[str, float]:
    """`log10_e`, `log10_e_against`, and `low` and `high` of the win rate, as `Evidence` explains them."""
    to_log10 = 0.4342944819032518
    interval = sequential_test.confidence_sequence(counts)
    return {
        "log10_e": float(sequential_test.log_e(counts.wins, counts.losses)) * to_log10,
        "log10_e_against": float(sequential_test.log_e(counts.losses, counts.wins)) * to_log10,
        "low": interval.low,
        "high": interval.high,
    }

"""What became of a vote, in words for whoever gave it. Pure.

Nobody learns here that they are in quarantine: an attacker would try until the words change. So to raters some reasons
are one, `not_used`, and among these are such as any honest rater may meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.records import Feedback, PolicyState, policy_name
from feedback.eligibility import KINDS, Unusable
from feedback.influence import Crowded, Withheld
from feedback.outcomes import Outcome

Reason = Unusable | Crowded | Withheld
"""Every reason that the rules of snapshots give."""
WORDS: dict[str, str | None] = {
    "expired": "the answer was no longer kept",
    "no_consent": "the conversation or the vote may not be trained on",
    "truncated": "the answer had been cut off",
    "flagged": "the answer was flagged",
    "too_fast": "it came sooner than the answer can be read",
    "identical": "there was no difference to learn from",
    "duplicate": "a later vote on the same answers counts",
    "ai_fold": "votes by AIs do not judge policies",
    "ai_share": "votes by AIs are only a part of all",
    "quarantined": None,
    "erased": None,
    "untrusted": None,
    "theme_share": None,
    "rater_share": None,
    "tie": "a tie trains no policy",
    "stale": "an older policy wrote the answer",
    "paired": "a comparison trains the policy on the same answer",
    "ai_policy_share": "votes by AIs are only a part of all",
}
"""Of each `Reason`. None: to raters it is `NOT_USED`, without more."""
NOT_USED = "not_used"
WAITING = "waiting for the next round"
_RELEASED = tuple(set(PolicyState) - {PolicyState.CANDIDATE, PolicyState.REJECTED})
"""Met at least a part of the users."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """What a vote became in one snapshot, and which policy versions were trained on that."""

    snapshot: str
    outcome: Outcome
    versions: Sequence[tuple[int, PolicyState]]


def shown(reason: str | None) -> str | None:
    """A reason as raters may know it. One that this version does not know is kept back."""
    return reason if reason is None or _words(reason) else NOT_USED


State = Literal["waiting", "used", "set_aside", "withdrawn"]


def state_of(feedback: Feedback, uses: Sequence[Use]) -> State:
    """In a word what `in_words` says of a vote that no newer one replaced."""
    if feedback.withdrawn:
        return "withdrawn"
    if _used(uses):
        return "used"
    if feedback.kind not in KINDS or (uses and uses[0].outcome.used_as is None):
        return "set_aside"
    return "waiting"


def released_in(uses: Sequence[Use]) -> list[int]:
    """The released policy versions that were trained on snapshots in which it gave a row, lowest first."""
    return sorted({version for use in uses if use.outcome.used_as for version, it in use.versions if it in _RELEASED})


def in_words(feedback: Feedback, uses: Sequence[Use], *, superseded: bool) -> str:
    """What became of the vote.

    Args:
        uses: of the snapshots that looked at it, the newest first.

    Example: `in_words(vote, [], superseded=False) == "waiting for the next round"`.
    """
    over = "taken back" if feedback.withdrawn else "replaced by a newer vote" if superseded else ""
    if used := _used(uses):
        return f"{used}; {over} since" if over else used
    if over:
        return f"not used: {over}"
    if feedback.kind not in KINDS:
        return f"not used: a {feedback.kind} is for people to read"
    if uses and uses[0].outcome.used_as is None:
        words = _words(uses[0].outcome.reason)
        return f"not used: {words}" if words else "not used"
    rejected = [version for use in uses if use.outcome.used_as for version, _ in use.versions]
    return f"{WAITING}; {policy_name(max(rejected))} learned from it and was not released" if rejected else WAITING


def _used(uses: Sequence[Use]) -> str | None:
    """By the first released policy that it trained; else by the first whose judge it trained."""
    released = [
        (version, use.outcome)
        for use in uses
        if use.outcome.used_as
        for version, state in use.versions
        if state in _RELEASED
    ]
    trained = [version for version, outcome in released if outcome.trains_policy]
    if trained or not released:
        return f"used in {policy_name(min(trained))}" if trained else None
    version, outcome = min(released, key=lambda it: it[0])
    words = _words(outcome.reason)
    return f"used in {policy_name(version)}, to judge answers only" + (f": {words}" if words else "")


def _words(reason: str | None) -> str | None:
    return WORDS.get(reason) if reason is not None else None

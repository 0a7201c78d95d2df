"""What the log says of a release: which votes count, and that votes can be taken out and put back."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from core.evidence import Evidence, Voter
from core.records import Comparison, Feedback, Target
from core.releases import Release
from serving import evidence as rules
from serving.evidence import Given
from serving.guardrails import Thumbs
from serving.sequential_test import Tally, finding

ALPHA = 0.05
RELEASE = Release(
    id="rel_7",
    version=7,
    against=5,
    state="canary",
    stage=2,
    share=0.1,
    opened=100.0,
    staged=160.0,
    alpha=ALPHA,
    reason="test",
    actor="test",
)
COMPARISON = Comparison(
    id="cmp_1",
    created=1.0,
    completion_ids=["chatcmpl-a", "chatcmpl-b"],
    policy_versions=[5, 7],
    order=[1, 0],
    asked="release",
    release="rel_7",
    propensity=0.5,
    rater="user-7",
)
EMPTY = Evidence(release="rel_7", position="0-0")


def preference(value: str = "b", **changes: object) -> Feedback:
    fields: dict[str, Any] = {
        "id": "fb_1",
        "target": Target(type="comparison", id="cmp_1"),
        "kind": "preference",
        "value": value,
        "rater": "user-7",
        "created_at": 2.0,
        "policy_versions": [5, 7],
        "completion_ids": ["chatcmpl-a", "chatcmpl-b"],
        "train": True,
    }
    return Feedback.model_validate(fields | changes)


def thumb(value: int, *, version: int, **changes: object) -> Feedback:
    target = Target(type="completion", id="chatcmpl-a")
    fields: dict[str, Any] = {"kind": "thumb", "value": value, "target": target, "policy_versions": [version]}
    return preference(**(fields | changes))


@pytest.mark.parametrize(("value", "outcome"), [("a", "loss"), ("b", "win"), ("tie", "tie"), ("both_bad", "tie")])
def test_sides_are_resolved_from_the_comparison(value: str, outcome: str) -> None:
    """The candidate stands on side b here; mirrored, the same letters say the opposite."""
    mirrored = COMPARISON.model_copy(update={"policy_versions": [7, 5]})
    opposite = {"win": "loss", "loss": "win", "tie": "tie"}

    assert rules.vote(preference(value), COMPARISON, RELEASE) == Given(outcome=outcome)  # type: ignore[arg-type]
    assert rules.vote(preference(value), mirrored, RELEASE) == Given(outcome=opposite[outcome])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"rater": None},
        {"rater_kind": "ai"},
        {"rater_kind": "ai_self"},
        {"revision": 2},
        {"revision": 2, "withdrawn": True},
        {"kind": "ranking", "value": [["a"], ["b"]]},
    ],
)
def test_votes_that_do_not_count(changes: Mapping[str, object]) -> None:
    """Nobody in particular, models, later revisions, withdrawals, other kinds."""
    assert rules.vote(preference(**changes), COMPARISON, RELEASE) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"asked": "random", "release": None},
        {"asked": "active", "release": None},
        {"asked": "requested", "release": None},
        {"release": "rel_6"},
        {"policy_versions": [5, 0]},
        {"policy_versions": [7, 7]},
    ],
)
def test_comparisons_that_do_not_count(changes: Mapping[str, object]) -> None:
    """Those that this release did not draw, however alike they look, and those of other policies."""
    assert rules.vote(preference(), COMPARISON.model_copy(update=dict(changes)), RELEASE) is None


def test_thumbs_are_of_one_arm() -> None:
    """By the version that answered; a third version is neither arm."""
    assert rules.thumb(thumb(-1, version=7), RELEASE) == Given(arm="candidate", thumb=-1)
    assert rules.thumb(thumb(1, version=5), RELEASE) == Given(arm="incumbent", thumb=1)
    assert rules.thumb(thumb(1, version=0), RELEASE) is None
    assert rules.thumb(thumb(1, version=7, rater=None), RELEASE) is None
    assert rules.thumb(preference(), RELEASE) is None


def test_only_the_first_counts() -> None:
    """A second preference of a person, and a second thumb on the same arm, change nothing."""
    voter = rules.give(Voter(), Given(outcome="win"))
    voter = rules.give(voter, Given(outcome="loss"))
    voter = rules.give(voter, Given(arm="candidate", thumb=-1))
    voter = rules.give(voter, Given(arm="candidate", thumb=1))
    voter = rules.give(voter, Given(arm="incumbent", thumb=1))

    assert voter == Voter(outcome="win", candidate_thumb=-1, incumbent_thumb=1)


def test_a_quarantine_takes_everything_out_and_a_restoration_puts_it_back() -> None:
    """Vote and thumbs; whoever is aside is counted as such."""
    voter = Voter(outcome="win", candidate_thumb=-1, incumbent_thumb=1)
    aside = voter.model_copy(update={"aside": True})

    counted = rules.changed(EMPTY, Voter(), voter, position="1-0", alpha=ALPHA)
    assert (rules.tally(counted), rules.thumbs(counted, "candidate")) == (Tally(wins=1), Thumbs(given=1, down=1))
    out = rules.changed(counted, voter, aside, position="2-0", alpha=ALPHA)
    assert (rules.tally(out), rules.thumbs(out, "candidate"), out.aside) == (Tally(), Thumbs(), 1)
    assert rules.changed(out, aside, voter, position="3-0", alpha=ALPHA) == counted


def test_a_finding_stays_when_votes_turn_but_not_when_they_fall_out() -> None:
    """Eleven losses decide (E ≥ 20); fifty wins later they still do; one of the eleven set aside, they do no more."""
    evidence = EMPTY
    for place in range(11):
        evidence = rules.changed(evidence, Voter(), Voter(outcome="loss"), position=f"{place}-0", alpha=ALPHA)
    assert (evidence.finding, evidence.found_at) == ("worse", "10-0")

    for place in range(20, 70):
        evidence = rules.changed(evidence, Voter(), Voter(outcome="win"), position=f"{place}-0", alpha=ALPHA)
    assert (evidence.finding, evidence.found_at) == ("worse", "10-0")

    aside = Voter(outcome="loss", aside=True)
    evidence = rules.changed(evidence, Voter(outcome="loss"), aside, position="80-0", alpha=ALPHA)
    assert (evidence.finding, evidence.found_at) == ("better", "80-0")


def test_the_figures_that_people_see() -> None:
    """log10 of both e-values, the p-value and the interval belong to the counts."""
    shown = rules.summarised(EMPTY.model_copy(update={"wins": 10}))

    assert shown.log10_e == pytest.approx(1.2150, abs=1e-3)  # log10 of 16.405
    assert shown.log10_e_against < 0
    assert shown.p_value == pytest.approx(1 / 16.405, rel=1e-3)
    assert shown.low < 1.0 == shown.high


def test_the_trail_has_a_point_for_a_twentieth_more_people() -> None:
    """Each of the first twenty is one, then the 21st and the 23rd (22.05 and more). A vote that is taken out takes the
    points of as many people or more with it; thumbs make none."""
    evidence = EMPTY
    for place in range(24):
        evidence = rules.changed(evidence, Voter(), Voter(outcome="win"), position=f"{place}-0", alpha=ALPHA)
    thumb = Voter(candidate_thumb=1)
    assert rules.changed(evidence, Voter(), thumb, position="30-0", alpha=ALPHA).trail == evidence.trail
    assert evidence.trail == tuple((wins, 0, 0) for wins in (*range(1, 22), 23))

    aside = Voter(outcome="win", aside=True)
    for place in (31, 32):
        evidence = rules.changed(evidence, Voter(outcome="win"), aside, position=f"{place}-0", alpha=ALPHA)
    assert evidence.raters == 22 and evidence.trail == tuple((wins, 0, 0) for wins in range(1, 22))


class People(RuleBasedStateMachine):
    """Whatever people and operators do in whatever order, the counts are those of who is not aside, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.evidence = EMPTY
        self.voters: dict[str, Voter] = {}

    raters = st.sampled_from("abcdef")

    @rule(rater=raters, outcome=st.sampled_from(["win", "tie", "loss"]))
    def votes(self, rater: str, outcome: Any) -> None:
        self._set(rater, rules.give(self.voters.get(rater, Voter()), Given(outcome=outcome)))

    @rule(rater=raters, arm=st.sampled_from(["candidate", "incumbent"]), thumb=st.sampled_from([1, -1]))
    def thumbs(self, rater: str, arm: Any, thumb: Any) -> None:
        self._set(rater, rules.give(self.voters.get(rater, Voter()), Given(arm=arm, thumb=thumb)))

    @rule(rater=raters, aside=st.booleans())
    def is_reviewed(self, rater: str, aside: bool) -> None:
        if rater in self.voters:
            self._set(rater, self.voters[rater].model_copy(update={"aside": aside}))

    def _set(self, rater: str, new: Voter) -> None:
        old = self.voters.get(rater, Voter())
        self.evidence = rules.changed(self.evidence, old, new, position="1-0", alpha=ALPHA)
        self.voters[rater] = new

    @invariant()
    def counts_are_those_of_the_people(self) -> None:
        counted = [voter for voter in self.voters.values() if not voter.aside]
        for name in ("win", "tie", "loss"):
            places = {"win": "wins", "tie": "ties", "loss": "losses"}
            assert getattr(self.evidence, places[name]) == sum(voter.outcome == name for voter in counted)
        assert self.evidence.candidate_down == sum(voter.candidate_thumb == -1 for voter in counted)
        assert self.evidence.incumbent_thumbs == sum(voter.incumbent_thumb is not None for voter in counted)
        assert self.evidence.aside == len(self.voters) - len(counted)


TestPeople = People.TestCase


@given(st.lists(st.sampled_from(["win", "tie", "loss"]), max_size=120))
def test_the_fold_finds_what_the_rule_finds(outcomes: list[Any]) -> None:
    """Vote by vote, the finding is the first one that the test gives."""
    evidence, first = EMPTY, None
    for place, outcome in enumerate(outcomes):
        evidence = rules.changed(evidence, Voter(), Voter(outcome=outcome), position=f"{place}-0", alpha=ALPHA)
        first = first or finding(rules.tally(evidence), ALPHA)

    assert evidence.finding == first

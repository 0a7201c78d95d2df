"""The way of a release: each rule by itself, and that nothing but evidence leads to promotion."""

from dataclasses import replace

import pytest

from core.evidence import Evidence
from core.exposures import Arm, Exposure
from core.releases import Release
from core.shadow import Shadow
from serving import evidence as rules
from serving.release import Step, after_shadow, next_step

OPENED = 1000.0
DAY_S = 86400.0
RELEASE = Release(
    id="rel_7",
    version=7,
    against=5,
    state="canary",
    stage=1,
    share=0.01,
    opened=OPENED,
    staged=OPENED,
    alpha=0.05,
    reason="test",
    actor="test",
)
LAST = RELEASE.model_copy(update={"stage": 3, "share": 0.5})
HEALTHY: dict[Arm, Exposure] = {
    "candidate": Exposure(staged=20, completions=20, firsts=20),
    "incumbent": Exposure(staged=1980, completions=1980, firsts=1980),
}
EMPTY = Evidence(release="rel_7", position="0-0")
BETTER = EMPTY.model_copy(update={"finding": "better", "wins": 60, "log10_e": 2.0})


def step(
    release: Release = RELEASE,
    evidence: Evidence = EMPTY,
    exposures: dict[Arm, Exposure] = HEALTHY,
    *,
    after_s: float = 60.0,
) -> Step | None:
    return next_step(release, evidence, exposures, now=OPENED + after_s, max_days=14)


def with_candidate(**changes: int) -> dict[Arm, Exposure]:
    return {**HEALTHY, "candidate": replace(HEALTHY["candidate"], **changes)}


def test_a_stage_is_left_after_twenty_quiet_answers() -> None:
    """Not after nineteen, and not within ten seconds however busy it is."""
    assert step() == Step(kind="advance", reason="guardrails are quiet after 20 answers at 1%")
    assert step(exposures=with_candidate(staged=19)) is None
    assert step(after_s=9.0) is None


def test_scarce_traffic_moves_on_after_a_day() -> None:
    """Where nobody is asking nobody is harmed."""
    nobody = with_candidate(staged=0, completions=0)

    assert step(exposures=nobody, after_s=DAY_S - 1) is None
    waited = step(exposures=nobody, after_s=DAY_S)
    assert waited is not None
    assert waited.kind == "advance"


def test_the_last_stage_is_left_by_evidence_only() -> None:
    """Quiet guardrails promote nobody; with evidence they do, and evidence alone waits for the stages."""
    assert step(LAST) is None
    promoted = step(LAST, BETTER)
    assert promoted is not None
    assert promoted.kind == "promoted"
    assert "60 won, 0 tied, 0 lost; log10 E is 2.0 for" in promoted.reason
    assert step(LAST, BETTER, with_candidate(staged=19)) is None
    early = step(RELEASE, BETTER)
    assert early is not None
    assert early.kind == "advance"


@pytest.mark.parametrize("release", [RELEASE, LAST])
@pytest.mark.parametrize("evidence", [EMPTY, BETTER])
def test_a_guardrail_stops_whatever_the_votes_say(release: Release, evidence: Evidence) -> None:
    """Even a candidate that people prefer."""
    stopped = step(release, evidence, with_candidate(empty=20), after_s=1.0)

    assert stopped is not None
    assert stopped.kind == "rolled_back"
    assert stopped.reason.startswith("guardrail ")


def test_evidence_against_rolls_back_at_once() -> None:
    """At the first stage, before its twenty answers."""
    worse = EMPTY.model_copy(update={"finding": "worse", "losses": 11})

    stopped = step(RELEASE, worse, with_candidate(staged=1), after_s=1.0)
    assert stopped is not None
    assert (stopped.kind, stopped.reason.split(":")[0]) == ("rolled_back", "people prefer the incumbent")


def test_any_number_of_votes_can_be_told() -> None:
    """Votes go on while a decided release waits for its stages: E of 4,000 wins is beyond what a float holds."""
    certain = rules.summarised(BETTER.model_copy(update={"wins": 4000}))

    promoted = step(LAST, certain)
    assert promoted is not None
    assert "4000 won, 0 tied, 0 lost; log10 E is 703.5 for" in promoted.reason


UNSEEN = RELEASE.model_copy(update={"stage": 0, "share": 0.0})


@pytest.mark.parametrize(("wins", "losses"), [(150, 50), (100, 100), (10, 190)])
def test_an_unseen_release_meets_people_when_enough_is_compared(wins: int, losses: int) -> None:
    """Whatever the judge says: it asks nobody, and decides nothing."""
    shadow = Shadow(release="rel_7", wins=wins, losses=losses)
    assert after_shadow(UNSEEN, shadow.model_copy(update={"wins": wins - 1}), now=OPENED + 60) is None
    step = after_shadow(UNSEEN, shadow, now=OPENED + 60)
    assert step is not None
    assert step.kind == "advance"
    assert step.reason.startswith(f"the judge prefers {wins / 200:.1%} of 200 unseen answers")


def test_an_unseen_release_waits_for_an_hour_at_most() -> None:
    """Few chats, no judge, no worker: with what there is then."""
    shadow = Shadow(release="rel_7", wins=3, losses=1, low=0.301, high=0.954)
    assert after_shadow(UNSEEN, shadow, now=OPENED + 3599) is None
    over = after_shadow(UNSEEN, shadow, now=OPENED + 3600)
    assert over is not None
    assert over.reason == (
        "the hour for unseen answers is over: the judge prefers 75.0% of 4 unseen answers (30.1% to 95.4%)"
    )
    nothing = after_shadow(UNSEEN, Shadow(release="rel_7"), now=OPENED + 3600)
    assert nothing is not None
    assert nothing.reason == "the hour for unseen answers is over: none was compared"


def test_an_unseen_release_does_not_wait_for_a_judge_that_cannot() -> None:
    """The reason says why."""
    step = after_shadow(UNSEEN, Shadow(release="rel_7", error="no judge here"), now=OPENED + 1)
    assert step == Step(kind="advance", reason="unseen answers cannot be compared: no judge here")


def test_undecided_keeps_the_incumbent() -> None:
    """After 1,500 raters, or after the last day; not if the votes have decided and only the stages are missing."""
    undecided = EMPTY.model_copy(update={"finding": "undecided", "ties": 1500})
    assert step(RELEASE, undecided) == Step(
        kind="kept", reason="no difference was found: 0 won, 1500 tied, 0 lost; log10 E is 0.0 for and 0.0 against"
    )

    late = step(LAST, EMPTY, after_s=14 * DAY_S + 1)
    assert late is not None
    assert late.kind == "kept"
    decided = step(LAST, BETTER, after_s=14 * DAY_S + 1)
    assert decided is not None
    assert decided.kind == "promoted"

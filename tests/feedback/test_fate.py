"""What raters are told of their votes."""

from typing import get_args

import pytest

from core.records import PolicyState
from feedback import fate
from feedback.eligibility import Unusable
from feedback.fate import Use, in_words
from feedback.influence import Crowded, Withheld
from feedback.outcomes import Outcome
from tests.feedback.votes import on_completion, vote

VOTE = vote().feedback
RELEASED = [PolicyState.CANARY, PolicyState.LIVE, PolicyState.PREVIOUS, PolicyState.RETIRED, PolicyState.ROLLED_BACK]
REASONS = {reason for kind in (Unusable, Crowded, Withheld) for reason in get_args(kind)}


def use(*versions: tuple[int, PolicyState], used_as="pair", reason=None, trains=True) -> Use:
    trains = trains and reason is None
    return Use(
        snapshot="s",
        outcome=Outcome(feedback_id="fb_1", used_as=used_as, reason=reason, trains_policy=trains),
        versions=versions,
    )


def test_every_reason_has_its_words():
    """All that the rules of snapshots can say, and nothing else; mypy holds the rules to these types."""
    assert fate.WORDS.keys() == REASONS


def test_each_reason_is_told_or_kept_back():
    """Whoever is set aside reads what people read whose votes were simply too many."""
    silent = {"quarantined", "erased", "untrusted", "rater_share", "theme_share"}
    for reason in {*get_args(Unusable), *get_args(Crowded)}:
        told = in_words(VOTE, [use(used_as=None, reason=reason)], superseded=False)
        assert told == ("not used" if reason in silent else f"not used: {fate.WORDS[reason]}")
        assert fate.shown(reason) == ("not_used" if reason in silent else reason)
    for reason in get_args(Withheld):
        told = in_words(VOTE, [use((1, PolicyState.LIVE), reason=reason)], superseded=False)
        assert told == f"used in assistant@v1, to judge answers only: {fate.WORDS[reason]}"
        assert fate.shown(reason) == reason
    assert (fate.shown(None), fate.shown("of a later release")) == (None, "not_used")
    assert in_words(VOTE, [use(used_as=None, reason="of a later release")], superseded=False) == "not used"


@pytest.mark.parametrize("state", RELEASED)
def test_the_first_released_policy_that_it_trained_is_named(state):
    """Later snapshots hold the vote too, for their judges; that does not change what is told."""
    uses = [use((3, PolicyState.LIVE), trains=False), use((2, state)), use((1, PolicyState.REJECTED))]
    assert in_words(VOTE, uses, superseded=False) == "used in assistant@v2"
    judged = [use((3, PolicyState.LIVE), trains=False), use((2, state), trains=False)]
    assert in_words(VOTE, judged, superseded=False) == "used in assistant@v2, to judge answers only"


def test_a_rejected_candidate_uses_nothing_up():
    uses = [use(), use((4, PolicyState.REJECTED)), use((3, PolicyState.REJECTED))]
    told = "waiting for the next round; assistant@v4 learned from it and was not released"
    assert in_words(VOTE, uses, superseded=False) == told


def test_the_newest_snapshot_says_why_not():
    """A vote that was waiting may be set aside later, and the other way round."""
    dropped, waiting = use(used_as=None, reason="duplicate"), use()
    assert in_words(VOTE, [dropped, waiting], superseded=False) == "not used: a later vote on the same answers counts"
    assert in_words(VOTE, [waiting, dropped], superseded=False) == "waiting for the next round"
    assert in_words(VOTE, [], superseded=False) == "waiting for the next round"


def test_what_is_over_says_so():
    """Taken back or replaced, before a policy learned from it or after."""
    withdrawn = VOTE.model_copy(update={"withdrawn": True})
    used = [use((1, PolicyState.LIVE))]
    assert in_words(withdrawn, [use()], superseded=False) == "not used: taken back"
    assert in_words(withdrawn, used, superseded=True) == "used in assistant@v1; taken back since"
    assert in_words(VOTE, [], superseded=True) == "not used: replaced by a newer vote"
    assert in_words(VOTE, used, superseded=True) == "used in assistant@v1; replaced by a newer vote since"


@pytest.mark.parametrize(("kind", "value"), [("comment", "hm"), ("flag", "spam")])
def test_what_no_rule_turns_into_rows_is_for_people(kind, value):
    said = on_completion(kind, value).feedback
    assert in_words(said, [], superseded=False) == f"not used: a {kind} is for people to read"


@pytest.mark.parametrize(
    ("uses", "state", "versions"),
    [
        ([], "waiting", []),
        ([use()], "waiting", []),
        ([use((4, PolicyState.REJECTED))], "waiting", []),
        ([use((2, PolicyState.LIVE)), use((1, PolicyState.RETIRED))], "used", [1, 2]),
        ([use((2, PolicyState.LIVE), trains=False)], "used", [2]),
        ([use(used_as=None, reason="tie")], "set_aside", []),
        ([use(used_as=None, reason="quarantined")], "set_aside", []),
        ([use(used_as=None, reason="expired"), use((1, PolicyState.PREVIOUS))], "used", [1]),
    ],
)
def test_the_same_in_a_word(uses: list[Use], state: str, versions: list[int]) -> None:
    """As the sentence says it."""
    assert (fate.state_of(VOTE, uses), fate.released_in(uses)) == (state, versions)
    begins = {"waiting": "waiting for", "used": "used in", "set_aside": "not used"}[state]
    assert in_words(VOTE, uses, superseded=False).startswith(begins)


def test_what_was_taken_back_and_what_people_read() -> None:
    """A comment trains nothing, and nothing else can be said of what was withdrawn."""
    assert fate.state_of(vote(kind="comment", value="Odd.").feedback, []) == "set_aside"
    assert fate.state_of(vote(withdrawn=True).feedback, [use((2, PolicyState.LIVE))]) == "withdrawn"

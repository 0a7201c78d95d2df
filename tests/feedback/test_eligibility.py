"""Which votes may give rows: each of the others has its reason."""

import pytest

from core.records import Choice, CompletionState, Message
from feedback import eligibility
from feedback.eligibility import theme_of
from feedback.events import LoggedVote, RaterState
from tests.feedback.votes import (
    BY,
    circumstances,
    on_completion,
    prompt_in,
    ranking,
    rows_of,
    side,
    states,
    usable,
    vote,
)

COMPLETION_KINDS = {"thumb": 1, "rating": 4, "correction": "edited"}


def reason(given: LoggedVote, *sides, by=BY) -> str:
    found = eligibility.judge(given, {record.id: record for record in sides}, by)
    assert isinstance(found, str), found
    return found


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("truncated", {"finish_reason": "length"}),
        ("truncated", {"finish_reason": None}),
        ("truncated", {"choices": []}),
        ("truncated", {"state": CompletionState.ABORTED}),
        ("truncated", {"state": CompletionState.FAILED}),
        ("truncated", {"state": CompletionState.STREAMING}),
        ("no_consent", {"train": False}),
        ("no_consent", {"messages": []}),
    ],
)
def test_an_answer_that_cannot_be_trained_on(expected, given):
    """Cut off, failed or kept private: no kind of vote on it gives a row, on whichever side it stands."""
    bad, good = side("1-b", **given), side("1-a")
    assert reason(vote(), good, bad) == expected
    assert reason(vote("both_bad"), good, bad) == expected
    for kind, value in COMPLETION_KINDS.items():
        assert reason(on_completion(kind, value, completion="1-b"), bad) == expected


def test_an_answer_that_is_gone():
    assert reason(vote(), side("1-a")) == "expired"
    assert reason(on_completion("thumb", 1)) == "expired"


def test_a_ranking_is_one_of_the_sides_that_are_left():
    """One cut-off answer of four does not take the other three with it; a ranking of one is none."""
    sides = [side("r-a"), side("r-b", finish_reason="length"), side("r-c"), side("r-d")]
    given = ranking([["b"], ["d"], ["a", "c"]])
    assert eligibility.ranked(usable(given, *sides)) == [["r-d"], ["r-a", "r-c"]]
    assert reason(given, sides[0], sides[1]) == "truncated"


def test_nothing_is_preferred_to_itself():
    same = [side(f"{name}-{letter}", text="same") for name in "1r" for letter in "abc"]
    assert reason(vote(), *same) == "identical"
    assert reason(ranking([["a"], ["b"], ["c"]]), *same) == "identical"
    assert reason(on_completion("correction", " same\n"), *same) == "identical"
    assert usable(on_completion("correction", "better"), *same).trains


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RaterState(erased=True, quarantined="anomaly", train=False), "erased"),
        (RaterState(quarantined="anomaly"), "quarantined"),
        (RaterState(quarantined=""), "quarantined"),
        (RaterState(train=False), "no_consent"),
    ],
)
@pytest.mark.parametrize("role", ["voter", "author"])
def test_a_rater_whose_data_is_set_aside(state, expected, role):
    """Whoever was erased, is in quarantine or did not consent gives no row, as a voter and as the author of a chat."""
    sides = [side("1-a"), side("1-b", rater="user-7" if role == "author" else "user-8")]
    given = vote(rater="user-7" if role == "voter" else "user-9")
    assert reason(given, *sides, by=circumstances(raters=states(user_7=state))) == expected


def test_consent_given_once_does_not_open_what_a_request_kept_shut():
    by = circumstances(raters=states(user_7=RaterState(train=True)))
    assert reason(vote(), side("1-a", train=False, rater="user-7"), side("1-b"), by=by) == "no_consent"
    assert reason(vote(train=False), side("1-a"), side("1-b"), by=by) == "no_consent"
    assert usable(vote(), side("1-a", rater="user-7"), side("1-b"), by=by).trains


def test_a_flagged_completion_trains_nothing():
    by = circumstances(flagged=frozenset({"1-b"}))
    assert reason(vote(), side("1-a"), side("1-b"), by=by) == "flagged"
    assert usable(on_completion("thumb", 1), side("1-a"), by=by).trains


@pytest.mark.parametrize(
    ("given", "begun", "too_fast"),
    [
        ({}, 199.5, True),
        ({}, 198.0, False),
        ({"rater_kind": "ai"}, 199.5, False),
        ({"source": "task"}, 199.5, False),
        ({"source": "receipt"}, 199.5, True),
        ({}, 260.0, True),
    ],
)
def test_a_vote_that_nobody_can_have_read_for(given, begun, too_fast):
    """Less than two seconds after the later answer began, by a person in a chat; unless it is switched off."""
    sides = [side("1-a", created=100.0), side("1-b", created=begun)]
    cast = vote(created_at=200.0, **given)
    found = eligibility.judge(cast, {it.id: it for it in sides}, circumstances(fastest_s=2.0))
    assert (found == "too_fast") is too_fast
    assert usable(cast, *sides).trains


def test_a_rater_without_any_trust():
    """No weight is no row; a rater who is not named has the weight 1."""
    by = circumstances(weights={"user-7": 0.0, "user-8": 0.25})
    sides = [side("1-a"), side("1-b")]
    assert reason(vote(), *sides, by=by) == "untrusted"
    assert [rows_of([vote(rater=it)], *sides, by=by)[0].weight for it in ("user-8", "user-9", None)] == [0.25, 1.0, 1.0]


@pytest.mark.parametrize(
    ("given", "trains", "recent"),
    [
        ({}, True, True),
        ({"version": 2}, True, True),
        ({"version": 1}, False, False),
        ({"entry": "100-0"}, False, True),
        ({"entry": "100-1"}, True, True),
        ({"fold": "judge"}, False, True),
        ({"fold": "test"}, False, True),
    ],
)
def test_which_votes_train_the_policy(given, trains, recent):
    """Only of fresh versions, only after the live policy's snapshot, only in the optimize fold."""
    prompt, version = prompt_in(given.get("fold", "optimize")), given.get("version", 3)
    sides = [side("1-a", prompt=prompt), side("1-b", prompt=prompt, policy_version=version)]
    found = usable(vote(entry=given.get("entry", "200-0")), *sides)
    assert (found.trains, found.recent) == (trains, recent)


def test_a_correction_does_not_grow_stale():
    """No policy sampled it; but it stays in its fold."""
    old, kept = side("1-a", policy_version=0), side("1-b", prompt=prompt_in("test"))
    assert usable(on_completion("correction", "better", entry="1-0"), old).trains
    assert not usable(on_completion("correction", "better", completion="1-b"), kept).trains


def test_a_rating_trains_no_policy():
    assert not usable(on_completion("rating", 5), side("1-a")).trains


def test_a_vote_is_about_its_choice():
    """A completion with several choices is cut off only where it was cut off."""
    ends = ["stop", "length", "stop"]
    choices = [Choice(index=i, text=f"{i}", token_ids=[i, 4], finish_reason=end) for i, end in enumerate(ends)]
    record = side("1-a", choices=choices)
    assert reason(on_completion("thumb", 1, choice_index=1), record) == "truncated"
    assert usable(on_completion("thumb", 1, choice_index=2), record).trains


def test_themes_are_the_words_in_their_order():
    """Case, spaces, punctuation and width fold; another word, another order or another turn is another theme."""

    def theme(*turns: str) -> bytes:
        return theme_of([Message(role="user", content=turn) for turn in turns])

    assert theme("A dog is") == theme("  a DOG is…!?") == theme("\uff21 dog\nis.")
    assert len({theme("a dog is"), theme("a cat is"), theme("is a dog"), theme("a", "dog is"), theme("2 dogs")}) == 5
    assert theme("?!") != theme("!?") != theme("")

"""The rules of feedback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AlreadyDecided, InvalidRequest
from core.records import Feedback, RaterEvent, Target
from feedback import events
from feedback.events import Ballot, Change, LoggedRater, LoggedVote, RaterState

COMPLETION = Target(type="completion", id="chatcmpl-1")
COMPARISON = Target(type="comparison", id="cmp_1")
NOW = 1790000000.0


def ballot(**given: object) -> Ballot:
    fields = {"id": "fb_1", "target": COMPARISON, "kind": "preference", "value": "a"}
    return Ballot(**(fields | given))


def event(**given: object) -> Feedback:
    fields: dict[str, object] = {
        "id": "fb_1",
        "target": COMPLETION,
        "kind": "thumb",
        "value": 1,
        "created_at": 1.5,
        "policy_versions": [0],
        "completion_ids": ["chatcmpl-1"],
        "train": True,
    }
    return Feedback.model_validate(fields | given)


@pytest.mark.parametrize(
    "given",
    [
        {"value": "both_bad"},
        {"kind": "ranking", "value": [["b"], ["a", "d"], ["c"]]},
        {"kind": "ranking", "value": [["a", "b", "c"]]},
        {"kind": "comment", "value": "x" * 4000},
        {"kind": "flag", "value": "spam"},
        {"target": COMPLETION, "kind": "rating", "value": 5},
        {"target": COMPLETION, "kind": "correction", "value": "x" * 10_000},
        {"target": COMPLETION, "kind": "flag", "value": "pii"},
        {"reasons": ("x" * 64,) * 16, "comment": "x" * 4000, "occurred_at": NOW + 59},
        {"metadata": tuple((f"{number:064}", "x" * 512) for number in range(16))},
    ],
)
def test_every_kind_at_its_limits_passes(given):
    """Each kind has targets and values that it takes, up to its limits."""
    events.check(ballot(**given), now=NOW)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"kind": "thumb", "value": 1}, "kind"),
        ({"kind": "rating", "value": 1}, "kind"),
        ({"kind": "correction", "value": "x"}, "kind"),
        ({"target": COMPLETION}, "kind"),
        ({"target": COMPLETION, "kind": "ranking", "value": [["a"], ["b"], ["c"]]}, "kind"),
        ({"target": Target(type="comparison", id="cmp_1", choice_index=1)}, "target.choice_index"),
        ({"value": 1}, "value"),
        ({"value": "c"}, "value"),
        ({"target": COMPLETION, "kind": "thumb", "value": 0}, "value"),
        ({"target": COMPLETION, "kind": "thumb", "value": "tie"}, "value"),
        ({"target": COMPLETION, "kind": "rating", "value": 6}, "value"),
        ({"target": COMPLETION, "kind": "rating", "value": [["a"]]}, "value"),
        ({"target": COMPLETION, "kind": "correction", "value": " \n"}, "value"),
        ({"target": COMPLETION, "kind": "correction", "value": 1}, "value"),
        ({"kind": "comment", "value": ""}, "value"),
        ({"kind": "comment", "value": "x" * 4001}, "value"),
        ({"kind": "flag", "value": "boring"}, "value"),
        ({"kind": "ranking", "value": "a"}, "value"),
        ({"kind": "ranking", "value": []}, "value"),
        ({"kind": "ranking", "value": [["a"], ["b"]]}, "value"),  # two sides take a preference
        ({"kind": "ranking", "value": [["a"], [], ["b", "c"]]}, "value"),
        ({"kind": "ranking", "value": [["a"], ["b"], ["b", "c"]]}, "value"),
        ({"kind": "ranking", "value": [["a"], ["b"], ["d"]]}, "value"),
        ({"kind": "ranking", "value": [[side] for side in "abcdefghij"]}, "value"),
        ({"reasons": ("x",) * 17}, "reasons"),
        ({"reasons": ("x" * 65,)}, "reasons"),
        ({"reasons": ("",)}, "reasons"),
        ({"comment": "x" * 4001}, "comment"),
        ({"metadata": tuple((str(number), "") for number in range(17))}, "metadata"),
        ({"metadata": (("x" * 65, ""),)}, "metadata"),
        ({"metadata": (("x", "x" * 513),)}, "metadata"),
        ({"occurred_at": NOW + 61}, "occurred_at"),
        ({"occurred_at": -1.0}, "occurred_at"),
    ],
)
def test_what_does_not_fit_is_refused_and_named(change, param):
    """Kind fits target, value fits kind, nothing is over its limit or in the future; else the field is named."""
    with pytest.raises(InvalidRequest) as caught:
        events.check(ballot(**change), now=NOW)
    assert caught.value.param == param


def test_digest_is_over_what_the_client_said():
    """An id that is minted for a request does not make it another request; anything that the client says does."""
    assert events.digest(ballot()) == events.digest(ballot(id="fb_2"))
    others = [
        {"own_id": True},
        {"own_id": True, "id": "fb_2"},
        {"value": "b"},
        {"reasons": ("x",)},
        {"comment": "x"},
        {"metadata": (("x", "y"),)},
        {"rater": "x"},
        {"rater_kind": "ai"},
        {"occurred_at": 1.5},
        {"target": Target(type="comparison", id="cmp_2")},
    ]
    assert len({events.digest(ballot(**other)) for other in [{}, *others]}) == 1 + len(others)


@pytest.mark.parametrize(
    ("entry", "boundary", "expected"),
    [("1790-10", "1790-9", True), ("1790-9", "1790-9", False), ("999-0", "1790-0", False), ("1-0", "0-0", True)],
)
def test_log_positions_are_numbers(entry, boundary, expected):
    """Positions compare as pairs of numbers, not as text."""
    assert events.after(entry, boundary) is expected


# --- revisions ----------------------------------------------------------------------------------------------------


def test_revision_replaces_what_is_given():
    """The rest stays; the number goes up by one."""
    before = event(reasons=["wrong"], comment="because", metadata={"page": "7"}, revision=2)
    after = events.revised(before, Change(value=-1, reasons=()), superseded=False)
    assert after == before.model_copy(update={"value": -1, "reasons": [], "revision": 3})
    cleared = events.revised(before, Change(clear_comment=True, metadata=()), superseded=False)
    assert cleared == before.model_copy(update={"comment": None, "metadata": {}, "revision": 3})


@pytest.mark.parametrize("change", [Change(), Change(value=1), Change(clear_comment=True), Change(reasons=())])
def test_revision_that_says_nothing_new_is_none(change):
    """A repeated change is no second revision."""
    assert events.revised(event(), change, superseded=False) is None


@pytest.mark.parametrize(
    ("feedback", "superseded", "code"),
    [
        (event(withdrawn=True), False, "feedback_withdrawn"),
        (event(), True, "feedback_superseded"),
        (event(target=COMPARISON, kind="preference", value="a"), False, "already_revealed"),
    ],
)
def test_what_is_over_cannot_be_revised(feedback, superseded, code):
    """Withdrawn and superseded votes are history; a preference revealed the policies."""
    with pytest.raises(AlreadyDecided) as caught:
        events.revised(feedback, Change(value="b" if feedback.kind == "preference" else -1), superseded=superseded)
    assert caught.value.error_code == code


def test_reasons_of_a_preference_may_be_revised():
    """Only its value is fixed by the reveal."""
    before = event(target=COMPARISON, kind="preference", value="a")
    after = events.revised(before, Change(value="a", comment="clearer"), superseded=False)
    assert after == before.model_copy(update={"comment": "clearer", "revision": 2})


@pytest.mark.parametrize(
    ("change", "param"),
    [
        (Change(value=2), "value"),
        (Change(reasons=("x",) * 17), "reasons"),
        (Change(comment="x" * 4001), "comment"),
        (Change(metadata=(("x" * 65, ""),)), "metadata"),
    ],
)
def test_revision_is_checked_as_a_new_vote_is(change, param):
    """The same limits hold, and the field is named."""
    with pytest.raises(InvalidRequest) as caught:
        events.revised(event(), change, superseded=False)
    assert caught.value.param == param


def test_withdrawing_is_a_revision_once():
    """It keeps what was said; the second time nothing is left to do."""
    gone = events.withdrawn(event(comment="because"))
    assert gone == event(comment="because", revision=2, withdrawn=True)
    assert events.withdrawn(gone) is None


# --- folds --------------------------------------------------------------------------------------------------------


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[LoggedVote], dict[tuple[str, str], Feedback], int]:
    """What a few raters do to a few targets, as the scripts would log it; what then stands; how many are superseded.

    The expectation is kept step by step, as a person would: one current vote a rater and target, or none.
    """
    log: list[LoggedVote] = []
    current: dict[tuple[str, str], Feedback] = {}
    superseded = 0
    steps = st.tuples(st.sampled_from(["give", "revise", "withdraw"]), st.sampled_from("pqr"), st.sampled_from("xyz"))
    for index, (action, rater, target) in enumerate(draw(st.lists(steps, max_size=30))):
        held = current.get((rater, target))
        if action == "give":
            superseded += held is not None
            new = event(
                id=f"fb_{index}",
                target=Target(type="completion", id=target),
                rater=rater,
                supersedes=held.id if held else None,
            )
        elif held is None or held.withdrawn:
            continue
        else:
            change = {"comment": str(index)} if action == "revise" else {"withdrawn": True}
            new = held.model_copy(update=change | {"revision": held.revision + 1})
        current[rater, target] = new
        log.append(LoggedVote(entry=f"{index}-0", feedback=new))
    return log, {key: vote for key, vote in current.items() if not vote.withdrawn}, superseded


@given(logs(), st.randoms(use_true_random=False))
def test_standing_votes_do_not_depend_on_the_order_of_arrival(history, random):
    """Shuffled and doubled events fold to the same state: each rater's newest vote, unless it was withdrawn."""
    log, expected, superseded = history
    shuffled = log + log[::2]
    random.shuffle(shuffled)
    active, dropped = events.standing(shuffled)
    assert {(vote.feedback.rater, vote.feedback.target.id): vote.feedback for vote in active} == expected
    assert [int(vote.entry[:-2]) for vote in active] == sorted(int(vote.entry[:-2]) for vote in active)
    assert dropped == superseded


def test_superseded_vote_does_not_come_back_with_a_withdrawal():
    """First up, then down, then the down is taken back: nothing stands."""
    votes = [
        LoggedVote(entry="1-0", feedback=event(id="fb_1")),
        LoggedVote(entry="2-0", feedback=event(id="fb_2", value=-1, supersedes="fb_1")),
        LoggedVote(entry="3-0", feedback=event(id="fb_2", value=-1, supersedes="fb_1", revision=2, withdrawn=True)),
    ]
    assert events.standing(votes) == ([], 1)


def test_later_revision_of_a_superseded_vote_does_not_bring_it_back():
    """Also when it comes behind the vote that superseded it."""
    votes = [
        LoggedVote(entry="1-0", feedback=event(id="fb_1")),
        LoggedVote(entry="2-0", feedback=event(id="fb_2", value=-1, supersedes="fb_1")),
        LoggedVote(entry="3-0", feedback=event(id="fb_1", revision=2, withdrawn=True)),
    ]
    assert events.standing(votes) == ([votes[1]], 1)


def test_a_log_up_to_an_event_has_what_became_of_its_votes():
    """Later votes are not in it; a later revision is; a vote that a later one superseded is gone."""
    votes = [
        LoggedVote(entry="1-0", feedback=event(id="fb_1")),
        LoggedVote(entry="1-1", feedback=event(id="fb_2")),
        LoggedVote(entry="2-0", feedback=event(id="fb_3")),
        LoggedVote(entry="10-0", feedback=event(id="fb_4")),
        LoggedVote(entry="10-1", feedback=event(id="fb_1", revision=2, withdrawn=True)),
        LoggedVote(entry="10-2", feedback=event(id="fb_5", supersedes="fb_2")),
    ]
    assert events.up_to(reversed(votes), "2-0") == [votes[4], votes[2], votes[0]]
    assert events.up_to(votes, "10-2") == votes


def said(index: int, rater: str, action: str, **given: object) -> LoggedRater:
    record = RaterEvent.model_validate(
        {"rater": rater, "action": action, "actor": "test", "created_at": float(index)} | given
    )
    return LoggedRater(entry=f"{index}-0", event=record)


def test_states_of_raters():
    """The newest consent holds; a quarantine ends with its restoration; an erasure never ends."""
    log = [
        said(1, "p", "consent", train=True),
        said(2, "p", "quarantine", reason="anomaly"),
        said(3, "q", "quarantine"),
        said(4, "p", "consent", train=False),
        said(5, "p", "restore"),
        said(6, "r", "erase"),
        said(7, "r", "consent", train=True),
    ]
    assert events.rater_states(log) == {
        "p": RaterState(train=False),
        "q": RaterState(quarantined=""),
        "r": RaterState(train=True, erased=True),
    }


ACTIONS = st.sampled_from(["consent", "quarantine", "restore", "erase"])


@given(st.lists(st.tuples(st.sampled_from("pq"), ACTIONS, st.booleans())), st.randoms(use_true_random=False))
def test_states_of_raters_do_not_depend_on_the_order_of_arrival(steps, random):
    """Shuffled and doubled events fold to the same state, which each rater's own newest events decide."""
    log = [
        said(i, rater, action, train=flag if action == "consent" else None, reason=str(i))
        for i, (rater, action, flag) in enumerate(steps)
    ]
    shuffled = log + log[::2]
    random.shuffle(shuffled)
    for rater, state in events.rater_states(shuffled).items():
        own = [it.event for it in log if it.event.rater == rater]
        consents = [it.train for it in own if it.action == "consent"]
        trust = [it for it in own if it.action in ("quarantine", "restore")]
        assert state.train == (consents[-1] if consents else None)
        assert state.quarantined == (trust[-1].reason if trust and trust[-1].action == "quarantine" else None)
        assert state.erased == any(it.action == "erase" for it in own)

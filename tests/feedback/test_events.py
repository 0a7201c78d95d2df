"""The rules of votes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.records import Feedback, Target
from feedback import events
from feedback.events import Ballot, LoggedVote


def ballot(**given: object) -> Ballot:
    target = Target(type="comparison", id="cmp_1")
    fields = {"id": "fb_1", "target": target, "kind": "preference", "value": "a", "rater": None, "comment": None}
    return Ballot(**(fields | given))


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"kind": "thumb"}, "kind"),
        ({"value": 1}, "value"),
        ({"target": Target(type="comparison", id="cmp_1", choice_index=1)}, "target.choice_index"),
        ({"target": Target(type="completion", id="chatcmpl-1")}, "kind"),
        ({"target": Target(type="completion", id="chatcmpl-1"), "kind": "thumb", "value": "tie"}, "value"),
    ],
)
def test_kind_fits_target_and_value_fits_kind(change, param):
    """A completion takes thumbs of 1 or -1, a comparison takes preferences; else the field is named."""
    events.check(ballot())
    with pytest.raises(InvalidRequest) as caught:
        events.check(ballot(**change))
    assert caught.value.param == param


def test_digest_is_over_what_the_client_said():
    """The id that is minted for a request does not make it another request; a comment does."""
    assert events.digest(ballot()) == events.digest(ballot(id="fb_2"))
    assert events.digest(ballot()) != events.digest(ballot(comment="because"))
    assert events.digest(ballot()) != events.digest(ballot(rater_kind="ai"))


@pytest.mark.parametrize(
    ("entry", "boundary", "expected"),
    [("1790-10", "1790-9", True), ("1790-9", "1790-9", False), ("999-0", "1790-0", False), ("1-0", "0-0", True)],
)
def test_log_positions_are_numbers(entry, boundary, expected):
    """Positions compare as pairs of numbers, not as text."""
    assert events.after(entry, boundary) is expected


@st.composite
def logs(draw: st.DrawFn) -> list[LoggedVote]:
    """Votes of a few raters on a few targets, each superseding that rater's vote before it, as the script does."""
    standing: dict[tuple[str, str], str] = {}
    log = []
    raters, targets = st.sampled_from("pqr"), st.sampled_from("xyz")
    for index, key in enumerate(draw(st.lists(st.tuples(raters, targets), max_size=25))):
        event = Feedback(
            id=f"fb_{index}",
            target=Target(type="completion", id=key[1]),
            kind="thumb",
            value=1 if index % 2 else -1,
            rater=key[0],
            created_at=float(index),
            supersedes=standing.get(key),
            policy_versions=[0],
            completion_ids=[key[1]],
            train=True,
        )
        standing[key] = event.id
        log.append(LoggedVote(entry=f"{index}-0", feedback=event))
    return log


@given(logs(), st.randoms(use_true_random=False))
def test_standing_votes_do_not_depend_on_the_order_of_arrival(log, random):
    """Shuffled and doubled events fold to the same state: the last vote of each rater on each target."""
    shuffled = log + log[::2]
    random.shuffle(shuffled)
    active, superseded = events.standing(shuffled)
    last = {(vote.feedback.rater, vote.feedback.target.id): vote for vote in log}
    assert active == sorted(last.values(), key=lambda vote: int(vote.entry.split("-")[0]))
    assert superseded == len(log) - len(last)

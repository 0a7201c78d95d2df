"""Every kind of feedback as a client sees it: what it may say, and what it reveals."""

import pytest

from core import keys
from tests.feedback.wire import COMPARISON, COMPLETION, PREFERENCE, RANKING, THUMB, error_of


@pytest.mark.parametrize(
    ("kind", "value"),
    [("rating", 4), ("correction", "A dog is a pet."), ("comment", "Too long."), ("flag", "safety")],
)
def test_every_kind_on_a_completion(api, put_completion, logged, kind, value):
    """What is said is stored as it was said, with its reasons and labels."""
    put_completion("chatcmpl-1")
    extras = {"reasons": ["wrong", "äöü"], "comment": "see above", "metadata": {"page": "7"}}
    said = {"target": COMPLETION, "kind": kind, "value": value, "occurred_at": "2026-01-01T12:00:00+01:00"}
    response = api.post("/v1/feedback", json=said | extras)
    assert response.status_code == 201
    body = response.json()
    assert {name: body[name] for name in extras} == extras
    assert (body["value"], body["revision"], body["source"]) == (value, 1, "api")
    assert body["occurred_at"] == "2026-01-01T11:00:00Z"
    assert response.headers["etag"] == '"1"'
    (event,) = logged()
    assert (event.kind, event.value, event.reasons, event.comment) == (kind, value, ["wrong", "äöü"], "see above")
    assert (event.metadata, event.occurred_at) == ({"page": "7"}, 1767265200.0)


def test_kinds_stand_side_by_side(api, put_completion, logged):
    """A thumb, a rating and a flag of one rater on one answer are three votes; each supersedes its own kind only."""
    put_completion("chatcmpl-1")
    said = [("thumb", -1), ("rating", 2), ("flag", "spam"), ("rating", 1)]
    bodies = [api.post("/v1/feedback", json=THUMB | {"kind": kind, "value": value}).json() for kind, value in said]
    assert [body["supersedes"] for body in bodies] == [None, None, None, bodies[1]["id"]]


def test_correction_must_correct(api, put_completion, logged):
    """The answer itself is no correction of it."""
    put_completion("chatcmpl-1")
    said = {"target": COMPLETION, "kind": "correction", "value": "text of chatcmpl-1"}
    assert error_of(api.post("/v1/feedback", json=said)) == (400, None, "value")
    assert logged() == []


def test_ranking_of_four_sides_reveals(api, redis_client, put_comparison, logged):
    """A ranking places every side, ties allowed; it names all policies, and then nobody else's vote is blind."""
    put_comparison(versions=(3, 2, 3, 0))
    first, again = (api.post("/v1/feedback", json=RANKING) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    names = {"a": "assistant@v3", "b": "assistant@v2", "c": "assistant@v3", "d": "assistant@v0"}
    assert first.json()["reveal"] == names
    assert first.json() == again.json()
    (event,) = logged()
    assert (event.value, event.policy_versions) == ([["b"], ["a", "d"], ["c"]], [3, 2, 3, 0])
    assert event.completion_ids == [f"chatcmpl-1-{side}" for side in "abcd"]
    other = api.post("/v1/feedback", json=RANKING | {"rater": {"id": "user-8"}})
    assert error_of(other) == (409, "already_revealed", None)


@pytest.mark.parametrize(
    ("sides", "kind", "value", "param"),
    [
        (2, "ranking", [["a"], ["b"], ["c"]], "kind"),
        (3, "preference", "a", "kind"),
        (4, "ranking", [["a"], ["b"], ["c"]], "value"),
        (3, "ranking", [["a"], ["b"], ["c"], ["d"]], "value"),
    ],
)
def test_kind_fits_the_number_of_sides(api, put_comparison, logged, sides, kind, value, param):
    """Two sides take a preference, more a ranking of exactly these."""
    put_comparison(versions=(3,) * sides)
    said = {"target": COMPARISON, "kind": kind, "value": value}
    assert error_of(api.post("/v1/feedback", json=said)) == (400, None, param)
    assert logged() == []


@pytest.mark.parametrize("kind", ["comment", "flag"])
def test_comment_and_flag_leave_a_comparison_blind(api, redis_client, put_comparison, kind):
    """They may come before the vote, reveal nothing, and tell of policies only after it."""
    put_comparison()
    said = {"target": COMPARISON, "kind": kind, "value": "other"}
    before = api.post("/v1/feedback", json=said)
    assert before.status_code == 201
    assert "reveal" not in before.json()
    assert "assistant@v" not in before.text
    assert redis_client.hget(keys.comparison("cmp_1"), "revealed") is None
    assert api.post("/v1/feedback", json=PREFERENCE).status_code == 201
    after = api.post("/v1/feedback", json=said)
    assert (after.status_code, after.json()["reveal"]) == (200, {"a": "assistant@v3", "b": "assistant@v2"})

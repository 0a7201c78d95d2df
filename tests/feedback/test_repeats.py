"""Votes that come again, with more, with less, or under an id of their own."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core import keys
from tests.feedback.wire import PREFERENCE, THUMB, error_of


def test_repeat_that_leaves_something_out_is_a_replay(api, put_completion, logged):
    """A page that sends the thumb again does not know the comment any more: the comment stays."""
    put_completion("chatcmpl-1")
    first = api.post("/v1/feedback", json=THUMB | {"comment": "because", "reasons": ["clear"]})
    again = api.post("/v1/feedback", json=THUMB)
    assert (again.status_code, again.json()) == (200, first.json())
    assert len(logged()) == 1


@pytest.mark.parametrize("more", [{"comment": "because"}, {"reasons": ["clear"]}, {"metadata": {"page": "7"}}])
def test_repeat_that_says_more_is_not_lost(api, put_comparison, more):
    """The same value with something new supersedes, even after the reveal: the choice is the same blind one."""
    put_comparison()
    first = api.post("/v1/feedback", json=PREFERENCE).json()
    second = api.post("/v1/feedback", json=PREFERENCE | more)
    assert (second.status_code, second.json()["supersedes"]) == (201, first["id"])
    assert second.json() | more == second.json()


def test_own_id_is_an_idempotency_key(api, put_completion, logged):
    """The same id and body again is the same vote, also after a change of mind; another body is a conflict."""
    put_completion("chatcmpl-1")
    said = THUMB | {"id": "fb_mine-1"}
    first = api.post("/v1/feedback", json=said)
    assert (first.status_code, first.json()["id"]) == (201, "fb_mine-1")
    conflict = api.post("/v1/feedback", json=said | {"value": -1})
    assert error_of(conflict) == (409, "idempotency_conflict", None)
    assert conflict.headers["x-should-retry"] == "false"
    api.post("/v1/feedback", json=THUMB | {"value": -1})
    replay = api.post("/v1/feedback", json=said)
    assert (replay.status_code, replay.json()) == (200, first.json() | {"status": "superseded"})
    assert len(logged()) == 2


def test_own_id_of_a_repeated_vote_stays_a_key(api, put_completion, logged):
    """An id that came with what stood already names no vote, but it is used up all the same."""
    put_completion("chatcmpl-1")
    first = api.post("/v1/feedback", json=THUMB).json()
    again = api.post("/v1/feedback", json=THUMB | {"id": "fb_mine-1"})
    assert (again.status_code, again.json()) == (200, first)
    other = api.post("/v1/feedback", json=THUMB | {"id": "fb_mine-1", "value": -1})
    assert error_of(other) == (409, "idempotency_conflict", None)


def test_own_id_is_taken_for_ever(api, redis_client, put_completion):
    """When the idempotency window is over, a used id is a conflict rather than a second vote."""
    put_completion("chatcmpl-1")
    api.post("/v1/feedback", json=THUMB | {"id": "fb_mine-1"})
    for key in redis_client.keys(keys.idempotency("*")):
        redis_client.delete(key)
    again = api.post("/v1/feedback", json=THUMB | {"id": "fb_mine-1"})
    assert error_of(again) == (409, "idempotency_conflict", None)


def test_fifty_different_raters_at_once_are_fifty(api, redis_client, put_completion, logged):
    """No vote of a crowd is lost or mixed up."""
    put_completion("chatcmpl-1")
    raters = [f"user-{number}" for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        said = [THUMB | {"rater": {"id": rater}} for rater in raters]
        responses = list(pool.map(lambda body: api.post("/v1/feedback", json=body), said))
    assert [response.status_code for response in responses] == [201] * 50
    assert sorted(event.rater for event in logged()) == sorted(raters)
    assert redis_client.hget(keys.FEEDBACK_COUNTS, "thumb") == "50"

"""Giving feedback as a client sees it, over a real Redis: POST /v1/feedback."""

import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis
from fastapi.testclient import TestClient

from core import keys
from core.records import Choice, Feedback
from tests.feedback.wire import PREFERENCE, THUMB, error_of


def test_thumb_is_stored_with_what_our_own_record_says(api, redis_client, put_completion, logged):
    """A new vote is 201; version, rater and consent come from the completion's record, the time from Redis."""
    put_completion("chatcmpl-1", policy_version=3)
    before = float(".".join(map(str, redis_client.time())))
    response = api.post("/v1/feedback", json=THUMB | {"comment": "naïve \u0000 ✓ /"})
    assert response.status_code == 201
    body = response.json()
    assert "reveal" not in body
    assert (body["object"], body["kind"], body["value"], body["status"]) == ("feedback", "thumb", 1, "active")
    assert body["target"] == {"type": "completion", "id": "chatcmpl-1", "choice_index": 0}
    assert (body["policy_versions"], body["supersedes"], body["trainable"]) == (["assistant@v3"], None, True)
    (event,) = logged()
    assert (event.id, event.rater, event.train, event.policy_versions) == (body["id"], "user-7", True, [3])
    assert (event.completion_ids, event.comment) == (["chatcmpl-1"], "naïve \u0000 ✓ /")
    assert 0 <= event.created_at - int(before) < 5
    assert redis_client.hgetall(keys.FEEDBACK_COUNTS) == {"thumb": "1"}


def test_same_vote_twice_is_one_vote(api, redis_client, put_completion, logged):
    """The same natural key and value again is a 200 with the first vote."""
    put_completion("chatcmpl-1")
    first, second = (api.post("/v1/feedback", json=THUMB) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert len(logged()) == 1


def test_changed_mind_supersedes_and_keeps_history(api, redis_client, put_completion, logged):
    """1, -1, 1 are three events, each superseding the one before."""
    put_completion("chatcmpl-1")
    bodies = [api.post("/v1/feedback", json=THUMB | {"value": value}).json() for value in (1, -1, 1)]
    assert [body["supersedes"] for body in bodies] == [None, bodies[0]["id"], bodies[1]["id"]]
    assert [event.id for event in logged()] == [body["id"] for body in bodies]


def test_raters_vote_apart(api, redis_client, put_completion, logged):
    """Two raters and nobody in particular each have their own vote; a colon in an id cannot forge another's key."""
    put_completion("chatcmpl-1", rater=None)
    raters = [None, {"id": "user-1"}, {"id": "user-1:0"}]
    statuses = [api.post("/v1/feedback", json=THUMB | {"rater": rater}).status_code for rater in raters]
    assert statuses == [201, 201, 201]
    assert [event.rater for event in logged()] == [None, "user-1", "user-1:0"]


def test_choices_are_voted_on_apart(api, put_completion):
    """Each choice of n=2 has its own vote; a choice that is not there is a 400 that names the field."""
    choices = [Choice(index=i, text=str(i), token_ids=[i], finish_reason="stop") for i in range(2)]
    put_completion("chatcmpl-1", choices=choices)
    targets = [THUMB["target"] | {"choice_index": index} for index in range(3)]
    first, second, third = (api.post("/v1/feedback", json=THUMB | {"target": target}) for target in targets)
    assert (first.status_code, second.status_code) == (201, 201)
    assert error_of(third) == (400, None, "target.choice_index")


def test_unknown_target(api):
    """A vote on nothing is 404 target_not_found, for both kinds."""
    assert error_of(api.post("/v1/feedback", json=THUMB)) == (404, "target_not_found", "target")
    assert error_of(api.post("/v1/feedback", json=PREFERENCE)) == (404, "target_not_found", "target")


def test_vote_on_unfinished_completion_may_be_retried(api, redis_client, put_completion):
    """A streaming target is 409 not_finished and tells clients to retry; once it is complete the vote counts."""
    put_completion("chatcmpl-1", state="streaming")
    response = api.post("/v1/feedback", json=THUMB)
    assert error_of(response) == (409, "not_finished", None)
    assert (response.headers["x-should-retry"], response.headers["retry-after"]) == ("true", "1")
    put_completion("chatcmpl-1")
    assert api.post("/v1/feedback", json=THUMB).status_code == 201


@pytest.mark.parametrize("state", ["aborted", "failed"])
def test_vote_on_cut_off_completion(api, redis_client, put_completion, state, logged):
    """An answer that the user cut off, or that failed, cannot be voted on."""
    put_completion("chatcmpl-1", state=state)
    assert error_of(api.post("/v1/feedback", json=THUMB)) == (400, "target_not_votable", "target")
    assert logged() == []


def test_comparison_vote_reveals(api, redis_client, put_comparison, logged):
    """The 201 of a comparison names both versions; the same vote again is 200 with the same reveal."""
    put_comparison()
    first, again = (api.post("/v1/feedback", json=PREFERENCE) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["reveal"] == {"a": "assistant@v3", "b": "assistant@v2"}
    assert first.json() == again.json()
    (event,) = logged()
    assert (event.completion_ids, event.policy_versions) == (["chatcmpl-1-a", "chatcmpl-1-b"], [3, 2])
    assert redis_client.hget(keys.comparison("cmp_1"), "revealed") == event.id


@pytest.mark.parametrize("second", [{"value": "b"}, {"value": "a", "rater": {"id": "someone-else"}}])
def test_no_second_vote_after_the_reveal(api, redis_client, put_comparison, second, logged):
    """After the reveal a different vote, or another rater's, is not blind: 409 already_revealed, never retried."""
    put_comparison()
    api.post("/v1/feedback", json=PREFERENCE)
    response = api.post("/v1/feedback", json=PREFERENCE | second)
    assert error_of(response) == (409, "already_revealed", None)
    assert response.headers["x-should-retry"] == "false"
    assert len(logged()) == 1


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ({"state": "streaming"}, (409, "not_finished", None)),
        ({"state": "aborted"}, (400, "target_not_votable", "target")),
    ],
)
def test_comparison_needs_both_sides(api, put_comparison, side, expected):
    """One unfinished side makes the whole comparison unfinished."""
    put_comparison(b=side)
    assert error_of(api.post("/v1/feedback", json=PREFERENCE)) == expected


def test_comparison_with_an_expired_side(api, redis_client, put_comparison):
    """A comparison whose side is gone is gone."""
    put_comparison()
    redis_client.delete(keys.completion("chatcmpl-1-b"))
    assert error_of(api.post("/v1/feedback", json=PREFERENCE)) == (404, "target_not_found", "target")


def test_side_of_a_blind_comparison_is_no_target_until_revealed(api, put_comparison):
    """A thumb on a side would break the blindness: 404 before the vote, 201 after it."""
    put_comparison()
    thumb = THUMB | {"target": {"type": "completion", "id": "chatcmpl-1-a"}}
    assert error_of(api.post("/v1/feedback", json=thumb)) == (404, "target_not_found", "target")
    api.post("/v1/feedback", json=PREFERENCE)
    assert api.post("/v1/feedback", json=thumb).status_code == 201


def test_consent_of_every_side_counts(api, redis_client, put_comparison, logged):
    """One side without consent makes the vote untrainable; it is stored all the same."""
    put_comparison(b={"train": False})
    assert api.post("/v1/feedback", json=PREFERENCE).json()["trainable"] is False
    assert [event.train for event in logged()] == [False]


def test_idempotency_key_replays_and_conflicts(api, redis_client, put_completion, logged):
    """One key, one body: the same again is 200 (also after a change of mind), another body is 409."""
    put_completion("chatcmpl-1")
    key = {"Idempotency-Key": "k-1"}
    first = api.post("/v1/feedback", json=THUMB, headers=key)
    conflict = api.post("/v1/feedback", json=THUMB | {"value": -1}, headers=key)
    assert error_of(conflict) == (409, "idempotency_conflict", None)
    assert conflict.headers["x-should-retry"] == "false"
    api.post("/v1/feedback", json=THUMB | {"value": -1})
    replay = api.post("/v1/feedback", json=THUMB, headers=key)
    assert (replay.status_code, replay.json()) == (200, first.json() | {"status": "superseded"})
    assert len(logged()) == 2
    names = " ".join(redis_client.keys())
    assert "k-1" not in names


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_idempotency_key_has_a_length(api, put_completion, logged, key):
    """A key that cannot be one is an error, not a vote without a key."""
    put_completion("chatcmpl-1")
    response = api.post("/v1/feedback", json=THUMB, headers={"Idempotency-Key": key})
    assert error_of(response) == (400, None, "header.idempotency-key")
    assert logged() == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"velue": 1}, "velue"),
        ({"value": 2}, "value"),
        ({"value": "a"}, "value"),
        ({"value": None}, "value"),
        ({"kind": "preference"}, "kind"),
        ({"kind": "rating", "value": 0}, "value"),
        ({"kind": "vote"}, "kind"),
        ({"value": True}, "value"),
        ({"value": 1.5}, "value"),
        ({"value": {"a": 1}}, "value"),
        ({"value": [["a"], 1]}, "value"),
        ({"id": "vote-1"}, "id"),
        ({"reasons": ["x" * 65]}, "reasons"),
        ({"metadata": {"x": "x" * 513}}, "metadata"),
        ({"metadata": {"x": 1}}, "metadata.x"),
        ({"occurred_at": "2999-01-01T00:00:00Z"}, "occurred_at"),
        ({"occurred_at": "2026-01-01T00:00:00"}, "occurred_at"),
        ({"occurred_at": 1767265200}, "occurred_at"),
        ({"occurred_at": "1767265200"}, "occurred_at"),
        ({"rater": {"id": ""}}, "rater.id"),
        ({"rater": {"id": "x" * 257}}, "rater.id"),
        ({"rater": {"name": "x"}}, "rater.id"),
        ({"comment": "x" * 4001}, "comment"),
        ({"target": {"type": "completion", "id": "chatcmpl-1", "choice": 1}}, "target.choice"),
        ({"target": {"type": "completion", "id": "chatcmpl-1", "choice_index": -1}}, "target.choice_index"),
        ({"target": {"type": "completion", "id": "chatcmpl-1", "choice_index": "0"}}, "target.choice_index"),
        ({"target": {"type": "rollout", "id": "chatcmpl-1"}}, "target.type"),
    ],
)
def test_wrong_field_is_named(api, redis_client, put_completion, change, param, logged):
    """Unknown fields and wrong values are 400 with the field in `param`, and nothing is stored."""
    put_completion("chatcmpl-1")
    assert error_of(api.post("/v1/feedback", json=THUMB | change)) == (400, None, param)
    assert logged() == []


@pytest.mark.parametrize("body", [b"{", b"", b"[" * 100_000, b"\xff\xfe", b'"vote"', b"null"])
def test_malformed_body(api, body):
    """What is not a JSON object is 400 in OpenAI's shape."""
    response = api.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    assert error_of(response)[0] == 400


def test_half_a_surrogate_pair_is_refused(api, put_completion):
    """JSON can spell text that UTF-8 cannot hold; it is the client's mistake, not a 500."""
    put_completion("chatcmpl-1")
    body = json.dumps(THUMB | {"comment": "\ud800"})
    response = api.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    assert error_of(response) == (400, None, "comment")


def test_one_megabyte_is_too_much(api):
    """A body over the limit is 413 before it is parsed, declared or not."""
    body = json.dumps(THUMB | {"comment": "x" * 1_000_000}).encode()
    declared = api.post("/v1/feedback", content=body, headers={"content-type": "application/json"})
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    undeclared = api.post("/v1/feedback", content=chunks, headers={"content-type": "application/json"})
    assert error_of(declared) == (413, "body_too_large", None)
    assert error_of(undeclared) == (413, "body_too_large", None)


def test_redis_unreachable(make_api, tmp_path: Path):
    """Without Redis a vote is 503 with Retry-After: nothing is kept in memory in its stead."""
    response = make_api(f"unix://{tmp_path}/nobody.sock").post("/v1/feedback", json=THUMB)
    assert error_of(response) == (503, "storage_unavailable", None)
    assert (response.headers["x-should-retry"], response.headers["retry-after"]) == ("true", "2")


def test_redis_hangs(make_api, tmp_path: Path):
    """A Redis that accepts and never answers is 503 as well, and the wait is bounded."""
    path = tmp_path / "hang.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        response = make_api(f"unix://{path}").post("/v1/feedback", json=THUMB)
    assert error_of(response) == (503, "storage_unavailable", None)


def test_full_redis_stores_nothing(api, redis_client, put_completion, logged):
    """At maxmemory a vote is 503 and leaves no trace; with memory again it is stored."""
    put_completion("chatcmpl-1")
    before = redis_client.hgetall(keys.completion("chatcmpl-1"))
    redis_client.config_set("maxmemory", 1)
    try:
        assert error_of(api.post("/v1/feedback", json=THUMB)) == (503, "storage_unavailable", None)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert redis_client.hgetall(keys.completion("chatcmpl-1")) == before
    assert logged() == []
    assert api.post("/v1/feedback", json=THUMB).status_code == 201


def test_read_only_redis(api, redis_client, put_completion):
    """On a replica a vote is 503."""
    put_completion("chatcmpl-1")
    redis_client.replicaof("127.0.0.1", "1")
    try:
        assert error_of(api.post("/v1/feedback", json=THUMB)) == (503, "storage_unavailable", None)
    finally:
        redis_client.replicaof("NO", "ONE")


def test_hundred_identical_votes_at_once_are_one(
    api: TestClient, redis_client: redis.Redis, put_comparison: Callable[..., str], logged: Callable[[], list[Feedback]]
):
    """100 concurrent identical votes: one is 201, all carry the same id, one event is stored."""
    put_comparison()

    def vote(_: int) -> httpx.Response:
        """Again after a 503, as clients do: on a busy machine a hundred at once may take more than two seconds."""
        answers = (api.post("/v1/feedback", json=PREFERENCE) for _ in range(20))
        return next(answer for answer in answers if answer.status_code != 503)

    with ThreadPoolExecutor(32) as pool:
        responses = list(pool.map(vote, range(100)))
    assert sorted(response.status_code for response in responses) == [200] * 99 + [201]
    assert len({response.json()["id"] for response in responses}) == 1
    assert len(logged()) == 1
    assert redis_client.hget(keys.FEEDBACK_COUNTS, "preference") == "1"

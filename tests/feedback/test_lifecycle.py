"""Whatever raters do through the API, the API says what the fold of the log says."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import keys
from feedback import events, store
from feedback.events import LoggedVote
from tests.feedback.wire import PREFERENCE, RANKING, THUMB

RATERS = st.sampled_from(["p", "q", None])
VALUES = {
    "thumb": [1, -1],
    "rating": [1, 5],
    "flag": ["spam", "pii"],
    "correction": ["A pet.", "An animal."],
    "preference": ["a", "tie", "both_bad"],
    "ranking": [[["b"], ["a", "d"], ["c"]], [["a", "b", "c", "d"]]],
}
TARGETS = {
    "preference": PREFERENCE["target"],
    "ranking": RANKING["target"] | {"id": "cmp_2"},
}
KINDS = st.sampled_from(sorted(VALUES))
STEPS = st.one_of(
    st.tuples(st.just("give"), RATERS, KINDS, st.integers(0, 2), st.sampled_from([None, "because"])),
    st.tuples(st.just("replay"), st.integers(0, 20)),
    st.tuples(st.just("revise"), st.integers(0, 20), st.integers(0, 2)),
    st.tuples(st.just("withdraw"), st.integers(0, 20)),
)


@dataclass
class Raters:
    """What raters did so far, and what stands of it, kept as a person would: by rater and kind, one vote or none."""

    api: TestClient
    requests: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    """What was accepted: the body with its own id, and the id of the vote."""
    standing: dict[tuple[str | None, str], tuple[str, Any]] = field(default_factory=dict)
    stored: int = 0

    def give(self, rater: str | None, kind: str, value: int, comment: str | None) -> None:
        said = {"kind": kind, "value": VALUES[kind][value % len(VALUES[kind])], "comment": comment}
        body = THUMB | {"target": TARGETS.get(kind, THUMB["target"])} | said | {"id": f"fb_{len(self.requests)}"}
        if rater is not None:
            body["rater"] = {"id": rater}
        response = self.api.post("/v1/feedback", json=body)
        if response.status_code == 409:
            assert response.json()["error"]["code"] == "already_revealed"
            assert kind in events.DECIDING
            return
        vote = response.json()["id"]
        self.requests.append((body, vote))
        if response.status_code == 201:
            self.stored += 1
            self.standing[rater, kind] = (vote, body["value"])
        else:
            assert (response.status_code, self.standing[rater, kind]) == (200, (vote, body["value"]))

    def replay(self, index: int) -> None:
        if self.requests:
            body, vote = self.requests[index % len(self.requests)]
            response = self.api.post("/v1/feedback", json=body)
            assert (response.status_code, response.json()["id"]) == (200, vote)

    def revise(self, index: int, value: int) -> None:
        if not self.requests:
            return
        body, vote = self.requests[index % len(self.requests)]
        kind = body["kind"]
        new = VALUES[kind][value % len(VALUES[kind])]
        held = [(key, it) for key, it in self.standing.items() if it[0] == vote]
        response = self.api.patch(f"/v1/feedback/{vote}", json={"value": new})
        if not held:
            assert response.json()["error"]["code"] in ("feedback_superseded", "feedback_withdrawn")
        elif kind in events.DECIDING and new != held[0][1][1]:
            assert response.json()["error"]["code"] == "already_revealed"
        else:
            assert response.status_code == 200
            self.stored += new != held[0][1][1]
            self.standing[held[0][0]] = (vote, new)

    def withdraw(self, index: int) -> None:
        if not self.requests:
            return
        _, vote = self.requests[index % len(self.requests)]
        before = self.api.get(f"/v1/feedback/{vote}").json()["status"]
        response = self.api.delete(f"/v1/feedback/{vote}")
        assert (response.status_code, response.json()["status"]) == (200, "withdrawn")
        self.stored += before != "withdrawn"
        self.standing = {key: it for key, it in self.standing.items() if it[0] != vote}


@pytest.fixture
def raters(api, redis_client, put_completion, put_comparison):
    """Starts a new history on an empty Redis."""

    def start() -> Raters:
        redis_client.flushall()
        put_completion("chatcmpl-1", rater=None)
        put_comparison("1", versions=(3, 2))
        put_comparison("2", versions=(3, 2, 1, 0))
        for name in "12":  # nobody in particular asked for them
            record = redis_client.hget(keys.comparison(f"cmp_{name}"), "record")
            redis_client.hset(
                keys.comparison(f"cmp_{name}"), "record", record.replace('"rater":"user-7"', '"rater":null')
            )
        return Raters(api)

    return start


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=1, max_size=20))
def test_api_says_what_the_fold_of_the_log_says(raters, redis_client: redis.Redis, steps):
    """After any history: the list, each vote and the fold agree with each other and with what raters remember."""
    history = raters()
    for action, *details in steps:
        getattr(history, action)(*details)
    log = [it for it in store.read_log(redis_client) if isinstance(it, LoggedVote)]
    assert len(log) == history.stored
    active, superseded = events.standing(log)
    expected = dict(history.standing.values())
    assert {vote.feedback.id: vote.feedback.value for vote in active} == expected
    listed = history.api.get("/v1/feedback", params={"status": "active", "limit": 100}).json()["data"]
    assert {vote["id"]: vote["value"] for vote in listed} == expected
    everything = history.api.get("/v1/feedback", params={"limit": 100}).json()["data"]
    assert sorted(vote["id"] for vote in everything) == sorted({vote.feedback.id for vote in log})
    folded = {vote.feedback.id: vote.feedback for vote in sorted(log, key=lambda vote: vote.feedback.revision)}
    taken_over = {vote.feedback.supersedes for vote in log}
    assert superseded == len(taken_over - {None})
    for vote in everything:
        newest = folded[vote["id"]]
        status = "withdrawn" if newest.withdrawn else "superseded" if newest.id in taken_over else "active"
        assert (vote["revision"], vote["value"], vote["comment"]) == (newest.revision, newest.value, newest.comment)
        assert vote["status"] == status

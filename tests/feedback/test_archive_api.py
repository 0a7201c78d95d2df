"""The feedback API over votes that lie in the archive."""

import shutil

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import keys
from feedback import archiving, store
from tests.feedback.wire import THUMB, error_of


def listed(api: TestClient, **query: object) -> list[dict[str, object]]:
    """All pages."""
    found, after = [], {}
    while True:
        page = api.get("/v1/feedback", params=query | after).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = {"after": page["last_id"]} if page["last_id"] else after


def test_reading_is_the_same_after_the_move(api, varied, expire, move):
    """Each vote with its history and status, and lists with every filter and page size."""
    queries = [{}, {"limit": 2}, {"status": "superseded"}, {"kind": "rating"}, {"target": "cmp_1"}, {"rater": "p"}]

    def seen() -> list[object]:
        return [api.get(f"/v1/feedback/{vote}").json() for vote in varied] + [listed(api, **query) for query in queries]

    before = seen()
    assert [len(it) for it in before[-6:]] == [6, 6, 1, 1, 1, 2]
    expire()
    assert move().trimmed == 9
    assert seen() == before


def test_an_archived_vote_can_be_taken_back(api, redis_client, archive, varied, expire, move):
    """DELETE appends a revision that knows where the earlier ones lie; twice is once, also after the next move."""
    expire()
    move()
    vote = varied[2]
    before = api.get(f"/v1/feedback/{vote}").json()
    for _ in range(2):
        taken = api.delete(f"/v1/feedback/{vote}").json()
        assert (taken["status"], taken["revision"]) == ("withdrawn", 3)
    for _ in range(2):
        now = api.get(f"/v1/feedback/{vote}").json()
        assert [it["revision"] for it in now["history"]] == [2, 1]
        assert now["history"][0]["comment"] == before["comment"] == "better"
        assert [it["id"] for it in listed(api)] == varied[::-1]
        assert (
            api.get("/v1/feedback", params={"limit": 1, "after": varied[3]}).json()["data"][0]["status"] == "withdrawn"
        )
        move()
    assert [logged.entry for logged in store.read_log(redis_client, archive)] == sorted(
        {logged.entry for logged in store.read_log(redis_client, archive)}
    )


def test_an_archived_vote_cannot_be_revised(api, varied, expire, move):
    """PATCH: 410, whatever it says: a precondition counts only where the change could be made (RFC 9110, 13.2.1). One
    that was taken back since is history, as ever."""
    expire()
    move()
    path = f"/v1/feedback/{varied[2]}"
    for stale in ({}, {"if-match": '"1"'}):
        assert error_of(api.patch(path, json={"value": 1}, headers=stale)) == (410, "target_expired", None)
    api.delete(path)
    assert error_of(api.patch(path, json={"value": 1})) == (409, "feedback_withdrawn", None)


def test_ids_and_keys_of_archived_votes_are_not_free(api, put_completion, expire, move, redis_client):
    """A retry that comes after the move stores nothing again; another vote cannot take the id."""
    put_completion("chatcmpl-1")
    body, headers = THUMB | {"id": "fb_mine"}, {"idempotency-key": "k"}
    assert api.post("/v1/feedback", json=body, headers=headers).status_code == 201
    expire()
    move()
    assert error_of(api.post("/v1/feedback", json=body, headers=headers)) == (410, "target_expired", None)
    for key in redis_client.keys(keys.idempotency("*")):
        redis_client.delete(key)
    put_completion("chatcmpl-1")
    assert error_of(api.post("/v1/feedback", json=body)) == (409, "idempotency_conflict", None)


STEPS = st.lists(
    st.sampled_from(["vote", "vote", "revise", "withdraw", "consent", "expire", "copy", "move"]),
    min_size=1,
    max_size=25,
)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, most=st.integers(1, 4))
def test_any_history_of_moves_keeps_the_log(api, give, redis_client, archive, put_completion, expire, steps, most):
    """Whatever is said, expires and moves, in whatever order: readers see every entry ever written, once, in order."""
    redis_client.flushall()
    shutil.rmtree(archive.directory, ignore_errors=True)
    written, votes = {}, []
    for number, step in enumerate(steps):
        chosen = votes[number % len(votes)] if votes else None
        if step == "vote":
            put_completion("chatcmpl-1")
            votes.append(give(value=[1, -1][number % 2], comment=str(number)))
        elif step == "revise" and chosen:
            api.patch(f"/v1/feedback/{chosen}", json={"comment": f"again {number}"})
        elif step == "withdraw" and chosen:
            assert api.delete(f"/v1/feedback/{chosen}").json()["status"] == "withdrawn"
        elif step == "consent":
            api.post("/v1/raters/p/consent", json={"train": bool(number % 2)})
        elif step == "expire":
            expire()
        elif step in ("copy", "move"):
            archiving.run(redis_client, archive, most=most, copy_after_s=0, keep_s=0 if step == "move" else 60)
        written |= dict(redis_client.xrange(keys.FEEDBACK))
        assert [it.entry for it in store.read_log(redis_client, archive)] == list(written)
    assert {vote["id"] for vote in listed(api, limit=100)} == set(votes)
    for vote in votes:
        assert api.get(f"/v1/feedback/{vote}").status_code == 200

"""The API of rater tasks, over a real Redis."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import feedback.app
from core import http, keys
from core.settings import Settings
from feedback import events, store
from tests.feedback.conftest import WINDOW_S
from tests.feedback.wire import COMPARISON, COMPLETION, PREFERENCE, error_of

COMPARE = {"kind": "compare", "target": COMPARISON}
RATE = {"kind": "rate", "target": COMPLETION}


def admin_app(redis_url: str) -> FastAPI:
    app = FastAPI()
    http.install(app, max_body_bytes=1 << 20)
    feedback.app.attach(FastAPI(), redis_url, Settings(feedback_window_s=WINDOW_S), admin=app)
    return app


@pytest.fixture
def admin(redis_server: str, redis_client) -> Iterator[TestClient]:
    """The operators' listener over the emptied test Redis."""
    with TestClient(admin_app(redis_server)) as client:
        yield client


def add(admin: TestClient, *items: dict) -> list[str]:
    results = admin.post("/v1/tasks", json={"items": list(items)}).json()["results"]
    assert [result["status"] for result in results] == [201] * len(items), results
    return [result["id"] for result in results]


def following(api: TestClient, rater: str) -> dict | None:
    response = api.get("/v1/tasks/next", params={"rater": rater})
    assert response.headers["cache-control"] == "no-store"
    assert response.status_code in (200, 204)
    return response.json() if response.status_code == 200 else None


def answer(api: TestClient, task: str, rater: str, value: object, **more: object):
    return api.post(f"/v1/tasks/{task}/answer", json={"rater": {"id": rater}, "value": value} | more)


def skip(api: TestClient, task: str, rater: str, **more: object):
    return api.post(f"/v1/tasks/{task}/skip", json={"rater": {"id": rater}} | more)


# --- operators ----------------------------------------------------------------------------------------------------


def test_a_task_is_added_once(admin, put_comparison, put_completion):
    """The same external id is the same task, also when the target could not be asked about any more; another body
    under it is a conflict; a bad item harms no other."""
    put_comparison()
    put_completion("chatcmpl-1")
    items = [COMPARE | {"external_id": "x-1"}, {"kind": "guess"}, RATE | {"overlap": 0}, RATE]
    first = admin.post("/v1/tasks", json={"items": items}).json()["results"]
    assert [(it["status"], it.get("error", {}).get("param")) for it in first] == [
        (201, None),
        (400, "kind"),
        (400, "overlap"),
        (201, None),
    ]
    put_comparison(a={"state": "failed"})
    items = [items[0], items[0] | {"overlap": 2}]
    again = admin.post("/v1/tasks", json={"items": items}).json()["results"]
    assert (again[0]["status"], again[0]["id"]) == (200, first[0]["id"])
    assert (again[1]["status"], again[1]["error"]["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (COMPARE | {"target": COMPARISON | {"id": "cmp_9"}}, (404, "target_not_found", "target")),
        (RATE | {"target": COMPLETION | {"id": "chatcmpl-9"}}, (404, "target_not_found", "target")),
        (RATE | {"target": COMPLETION | {"id": "chatcmpl-1-a"}}, (404, "target_not_found", "target")),
        (COMPARE | {"target": COMPARISON | {"id": "cmp_2"}}, (409, "already_revealed", None)),
        (COMPARE | {"gold": 3}, (400, None, "gold")),
        (COMPARE | {"deadline": "2026-01-01T00:00:00Z"}, (400, None, "deadline")),
        (COMPARE | {"golden": "a"}, (400, None, "golden")),
    ],
)
def test_what_no_task_is_made_of(admin, redis_client, put_comparison, item, expected):
    """Unknown targets, hidden sides, what was revealed, and malformed items; nothing is stored."""
    put_comparison()
    put_comparison("2")
    redis_client.hset(keys.comparison("cmp_2"), "revealed", "fb_1")
    (result,) = admin.post("/v1/tasks", json={"items": [item]}).json()["results"]
    assert (result["status"], result["error"]["code"], result["error"]["param"]) == expected
    assert redis_client.zcard(keys.TASKS) == 0


def test_one_open_task_for_one_question(admin, api, put_completion):
    """The same question again is refused while the first task is open, and possible afterwards."""
    put_completion("chatcmpl-1")
    (first,) = add(admin, RATE)
    (result,) = admin.post("/v1/tasks", json={"items": [RATE]}).json()["results"]
    assert (result["status"], result["error"]["code"]) == (409, "task_exists")
    add(admin, {"kind": "correct", "target": COMPLETION})
    following(api, "ann")
    answer(api, first, "ann", 4)
    (second,) = add(admin, RATE)
    assert second != first


def test_list_of_tasks(admin, api, put_comparison, put_completion):
    """Newest first, in pages, with all that is known."""
    put_comparison()
    put_completion("chatcmpl-1")
    one, two = add(admin, COMPARE | {"gold": "a", "overlap": 3, "asked": "active", "propensity": 0.25}, RATE)
    assert following(api, "ann")["id"] == one
    fb = answer(api, one, "ann", "b").json()["feedback"]
    skip(api, one, "bob", reason="not my subject")
    page = admin.get("/v1/tasks", params={"limit": 1}).json()
    assert ([it["id"] for it in page["data"]], page["has_more"]) == ([two], True)
    page = admin.get("/v1/tasks", params={"limit": 1, "after": page["last_id"]}).json()
    assert ([it["id"] for it in page["data"]], page["has_more"]) == ([one], False)
    listed = page["data"][0]
    assert (listed["state"], listed["gold"], listed["asked"], listed["propensity"]) == ("open", "a", "active", 0.25)
    assert listed["answers"] == [{"rater": "ann", "feedback": fb}]
    assert listed["skips"] == [{"rater": "bob", "reason": "not my subject"}]
    assert error_of(admin.get("/v1/tasks", params={"after": "task_9"})) == (400, None, "query.after")


def test_operators_and_raters_have_listeners_of_their_own(api, admin):
    """What tells gold questions from others is not on the public listener."""
    assert api.post("/v1/tasks", json={"items": []}).status_code == 404
    assert api.get("/v1/tasks").status_code == 404
    assert admin.get("/v1/tasks/next", params={"rater": "ann"}).status_code == 404


# --- raters -------------------------------------------------------------------------------------------------------


def test_an_answer_is_an_ordinary_vote(admin, api, put_comparison, logged):
    """It lies in the log with its source and its task; the same again is 200, another one 409."""
    put_comparison()
    (task,) = add(admin, COMPARE)
    assert following(api, "ann")["id"] == task
    first = answer(api, task, "ann", "b", reasons=["true"], comment="clear")
    again = answer(api, task, "ann", "b", reasons=["true"], comment="clear")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == {"id": task, "object": "task.answer", "feedback": first.json()["feedback"]}
    (vote,) = logged()
    assert (vote.id, vote.kind, vote.value, vote.rater) == (first.json()["feedback"], "preference", "b", "ann")
    assert (vote.source, vote.metadata, vote.reasons, vote.comment) == ("task", {"task": task}, ["true"], "clear")
    assert error_of(answer(api, task, "ann", "a")) == (409, "task_answered", None)
    assert following(api, "ann") is None


@pytest.mark.parametrize(
    ("kind", "versions", "right", "wrong"),
    [
        ("compare", (3, 2), "tie", 1),
        ("rank", (3, 2, 1, 0), [["b"], ["a", "d"], ["c"]], [["b"], ["a", "c"]]),
        ("rate", None, 5, 6),
        ("correct", None, "A pet.", "text of chatcmpl-1"),
    ],
)
def test_each_kind(admin, api, put_comparison, put_completion, kind, versions, right, wrong):
    """Each kind shows what is to be judged and takes its own values; a wrong one leaves the rater their task."""
    put_completion("chatcmpl-1")
    if versions:
        put_comparison(versions=versions)
    (task,) = add(admin, {"kind": kind, "target": COMPARISON if versions else COMPLETION, "instructions": "*Look.*"})
    given = following(api, "ann")
    ids = [f"chatcmpl-1-{side}" for side in "abcd"[: len(versions)]] if versions else ["chatcmpl-1"]
    names = list("abcd"[: len(versions)]) if versions else [None]
    assert [(it["side"], it["content"]) for it in given["answers"]] == [
        (name, f"text of {each}") for name, each in zip(names, ids, strict=True)
    ]
    assert (given["kind"], given["instructions"]) == (kind, "*Look.*")
    assert given["messages"] == [{"role": "user", "content": "A dog is"}]
    assert error_of(answer(api, task, "ann", wrong)) == (400, None, "value")
    assert following(api, "ann") == given
    assert answer(api, task, "ann", right).status_code == 201


def test_gold_questions_look_like_others(admin, api, put_comparison):
    """Every word that a rater gets is the same, but for ids and time."""
    answers, given = [], []
    for name, more in (("1", {}), ("2", {"gold": "a", "priority": 5, "overlap": 9, "external_id": "gold-1"})):
        put_comparison(name)
        add(admin, {"kind": "compare", "target": COMPARISON | {"id": f"cmp_{name}"}} | more)
    for _ in range(2):
        task = following(api, "ann")
        response = answer(api, task["id"], "ann", "a")
        headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
        answers.append((response.status_code, sorted(response.json()), headers | {"content-length": ""}))
        texts = json.dumps(task["answers"]).replace("-2-", "-1-")
        given.append((sorted(task), len(task["id"]), task["kind"], task["instructions"], texts))
    assert given[0] == given[1]
    assert answers[0] == answers[1]
    progress = api.get("/v1/tasks/progress", params={"rater": "ann"}).json()
    assert progress == {"object": "task.progress", "rater": "ann", "done": 2, "skipped": 0, "left": 0}


def test_nothing_is_revealed_before_the_last_answer(admin, api, redis_client, put_comparison):
    """While a task holds a comparison, neither its raters nor others who vote learn a policy; then all can."""
    put_comparison()
    (task,) = add(admin, COMPARE | {"overlap": 2})
    following(api, "ann"), following(api, "bob")
    ann = answer(api, task, "ann", "a").json()["feedback"]
    other = api.post("/v1/feedback", json=PREFERENCE | {"rater": {"id": "eve"}})
    assert (other.status_code, other.json()["policy_versions"]) == (201, [])
    assert "reveal" not in other.json()
    assert api.get(f"/v1/feedback/{ann}").json()["policy_versions"] == []
    assert api.get("/v1/feedback", params={"policy_version": "assistant@v3"}).json()["data"] == []
    side = {"target": {"type": "completion", "id": "chatcmpl-1-a"}, "kind": "thumb", "value": 1}
    assert error_of(api.post("/v1/feedback", json=side)) == (404, "target_not_found", "target")
    bob = answer(api, task, "bob", "b")
    assert sorted(bob.json()) == ["feedback", "id", "object"]
    for vote in (ann, bob.json()["feedback"], other.json()["id"]):
        assert api.get(f"/v1/feedback/{vote}").json()["reveal"] == {"a": "assistant@v3", "b": "assistant@v2"}
    late = api.post("/v1/feedback", json=PREFERENCE | {"rater": {"id": "dan"}})
    assert error_of(late) == (409, "already_revealed", None)


def test_a_skipped_task_goes_to_others(admin, api, put_comparison):
    """Its place is free again, but not for who skipped it; twice is once."""
    put_comparison()
    (task,) = add(admin, COMPARE)
    following(api, "ann")
    assert following(api, "bob") is None
    assert [skip(api, task, "ann").status_code for _ in range(2)] == [200, 200]
    assert following(api, "ann") is None
    assert error_of(answer(api, task, "ann", "a")) == (409, "task_skipped", None)
    assert following(api, "bob")["id"] == task
    answer(api, task, "bob", "a")
    assert error_of(skip(api, task, "bob")) == (409, "task_answered", None)
    progress = [api.get("/v1/tasks/progress", params={"rater": rater}).json() for rater in ("ann", "bob", "eve")]
    assert [(it["done"], it["skipped"], it["left"]) for it in progress] == [(0, 1, 0), (1, 0, 0), (0, 0, 0)]


def test_who_voted_already_is_not_asked(admin, api, put_comparison, redis_client):
    """A vote of one's own on the same answers would only be superseded."""
    put_comparison()
    (task,) = add(admin, COMPARE | {"overlap": 2})
    api.post("/v1/feedback", json=PREFERENCE | {"rater": {"id": "ann"}})
    assert following(api, "ann") is None
    assert error_of(answer(api, task, "ann", "b")) == (409, "lease_expired", None)
    assert following(api, "bob")["id"] == task


def test_progress_with_gold_is_for_operators(admin, api, put_comparison):
    """How gold questions went; votes that were taken back count no more."""
    for name, gold in (("1", "a"), ("2", "a"), ("3", "a"), ("4", None)):
        put_comparison(name)
        add(admin, {"kind": "compare", "target": COMPARISON | {"id": f"cmp_{name}"}, "gold": gold, "overlap": 2})
    votes = [answer(api, following(api, "ann")["id"], "ann", value).json()["feedback"] for value in "abaa"]
    api.delete(f"/v1/feedback/{votes[2]}")
    progress = admin.get("/v1/tasks/progress", params={"rater": "ann"}).json()
    assert progress == {
        "object": "task.progress",
        "rater": "ann",
        "done": 4,
        "skipped": 0,
        "left": 0,
        "gold": {"right": 1, "wrong": 1},
    }


def test_priority_then_age(admin, api, put_completion):
    """The queue is in this order for everybody."""
    items = []
    for name, priority in (("1", 0), ("2", 7), ("3", -1), ("4", 7), ("5", 0)):
        put_completion(f"chatcmpl-{name}")
        items.append(RATE | {"target": COMPLETION | {"id": f"chatcmpl-{name}"}, "priority": priority})
    one, two, three, four, five = add(admin, *items)
    assert [following(api, rater)["id"] for rater in "pqrst"] == [two, four, one, five, three]
    assert following(api, "p")["id"] == two


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("task_9/answer", {"rater": {"id": "ann"}, "value": 1}, (404, "task_not_found", None)),
        ("task_9/skip", {"rater": {"id": "ann"}}, (404, "task_not_found", None)),
        ("task_9/answer", {"value": 1}, (400, None, "rater")),
        ("task_9/skip", {"rater": {"id": "ann"}, "why": ""}, (400, None, "why")),
    ],
)
def test_wrong_requests_of_raters(api, path, body, expected):
    """OpenAI's error shape, with the field."""
    assert error_of(api.post(f"/v1/tasks/{path}", json=body)) == expected


def test_deadline_is_the_feedback_window_unless_said(admin, redis_client, put_comparison):
    """And the target lives as long as the task may be open."""
    put_comparison()
    held = [keys.comparison("cmp_1"), keys.completion("chatcmpl-1-a"), keys.completion("chatcmpl-1-b")]
    for key in held:
        redis_client.expire(key, 5)
    add(admin, COMPARE)
    assert [redis_client.ttl(key) > WINDOW_S - 60 for key in held] == [True] * 3
    deadline = admin.get("/v1/tasks").json()["data"][0]["deadline"]
    left = datetime.fromisoformat(deadline) - datetime.now(tz=UTC)
    assert WINDOW_S - 60 < left.total_seconds() <= WINDOW_S


def test_without_redis(make_api, tmp_path: Path):
    """503 with Retry-After on every route."""
    url = f"unix://{tmp_path}/nobody.sock"
    api, rater = make_api(url), {"rater": "ann"}
    with TestClient(admin_app(url)) as admin:
        responses = [
            api.get("/v1/tasks/next", params=rater),
            api.get("/v1/tasks/progress", params=rater),
            answer(api, "task_1", "ann", "a"),
            skip(api, "task_1", "ann"),
            admin.post("/v1/tasks", json={"items": [RATE]}),
            admin.get("/v1/tasks"),
            admin.get("/v1/tasks/progress", params=rater),
        ]
    assert [error_of(response)[:2] for response in responses] == [(503, "storage_unavailable")] * 7
    assert all(response.headers["retry-after"] == "2" for response in responses)


def test_answers_become_standing_votes(admin, api, redis_client, put_comparison):
    """Several raters answer one comparison, and all of it stands."""
    put_comparison()
    (task,) = add(admin, COMPARE | {"overlap": 3})
    for rater, value in (("ann", "a"), ("bob", "b"), ("eve", "a")):
        following(api, rater)
        assert answer(api, task, rater, value).status_code == 201
    votes, _ = events.standing(store.log(redis_client)[0])
    assert [(vote.feedback.rater, vote.feedback.value) for vote in votes] == [("ann", "a"), ("bob", "b"), ("eve", "a")]
    assert admin.get("/v1/tasks").json()["data"][0]["state"] == "done"

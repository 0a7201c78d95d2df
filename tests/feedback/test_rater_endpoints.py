"""Raters on the admin listener, over a real Redis: who is trusted, and who was set aside by whom and why."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import feedback.app
from core import audit, http, keys, registry
from core.records import Message, RaterReport, Share, SharedHabit, TrustReport
from core.redis import script
from core.settings import Settings
from feedback import erasure, events, rater_review, snapshot, store
from feedback.rows import audited_rater, fold_of
from tests.feedback.rounds import cut, policy
from tests.feedback.wire import PREFERENCE, THUMB, error_of

WHY = {"reason": "a script: 400 votes in a minute"}


@pytest.fixture
def make_admin(tmp_path: Path) -> Callable[[str], TestClient]:
    def make(redis_url: str) -> TestClient:
        app = FastAPI()
        http.install(app, max_body_bytes=1 << 20)
        feedback.app.attach(FastAPI(), redis_url, Settings(artifacts_url=str(tmp_path)), admin=app)
        return TestClient(app)

    return make


@pytest.fixture
def admin(redis_server: str, api: TestClient, make_admin: Callable[[str], TestClient]) -> TestClient:
    """The admin listener beside the public one; one event loop each, for the whole test."""
    with make_admin(redis_server) as client:
        yield client


def report(rater: str, **given: object) -> RaterReport:
    fields = {"votes": 41, "judged": 38, "reliability": 0.1, "reliability_low": -0.4, "reliability_high": 0.5}
    return RaterReport.model_validate({"rater": rater, "weight": 0.5, "as_of": 1790000100.0} | fields | given)


def publish(client: redis.Redis, *raters: RaterReport) -> None:
    """What a round leaves."""
    client.hset(keys.TRUST_RATERS, mapping={each.rater: each.to_json() for each in raters})


def reviews(client: redis.Redis) -> list[tuple[str, str, str, str]]:
    """Quarantines and restorations in the log."""
    found = [it.event for it in store.log(client)[1] if it.event.action != "consent"]
    return [(it.rater, it.action, it.actor, it.reason) for it in found]


# --- deciding -------------------------------------------------------------------------------------------------------


def test_decisions_are_events_in_the_log(api, admin, redis_client, put_completion):
    """201 and an event for what is new, 200 with the decision that holds for what is so already; the history names who
    decided what, when and why, the newest first, and so does the audit, which has another name for the rater."""
    put_completion("chatcmpl-1")
    api.post("/v1/feedback", json=THUMB)
    path = "/v1/raters/user-7"
    not_aside = admin.post(f"{path}/restore", json=WHY)
    assert (not_aside.status_code, not_aside.json()["state"], not_aside.json()["review"]) == (200, "active", None)
    first = admin.post(f"{path}/quarantine", json=WHY)
    again = admin.post(f"{path}/quarantine", json={"reason": "once more"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["review"] | {"created_at": ""} == WHY | {
        "action": "quarantine",
        "actor": "api:local",
        "created_at": "",
    }
    second = admin.post(f"{path}/restore", json={"reason": " it was a class of pupils\n"})
    assert (second.status_code, second.json()["state"]) == (201, "active")
    assert reviews(redis_client) == [
        ("user-7", "quarantine", "api:local", WHY["reason"]),
        ("user-7", "restore", "api:local", "it was a class of pupils"),
    ]
    shown = admin.get(path).json()
    assert [(it.action, it.actor, it.reason, it.subject) for it in audit.history(redis_client)] == [
        ("rater.quarantine", "api:local", WHY["reason"], shown["audited_as"]),
        ("rater.restore", "api:local", "it was a class of pupils", shown["audited_as"]),
    ]
    assert audit.check(redis_client).fault == "" and "user-7" not in shown["audited_as"]
    assert shown["history"] == [second.json()["review"], first.json()["review"]]
    assert (shown["state"], shown["review"], shown["report"]) == ("active", shown["history"][0], None)


@pytest.mark.parametrize("name", ["user-7", "a/b", "quarantine", 'ä "quoted" \\', "\x7f\u2028", "x" * 256])
@pytest.mark.parametrize(
    ("said_by", "kept"), [("the chat", "in Redis"), ("the vote", "in Redis"), ("the chat", "in the archive")]
)
def test_who_gave_feedback_is_known(
    api, admin, archive, redis_client, put_completion, expire, move, name, said_by, kept
):
    """By any name, whether the vote says it or the chat did, and however long ago it was."""
    put_completion("chatcmpl-1", rater=name if said_by == "the chat" else "user-8")
    rater = {} if said_by == "the chat" else {"rater": {"id": name}}
    assert api.post("/v1/feedback", json=THUMB | rater).status_code == 201
    if kept == "in the archive":
        expire()
        assert move().trimmed == 1
    path = f"/v1/raters/{quote(name, safe='')}"
    assert admin.get(path).json()["id"] == name
    assert admin.post(f"{path}/quarantine", json=WHY).status_code == 201
    assert admin.get(path).json()["state"] == "quarantined"
    assert events.rater_states(store.log(redis_client, archive)[1])[name].quarantined == WHY["reason"]


def test_a_wrong_name_is_nobodys(api, admin, redis_client, put_completion):
    """404 for a name that only stands elsewhere in votes, and nothing is logged; a mistake in typing must not pass."""
    put_completion("chatcmpl-1")
    api.post("/v1/feedback", json=THUMB | {"metadata": {"rater": "user-8"}, "comment": '"rater":"user-8"'})
    for response in (
        admin.get("/v1/raters/user-8"),
        admin.post("/v1/raters/user-8/quarantine", json=WHY),
        admin.post("/v1/raters/user-8/restore", json=WHY),
    ):
        assert error_of(response) == (404, "rater_not_found", None)
    assert (reviews(redis_client), redis_client.exists(keys.rater("user-8"))) == ([], 0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": " \n"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"reason": "\ud800"}, "reason"),
        (WHY | {"actor": "me"}, "actor"),
    ],
)
def test_a_decision_has_a_reason(api, admin, redis_client, body, param):
    """400 with the field, and nothing is logged."""
    api.post("/v1/raters/user-7/consent", json={"train": True})
    for action in ("quarantine", "restore"):
        content, headers = json.dumps(body), {"content-type": "application/json"}
        response = admin.post(f"/v1/raters/user-7/{action}", content=content, headers=headers)
        assert error_of(response) == (400, None, param)
    assert reviews(redis_client) == []


def test_the_public_listener_knows_nothing_of_it(api, redis_client):
    """Neither paths to decide nor paths to read."""
    publish(redis_client, report("user-7"))
    posts = [api.post(f"/v1/raters/user-7/{action}", json=WHY) for action in ("quarantine", "restore")]
    gets = [api.get(path) for path in ("/v1/raters", "/v1/raters/user-7", "/v1/trust")]
    assert [response.status_code for response in (*posts, *gets)] == [404] * 5
    assert reviews(redis_client) == []


def test_without_redis_and_in_a_full_one(admin, make_admin, redis_client, tmp_path):
    """503, and no trace: what was not written durably was not decided."""
    publish(redis_client, report("user-7"))
    redis_client.config_set("maxmemory", 1)
    try:
        response = admin.post("/v1/raters/user-7/quarantine", json=WHY)
        assert error_of(response) == (503, "storage_unavailable", None)
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (reviews(redis_client), admin.get("/v1/raters/user-7").json()["state"]) == ([], "active")
    away = make_admin(f"unix://{tmp_path}/nobody.sock")
    for response in (
        away.get("/v1/trust"),
        away.get("/v1/raters"),
        away.get("/v1/raters/user-7"),
        away.post("/v1/raters/user-7/quarantine", json=WHY),
    ):
        assert error_of(response) == (503, "storage_unavailable", None)


def test_the_scheduler_decides_by_what_it_saw(admin, redis_client):
    """It sets aside whom nobody decided about since it read the log; who is set aside already stays so, once."""
    publish(redis_client, report("p"), report("q"))
    aside = rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    again = rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    assert [(it.quarantined, it.new) for it in (aside, again)] == [(True, True), (True, False)]
    admin.post("/v1/raters/p/restore", json=WHY)
    late = rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    assert (late.quarantined, late.new) == (False, False)
    (*_, newest) = store.log(redis_client)[1]
    informed = rater_review.quarantine(redis_client, "p", reason="longer", actor="trust", seen=newest.entry)
    assert (informed.quarantined, informed.new) == (True, True)
    assert [(action, actor) for _, action, actor, _ in reviews(redis_client)] == [
        ("quarantine", "trust"),
        ("restore", "api:local"),
        ("quarantine", "trust"),
    ]


def test_a_silent_retry_is_no_second_decision(redis_client):
    """The Redis client may send a script twice; the second one finds what the first did, whatever happened between."""

    def decision(action: str) -> int:
        said = json.dumps({"rater": "p", "action": action, "reason": "r", "actor": "admin"})
        names = [keys.FEEDBACK, keys.rater("p"), keys.QUARANTINED, keys.call(action)]
        names += [keys.REGISTRY, keys.AUDIT, keys.AUDIT_HEAD]
        args = [keys.FEEDBACK_INDEX, keys.comparison(""), "p", action, said, 60, "r", "admin", "rater_1"]
        new, *_ = script(redis_client, *rater_review.SCRIPT)(keys=names, args=args)
        return int(new)

    assert [decision(it) for it in ("quarantine", "restore", "quarantine")] == [1, 1, 1]
    assert [action for _, action, *_ in reviews(redis_client)] == ["quarantine", "restore"]
    assert [it.action for it in audit.history(redis_client)] == ["rater.quarantine", "rater.restore"]
    assert redis_client.smembers(keys.QUARANTINED) == set()


STEPS = st.tuples(
    st.sampled_from("pq"), st.sampled_from(["quarantine", "restore"]), st.sampled_from(["admin", "trust"])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(steps=st.lists(STEPS, max_size=12), seed=st.integers())
def test_what_is_shown_is_the_fold_of_the_log(redis_client, admin, steps, seed):
    """After any decisions of people and of the scheduler: state, newest decision and history of each rater are what the
    log's events come to, in whatever order these are read."""
    redis_client.flushdb()
    publish(redis_client, report("p"), report("q"))
    for number, (rater, action, actor) in enumerate(steps):
        if actor == "admin":
            admin.post(f"/v1/raters/{rater}/{action}", json={"reason": str(number)})
        elif action == "quarantine":
            newest = redis_client.hget(keys.rater(rater), "review_at") or ""
            rater_review.quarantine(redis_client, rater, reason=str(number), actor=actor, seen=newest)
    logged = store.log(redis_client)[1]
    shuffled = logged + logged[::2]
    random.Random(seed).shuffle(shuffled)
    states = events.rater_states(shuffled)
    aside = [name for name in "pq" if name in states and states[name].quarantined is not None]
    assert [each["id"] for each in admin.get("/v1/raters?quarantined=true").json()["data"]] == aside
    for name in "pq":
        shown = admin.get(f"/v1/raters/{name}").json()
        own = [it.event for it in logged if it.event.rater == name]
        assert [(it["action"], it["reason"]) for it in shown["history"]] == [(it.action, it.reason) for it in own[::-1]]
        assert shown["state"] == ("quarantined" if name in aside else "active")
        assert shown["review"] == (shown["history"][0] if own else None)


# --- reading --------------------------------------------------------------------------------------------------------


def test_raters_are_listed_by_name(admin, redis_client):
    """Those whom the last round judged and those in quarantine, each once; pages go on behind a name, though a round
    came between and the name is gone."""
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert admin.get("/v1/raters").json() == empty
    publish(redis_client, *(report(name) for name in "edba"))
    for name in "cd":
        rater_review.quarantine(redis_client, name, reason="first side", actor="trust", seen="")
    page = admin.get("/v1/raters?limit=3").json()
    assert ([it["id"] for it in page["data"]], page["first_id"], page["last_id"], page["has_more"]) == (
        ["a", "b", "c"],
        "a",
        "c",
        True,
    )
    redis_client.srem(keys.QUARANTINED, "c")
    page = admin.get("/v1/raters?limit=3&after=c").json()
    assert ([it["id"] for it in page["data"]], page["has_more"]) == (["d", "e"], False)
    assert [it["id"] for it in admin.get("/v1/raters?quarantined=true").json()["data"]] == ["d"]
    assert [it["id"] for it in admin.get("/v1/raters?quarantined=false").json()["data"]] == ["a", "b", "e"]
    assert error_of(admin.get("/v1/raters?limit=0")) == (400, None, "query.limit")
    assert error_of(admin.get("/v1/raters?state=quarantined")) == (400, None, "query.state")


def test_one_rater_is_shown_whole(api, admin, redis_client):
    """Report, consent and decisions; what the report found and what holds now are two things."""
    publish(redis_client, report("p", weight=0.0, quarantined=True, reason="first side: e = 2.1e+06"))
    api.post("/v1/raters/p/consent", json={"train": False})
    assert admin.get("/v1/raters/p").json() == {
        "id": "p",
        "object": "rater",
        "state": "active",
        "invited_until": None,
        "audited_as": audited_rater(store.deployment_salt(redis_client), "p"),
        "review": None,
        "report": {
            "votes": 41,
            "judged": 38,
            "reliability": {"value": 0.1, "low": -0.4, "high": 0.5},
            "weight": 0.0,
            "quarantined": True,
            "reason": "first side: e = 2.1e+06",
            "as_of": "2026-09-21T14:15:00Z",
        },
        "train": False,
        "history": [],
    }


def test_trust_is_shown(admin, redis_client):
    """Null before the first round; then its figures, beside the number of those in quarantine now."""
    assert admin.get("/v1/trust").json() == {"object": "trust", "quarantined": 0, "report": None}
    found = TrustReport(
        as_of=1790000100.0,
        snapshot="5d41",
        votes=1200,
        surveyed=1100,
        raters=61,
        quarantined=3,
        alpha_nominal=0.46,
        alpha_ordinal=None,
        first=Share(value=0.53, low=0.49, high=0.57, count=612),
        longer=None,
        longer_expected=0.55,
        habits=[SharedHabit(habit="prefers version 3", raters=12, log10_e=9.1)],
    )
    redis_client.set(keys.TRUST, found.to_json())
    rater_review.quarantine(redis_client, "p", reason="first side", actor="trust", seen="")
    assert admin.get("/v1/trust").json() == {
        "object": "trust",
        "quarantined": 1,
        "report": {
            "as_of": "2026-09-21T14:15:00Z",
            "snapshot": "5d41",
            "votes": 1200,
            "surveyed": 1100,
            "raters": 61,
            "quarantined": 3,
            "alpha_nominal": 0.46,
            "alpha_ordinal": None,
            "first": {"value": 0.53, "low": 0.49, "high": 0.57, "count": 612},
            "longer": None,
            "longer_expected": 0.55,
            "habits": [{"habit": "prefers version 3", "raters": 12, "log10_e": 9.1}],
            "error": "",
        },
    }


# --- what follows ---------------------------------------------------------------------------------------------------


@pytest.fixture
def vote(api: TestClient, redis_client: redis.Redis, put_comparison: Callable[..., str]) -> Callable[[str, str], dict]:
    """A rater's preference about a prompt of its own, which trains policies."""
    registry.initialise(redis_client, policy(0, None), actor="test")

    def send(name: str, rater: str) -> dict:
        prompts = ([Message(role="user", content=f"{name} {number}")] for number in range(1000))
        messages = next(it for it in prompts if fold_of(b"s", snapshot.cluster_of(it)) == "optimize")
        put_comparison(name, versions=(0, 0), a={"messages": messages}, b={"messages": messages})
        body = PREFERENCE | {"target": {"type": "comparison", "id": f"cmp_{name}"}, "rater": {"id": rater}}
        response = api.post("/v1/feedback", json=body)
        assert response.status_code == 201
        return response.json()

    return send


def test_a_quarantine_is_felt_by_snapshots_and_not_by_the_rater(api, admin, redis_client, tmp_path, vote):
    """Votes are taken as everybody's are, and dropped as `quarantined`; the voter hears `not used`, as others hear it
    who gave one vote too many. After a restoration all count again, those that were given meanwhile too."""
    before, others = vote("1", "mine"), vote("2", "else")
    admin.post("/v1/raters/mine/quarantine", json=WHY)
    meanwhile, others_too = vote("3", "mine"), vote("4", "else")
    assert meanwhile.keys() == others_too.keys()
    assert [meanwhile[name] for name in ("kind", "value", "reveal", "status")] == [
        others_too[name] for name in ("kind", "value", "reveal", "status")
    ]

    def told(given: dict) -> tuple[str, list[object]]:
        body = api.get(f"/v1/feedback/{given['id']}")
        assert not any(word in body.text for word in ("quarantin", "script", "review", "trust"))
        return body.json()["outcome"], [it["excluded"] for it in body.json()["used_in"]]

    aside = cut(redis_client, tmp_path)
    assert (aside.manifest.dropped, {row.feedback_id for row in aside.pairs}) == (
        {"quarantined": 2},
        {others["id"], others_too["id"]},
    )
    assert [told(it) for it in (before, meanwhile)] == [("not used", ["not_used"])] * 2
    admin.post("/v1/raters/mine/restore", json=WHY)
    back = cut(redis_client, tmp_path)
    assert (back.manifest.dropped, len(back.pairs)) == ({}, 4)
    assert told(meanwhile) == ("waiting for the next round", [None, "not_used"])


def test_the_erased_are_nobody(api, admin, redis_client, tmp_path, vote):
    """No name is left among those in quarantine, and the history is gone."""
    vote("1", "mine")
    admin.post("/v1/raters/mine/quarantine", json=WHY)
    admin.delete("/v1/users/mine")
    (job,) = erasure.pending(redis_client)
    erasure.run(redis_client, tmp_path, job, forget_runs=lambda _: [])
    assert admin.get("/v1/raters?quarantined=true").json()["data"] == []
    assert error_of(admin.get("/v1/raters/mine")) == (404, "rater_not_found", None)
    assert redis_client.keys(f"*{keys.rater('mine')}*") == []

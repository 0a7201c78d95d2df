"""Visitors without a key on a whole API: who is let in, what they may do, and what they never see of each other."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from core import keys
from core.records import CompletionRecord
from core.visitors import LIMITS, SESSIONS_PER_MINUTE
from tests.plumbline.replicas import Deployment, Replica, bearer, chat
from tests.plumbline.visiting import Visitor, leave
from tests.waiting import eventually


@pytest.fixture(scope="module")
def running(deployment: Deployment) -> Replica:
    """Where keys are needed."""
    deployment.key("chat")
    return _started(deployment)


@pytest.fixture
def replica(deployment: Deployment, running: Replica) -> Replica:
    """On this machine alone; nobody was here before."""
    client = deployment.store.client()
    for name in (*client.keys(keys.quota("*")), keys.FEEDBACK):
        client.delete(name)
    return running


def _started(deployment: Deployment, **settings: object) -> Replica:
    replica = deployment.replica(**settings)
    eventually(lambda: replica.api.keys.known)
    return replica


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def record(deployment: Deployment, completion: str) -> CompletionRecord:
    held = deployment.store.client().hget(keys.completion(completion), "record")
    return CompletionRecord.model_validate_json(held or "")


def test_a_visitor_chats_and_votes(deployment: Deployment, replica: Replica) -> None:
    """Without a key, where keys are needed: as one rater, in both."""
    assert refused(chat(replica.url, "")) == (401, "invalid_api_key")
    visitor = Visitor(replica.url)
    assert visitor.answer.json() == {
        "rater": visitor.rater,
        "csrf": visitor.csrf,
        "expires_at": visitor.answer.json()["expires_at"],
        "train": None,
        "limits": LIMITS.model_dump(),
    }
    answer = visitor.chat()
    assert answer.status_code == 200, answer.text
    assert record(deployment, answer.json()["id"]).rater == visitor.rater
    vote = visitor.vote(answer.json()["id"])
    assert (vote.status_code, vote.json()["status"]) == (201, "active")
    [logged] = deployment.store.client().xrange(keys.FEEDBACK)
    assert f'"rater":"{visitor.rater}"' in logged[1]["event"].replace(": ", ":")


def test_a_session_lasts(replica: Replica) -> None:
    """Asked again with its cookie, it is the same rater's; another browser is somebody else."""
    visitor = Visitor(replica.url)
    again = visitor.begin().json()
    assert (again["rater"], again["csrf"]) == (visitor.rater, visitor.csrf)
    assert Visitor(replica.url).rater != visitor.rater
    cookie = visitor.answer.headers["set-cookie"]
    assert cookie.startswith("plumbline_session=s1.") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert visitor.answer.headers["cache-control"] == "no-store"


def test_what_needs_more_than_a_session(replica: Replica) -> None:
    """Lists of votes, stored completions, receipts: 403. The token: on every change."""
    visitor = Visitor(replica.url)
    for path in ("/v1/feedback", "/v1/chat/completions"):
        assert refused(visitor.send("GET", path)) == (403, "insufficient_scope")
    token = {"target": {"type": "completion", "id": "x"}, "rater": {"id": visitor.rater}, "kinds": ["thumb"]}
    assert refused(visitor.send("POST", "/v1/feedback/tokens", json=token)) == (403, "insufficient_scope")
    visitor.csrf = ""
    assert refused(visitor.chat()) == (403, "csrf_failed")
    assert refused(visitor.send("DELETE", "/page/conversations")) == (403, "csrf_failed")


def test_a_key_outweighs_a_cookie(deployment: Deployment, replica: Replica) -> None:
    """A request with `Authorization` is the key's, good or bad, and needs no token."""
    visitor, (token, key) = Visitor(replica.url), deployment.key("chat")
    replica.knows(key)
    body = {"model": "assistant", "messages": [{"role": "user", "content": "Hi"}], "user": "ann", "max_tokens": 3}
    path = "/v1/chat/completions"
    good = visitor.client.post(path, json=body, headers=bearer(token))
    assert record(deployment, good.json()["id"]).rater == "ann"
    assert refused(visitor.client.post(path, json=body, headers=bearer("wrong"))) == (401, "invalid_api_key")
    assert refused(visitor.client.get("/page/conversations", headers=bearer(token))) == (401, "session_required")


def test_nobody_else_can_be_named(replica: Replica) -> None:
    """In chats, comparisons, votes, batches, consent and tasks: 403, and naming oneself is fine."""
    visitor = Visitor(replica.url)
    completion = visitor.chat(user=visitor.rater).json()["id"]
    ann: dict[str, Any] = {"rater": {"id": "ann"}}
    asked = {"messages": [{"role": "user", "content": "Hi"}], "user": "ann"}
    answers = [
        visitor.chat(user="ann"),
        visitor.chat(safety_identifier="ann"),
        visitor.send("POST", "/v1/comparisons", json=asked),
        visitor.vote(completion, **ann),
        visitor.send("POST", "/v1/raters/ann/consent", json={"train": True}),
        visitor.send("GET", "/v1/raters/ann/consent"),
        visitor.send("GET", "/v1/tasks/next?rater=ann"),
        visitor.send("POST", "/v1/tasks/task_1/answer", json=ann | {"value": "a"}),
    ]
    assert [refused(each) for each in answers] == [(403, "not_your_rater")] * len(answers)
    vote = {"target": {"type": "completion", "id": completion}, "kind": "thumb", "value": 1}
    batch = visitor.send("POST", "/v1/feedback/batch", json={"items": [vote | ann, vote]}).json()["results"]
    assert [it["status"] for it in batch] == [403, 201]
    assert visitor.vote(completion, kind="rating", value=5, rater={"id": visitor.rater}).status_code == 201
    assert refused(visitor.vote(completion, rater={"id": visitor.rater, "kind": "ai"}))[0] == 400


def test_consent_is_the_sessions_own(replica: Replica) -> None:
    """Said once, it comes with the session."""
    visitor = Visitor(replica.url)
    path = f"/v1/raters/{visitor.rater}/consent"
    assert visitor.send("POST", path, json={"train": False}).status_code == 201
    assert visitor.begin().json()["train"] is False


def test_others_answers_and_votes_do_not_exist(deployment: Deployment, replica: Replica) -> None:
    """A visitor votes on what they asked for, and reads, changes, labels and deletes what is theirs; who knows the id
    of more is told that it is not there."""
    one, other = Visitor(replica.url), Visitor(replica.url)
    theirs = one.chat().json()["id"]
    asked = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    pair = one.send("POST", "/v1/comparisons", json=asked).json()["id"]
    preference = {"target": {"type": "comparison", "id": pair}, "kind": "preference", "value": "a"}
    vote = one.vote(theirs).json()["id"]
    attempts: list[tuple[str, str, dict[str, Any] | None]] = [
        ("POST", "/v1/feedback", {"target": {"type": "completion", "id": theirs}, "kind": "thumb", "value": -1}),
        ("POST", "/v1/feedback", preference),
        ("GET", f"/v1/feedback/{vote}", None),
        ("PATCH", f"/v1/feedback/{vote}", {"value": -1}),
        ("DELETE", f"/v1/feedback/{vote}", None),
        ("POST", f"/v1/chat/completions/{theirs}", {"metadata": {"a": "b"}}),
        ("DELETE", f"/v1/chat/completions/{theirs}", None),
    ]
    for method, path, body in attempts:
        assert other.send(method, path, json=body).status_code == 404, (method, path)
    stale = {"x-csrf-token": other.csrf, "if-match": '"7"'}
    assert other.client.delete(f"/v1/feedback/{vote}", headers=stale).status_code == 404, "nor its revision"
    for method, path, body in attempts[1:]:
        assert one.send(method, path, json=body).status_code in (200, 201), (method, path)


def test_a_visitors_names_are_their_own(replica: Replica) -> None:
    """One idempotency key in two sessions is two; ids of votes, which an application may want, cannot be chosen."""
    one, other = Visitor(replica.url), Visitor(replica.url)
    for it in (one, other):
        body = {"target": {"type": "completion", "id": it.chat().json()["id"]}, "kind": "thumb", "value": 1}
        headers = {"x-csrf-token": it.csrf, "idempotency-key": "1"}
        answers = [it.client.post("/v1/feedback", json=body, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
    assert refused(one.vote("chatcmpl-1", id="fb_order-17"))[0] == 400


def test_every_visitor_has_limits_of_their_own(deployment: Deployment, replica: Replica) -> None:
    """Who has used theirs up is told when to come again, and the next visitor has all of theirs."""
    one, other, client = Visitor(replica.url), Visitor(replica.url), deployment.store.client()
    completion = one.chat()
    assert completion.headers["x-ratelimit-limit-requests"] == str(LIMITS.requests_per_minute)
    leave(client, one.rater, "requests", 1)
    answers = [one.chat(), one.chat()]
    assert answers[0].status_code == 200 and refused(answers[1]) == (429, "rate_limit_exceeded")
    assert int(answers[1].headers["retry-after"]) >= 1 and "session" in answers[1].json()["error"]["message"]
    assert other.chat().status_code == 200
    leave(client, one.rater, f"votes:{one.rater}", 1)
    votes = [one.vote(completion.json()["id"]), one.vote(completion.json()["id"], kind="rating", value=5)]
    assert votes[0].status_code == 201 and refused(votes[1]) == (429, "rate_limit_exceeded")


def test_visitors_usage_is_one(deployment: Deployment, replica: Replica) -> None:
    """Of all of them together, as operators see it."""
    token, key = deployment.key("read")
    replica.knows(key)
    path = f"{replica.admin_url}/v1/keys/page/usage"

    def requests() -> int:
        answer = httpx.get(path, headers=bearer(token))
        assert (answer.status_code, answer.json()["id"]) == (200, "page")
        return sum(day["requests"] for day in answer.json()["days"])

    before = requests()
    for visitor in (Visitor(replica.url), Visitor(replica.url)):
        assert visitor.chat().status_code == 200
    eventually(lambda: requests() == before + 2)


def test_new_sessions_are_rationed_by_address(deployment: Deployment, replica: Replica) -> None:
    """Of which trusted proxies tell; whoever has a session keeps it."""
    before, client = Visitor(replica.url), deployment.store.client()
    [address] = client.keys(keys.quota("address:*"))
    assert "127.0.0.1" not in address, "of whom a keyed hash is enough"
    level, limit = float(client.hget(address, "sessions") or 0), SESSIONS_PER_MINUTE
    assert limit - 2 < level <= limit - 1
    leave(client, str(address).removeprefix(keys.quota("")), "sessions", 1)
    assert Visitor(replica.url).answer.status_code == 200
    assert refused(Visitor(replica.url).answer) == (429, "rate_limit_exceeded")
    assert before.begin().json()["rater"] == before.rater


def test_a_session_needs_no_redis(tmp_path: Path) -> None:
    """Visitors come and chat; what they said of training nobody knows then."""
    with Deployment(tmp_path) as own:
        replica = own.replica()
        before = Visitor(replica.url)
        own.store.stop()
        assert before.chat().status_code == 200
        fresh = Visitor(replica.url)
        assert (fresh.answer.status_code, fresh.answer.json()["train"]) == (200, None)
        assert fresh.chat().headers["x-feedback-status"] == "unavailable"
        assert refused(fresh.send("GET", "/page/conversations")) == (503, "storage_unavailable")


def test_who_is_let_in(deployment: Deployment, replica: Replica) -> None:
    """`auto`: this machine's browsers, and of a listener that others reach nobody; `open`: everybody; `off`: there is
    neither page nor session."""
    local, public = replica, _started(deployment, host="0.0.0.0")
    everybody, nobody = _started(deployment, host="0.0.0.0", page="open"), _started(deployment, page="off")
    assert Visitor(local.url).answer.status_code == 200
    assert refused(Visitor(local.url, **{"x-forwarded-for": "203.0.113.7"}).answer) == (403, "visitors_not_admitted")
    assert refused(Visitor(local.url, host="chat.example").answer) == (403, "visitors_not_admitted")
    assert refused(Visitor(public.url).answer) == (403, "visitors_not_admitted")
    visitor = Visitor(everybody.url, host="chat.example")
    assert visitor.chat().status_code == 200
    assert Visitor(nobody.url).answer.status_code == httpx.get(f"{nobody.url}/").status_code == 404
    cookie = {"cookie": f"plumbline_session={visitor.client.cookies['plumbline_session']}"}
    assert refused(httpx.post(f"{nobody.url}/v1/chat/completions", json={}, headers=cookie)) == (401, "invalid_api_key")


def test_tasks_are_not_for_strangers(deployment: Deployment, replica: Replica) -> None:
    """They show what others asked: on this machine a visitor does them as themselves, from anywhere else nobody does
    without a key."""
    everybody, visitor = _started(deployment, page="open"), Visitor(replica.url)
    assert visitor.send("GET", f"/v1/tasks/next?rater={visitor.rater}").status_code == 204
    stranger = Visitor(everybody.url)
    assert refused(stranger.send("GET", f"/v1/tasks/next?rater={stranger.rater}")) == (403, "not_invited")


def test_another_site_begins_no_session(replica: Replica) -> None:
    """Nor exchanges a visitor's own for a new one: by what the browser says, and because a form cannot send JSON."""
    for site in ("cross-site", "same-site"):
        assert refused(Visitor(replica.url, **{"sec-fetch-site": site}).answer) == (403, "csrf_failed")
    form = httpx.post(f"{replica.url}/page/session", content="{}", headers={"content-type": "text/plain"})
    assert (form.status_code, "set-cookie" in form.headers) == (400, False)


def test_https_is_what_a_trusted_proxy_says(deployment: Deployment, replica: Replica) -> None:
    """Then the cookie is the secure one. Of an untrusted proxy neither that nor the address is believed."""
    trusting = _started(deployment, page="open")
    wary = _started(deployment, page="open", trusted_proxies="203.0.113.1")
    said = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7"}
    assert Visitor(trusting.url, **said).answer.headers["set-cookie"].startswith("__Host-plumbline_session=")
    assert Visitor(wary.url, **said).answer.headers["set-cookie"].startswith("plumbline_session=")

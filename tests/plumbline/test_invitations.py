"""Invited raters on a whole API whose page is open to everybody: from the link to a task, and to the end of it."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from core import audit, keys, sessions
from core.records import Comparison
from core.sessions import Session
from feedback import erasure, invitations, store
from tests.plumbline.replicas import Deployment, Replica, bearer
from tests.plumbline.visiting import Visitor, invitation
from tests.waiting import eventually


@pytest.fixture(scope="module")
def running(deployment: Deployment) -> Replica:
    deployment.key("chat")
    replica = deployment.replica(page="open")
    eventually(lambda: replica.api.keys.known)
    return replica


@pytest.fixture
def replica(deployment: Deployment, running: Replica) -> Replica:
    """Nobody was here before."""
    client = deployment.store.client()
    for name in (*client.keys(keys.quota("*")), keys.FEEDBACK, keys.INVITATIONS):
        client.delete(name)
    return running


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def next_task(visitor: Visitor) -> httpx.Response:
    return visitor.send("GET", f"/v1/tasks/next?rater={visitor.rater}")


def test_from_the_link_to_an_answer(deployment: Deployment, replica: Replica) -> None:
    """A task, which shows what somebody else asked, is answered as the rater whom the operator named."""
    author = Visitor(replica.url)
    asked = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2, "train": True}
    compared = author.send("POST", "/v1/comparisons", json=asked).json()["id"]
    token, key = deployment.key("admin")
    replica.knows(key)
    item = {"kind": "compare", "target": {"type": "comparison", "id": compared}}
    added = httpx.post(f"{replica.admin_url}/v1/tasks", json={"items": [item]}, headers=bearer(token)).json()
    assert [it["status"] for it in added["results"]] == [201]

    ann = Visitor(replica.url, invitation=invitation(deployment, "ann"))
    assert (ann.rater, ann.answer.json()["rater"]) == ("ann", "ann")
    task = next_task(ann).json()
    answer = {"rater": {"id": "ann"}, "value": "a"}
    assert ann.send("POST", f"/v1/tasks/{task['id']}/answer", json=answer).status_code == 201
    [vote] = store.log(deployment.store.client())[0]
    assert (vote.feedback.rater, vote.feedback.rater_kind, vote.feedback.value) == ("ann", "human", "a")


def test_a_session_lasts_as_long_as_its_invitation(deployment: Deployment, replica: Replica) -> None:
    """Asked again it is the same, not a day longer; the browser is told to forget it then."""
    ann = Visitor(replica.url, invitation=invitation(deployment, "ann", days=2))
    again = ann.begin()
    assert again.json()["expires_at"] == ann.answer.json()["expires_at"]
    assert again.json()["expires_at"] <= int(ann.answer.json()["expires_at"])
    age = int(again.headers["set-cookie"].partition("Max-Age=")[2].partition(";")[0])
    assert 2 * 86400 - 60 < age <= 2 * 86400


def test_who_follows_a_link_is_asked_first(deployment: Deployment, replica: Replica) -> None:
    """Whoever posts one could have others write under a name that they share. Nothing changes before the yes, and who
    is this rater already is not asked."""
    one, link = Visitor(replica.url), invitation(deployment, "ann")
    question = one.follow(link, accept=False)
    assert refused(question) == (409, "confirmation_required")
    assert "as ann, until " in question.json()["error"]["message"] and "set-cookie" not in question.headers
    assert one.begin().json()["rater"] == one.answer.json()["rater"]
    assert one.follow(link).json()["rater"] == "ann"
    assert one.follow(link, accept=False).status_code == 200
    fresh = httpx.post(f"{replica.url}/page/session", json={"invitation": link})
    assert refused(fresh) == (409, "confirmation_required"), "also who had no session"


def test_a_link_that_is_not_good(deployment: Deployment, replica: Replica) -> None:
    """Forged in any part, of another purpose, over, replaced, or after a dismissal: 403, and no session."""
    client = deployment.store.client()
    good, key = invitation(deployment, "ann"), invitations.signing_key(deployment.secret)
    held = sessions.read(key, good, now=0)
    assert held is not None
    forged = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        sessions.token(invitations.signing_key(b"another secret"), held),
        sessions.token(sessions.signing_key(deployment.secret), held),
        sessions.token(key, Session(rater="ann", expires=held.expires)),
        sessions.token(key, Session(rater="ann", expires=1, invitation=held.invitation)),
        sessions.token(key, Session(rater="ben", expires=held.expires, invitation=held.invitation)),
        "",
        "é",
    ]
    for token in forged:
        answer = Visitor(replica.url, invitation=token).answer
        assert refused(answer) == (403, "invitation_refused") and "set-cookie" not in answer.headers, token
    later = invitation(deployment, "ann")
    assert refused(Visitor(replica.url, invitation=good).answer) == (403, "invitation_refused")
    assert Visitor(replica.url, invitation=later).rater == "ann"
    invitations.dismiss(client, "ann", actor="test", reason="over")
    assert refused(Visitor(replica.url, invitation=later).answer) == (403, "invitation_refused")


def test_a_link_is_no_session_and_a_session_no_link(deployment: Deployment, replica: Replica) -> None:
    """Each is signed for one purpose: who sees a cookie's name has no use for the link there."""
    link = invitation(deployment, "ann")
    cookie = {"cookie": f"plumbline_session={link}"}
    assert refused(httpx.get(f"{replica.url}/v1/tasks/next?rater=ann", headers=cookie)) == (401, "session_expired")
    ann = Visitor(replica.url, invitation=link)
    session = ann.client.cookies["plumbline_session"]
    assert refused(Visitor(replica.url, invitation=session).answer) == (403, "invitation_refused")


def test_after_the_dismissal(deployment: Deployment, replica: Replica) -> None:
    """Neither tasks nor anything else of the rater's at the next request; the next session is a stranger's. Whoever is
    invited again has to follow the new link."""
    ann = Visitor(replica.url, invitation=invitation(deployment, "ann"))
    assert next_task(ann).status_code == 204
    invitations.dismiss(deployment.store.client(), "ann", actor="test", reason="over")
    for answer in (next_task(ann), ann.chat(), ann.send("GET", "/page/votes")):
        assert refused(answer) == (403, "invitation_ended")
    invitation(deployment, "ann")
    assert refused(next_task(ann)) == (403, "invitation_ended")
    assert ann.begin().json()["rater"].startswith("web-")
    assert refused(next_task(ann)) == (403, "not_invited")


def test_an_erasure_ends_it(deployment: Deployment, replica: Replica) -> None:
    """And the name is in no key of Redis any more."""
    client, artifacts = deployment.store.client(), deployment.settings.artifacts
    name = "mandrake@example.org"
    rater = Visitor(replica.url, invitation=invitation(deployment, name))
    token, key = deployment.key("admin")
    replica.knows(key)
    assert httpx.delete(f"{replica.admin_url}/v1/users/{name}", headers=bearer(token)).status_code == 202
    [job] = erasure.pending(client)
    assert erasure.run(client, artifacts, job, forget_runs=lambda snapshots: []) is not None
    assert refused(next_task(rater)) == (403, "invitation_ended")
    assert client.hgetall(keys.INVITATIONS) == {} and name not in str(client.xrange(keys.AUDIT))


def test_it_is_no_key_to_a_closed_page(deployment: Deployment, replica: Replica) -> None:
    """Whom `auto` does not admit is not admitted with a link either."""
    closed = deployment.replica(host="0.0.0.0")
    answer = Visitor(closed.url, invitation=invitation(deployment, "ann")).answer
    assert refused(answer) == (403, "visitors_not_admitted")


def test_without_redis(tmp_path: Path) -> None:
    """Nobody can say whether a link is good; who came by one chats on, a stranger for the while."""
    with Deployment(tmp_path) as own:
        replica, link = own.replica(page="open"), invitation(own, "ann")
        ann = Visitor(replica.url, invitation=link)
        own.store.stop()
        assert refused(Visitor(replica.url, invitation=link).answer) == (503, "storage_unavailable")
        assert ann.chat().status_code == 200
        assert ann.begin().json()["rater"] == "ann"
        assert refused(next_task(ann)) == (403, "not_invited")


def test_operators_invite_over_http(deployment: Deployment, replica: Replica) -> None:
    """The link is in this answer alone; the list says until when; ending one needs a reason. The audit has all of it,
    and other scopes nothing."""
    token, key = deployment.key("admin")
    reader, read_key = deployment.key("read")
    for it in (key, read_key):
        replica.knows(it)
    client = httpx.Client(base_url=replica.admin_url, headers=bearer(token))
    made = client.post("/v1/invitations", json={"rater": "ann", "days": 7})
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    path, _, link = made.json()["link"].partition("=")
    assert path == "/tasks#invitation" and Visitor(replica.url, invitation=link).rater == "ann"
    listed = client.get("/v1/invitations", headers=bearer(reader)).json()["data"]
    said: dict[str, Any] = {name: value for name, value in made.json().items() if name != "link"}
    assert listed == [said] and said["actor"] == f"api:{key}"
    assert client.get("/v1/raters/ann").json()["invited_until"] == said["expires_at"]
    assert client.post("/v1/invitations", json={"rater": "ben"}, headers=bearer(reader)).status_code == 403
    for bad in ({"rater": "web-1"}, {"rater": "ben", "days": 0}, {"rater": "ben", "days": 366}, {}):
        assert client.post("/v1/invitations", json=bad).status_code == 400
    assert client.delete("/v1/invitations/ann").status_code == 400
    assert client.delete("/v1/invitations/ann?reason=done").json()["object"] == "invitation.ended"
    assert refused(client.delete("/v1/invitations/ann?reason=done")) == (404, "invitation_not_found")
    told = [(it.action, it.actor, it.reason) for it in audit.history(deployment.store.client())[-2:]]
    assert told == [("rater.invite", f"api:{key}", "for 7 days"), ("rater.dismiss", f"api:{key}", "done")]


def test_an_invited_raters_comparison_is_theirs(deployment: Deployment, replica: Replica) -> None:
    """As an application's rater of that id: a later invitation finds what they left."""
    asked = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}
    ann = Visitor(replica.url, invitation=invitation(deployment, "ann"))
    compared = ann.send("POST", "/v1/comparisons", json=asked).json()["id"]
    held = deployment.store.client().hget(keys.comparison(compared), "record")
    assert Comparison.model_validate_json(held or "").rater == "ann"

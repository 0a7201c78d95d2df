"""Two tenants and the deployment on one API: what is one's does not exist for the other."""

import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from core import api_keys, keys
from core.access import Limits
from core.records import CompletionRecord
from plumbline import openapi
from tests.plumbline.replicas import Deployment, Replica, bearer, chat
from tests.waiting import eventually

METHODS = ("get", "post", "patch", "delete", "put")
RECEIPT_KIND = {"kinds": ["thumb"], "rater": {"id": "ann"}}


@dataclass(frozen=True, kw_only=True)
class Tenants:
    """A replica, a token of each tenant with every scope, and what tenant `a` has."""

    deployment: Deployment
    replica: Replica
    tokens: dict[str, str]
    objects: dict[str, str]

    def send(self, who: str, method: str, path: str, *, admin: bool = False, **options: Any) -> httpx.Response:
        url = self.replica.admin_url if admin else self.replica.url
        headers = bearer(self.tokens[who]) | options.pop("headers", {})
        return httpx.request(method, f"{url}{path}", headers=headers, timeout=60, **options)


@pytest.fixture(scope="module")
def tenants(deployment: Deployment) -> Tenants:
    made = {
        name: deployment.key("chat", "feedback", "read", "train", "admin", tenant=tenant)
        for name, tenant in {"a": "acme", "b": "beta", "ops": ""}.items()
    }
    replica = deployment.replica()
    eventually(lambda: len(replica.api.keys.known or {}) == 3)
    it = Tenants(
        deployment=deployment, replica=replica, tokens={name: key[0] for name, key in made.items()}, objects={}
    )
    it.objects.update(_objects(it))
    return it


def _objects(it: Tenants) -> dict[str, str]:
    """A chat, a comparison, a vote, an erasure: all of tenant `a`."""
    completion = chat(it.replica.url, it.tokens["a"], user="ann").json()["id"]
    asked = {"messages": [{"role": "user", "content": "A cat is"}], "user": "ann", "max_tokens": 3}
    comparison = it.send("a", "POST", "/v1/comparisons", json=asked).json()["id"]
    vote = it.send("a", "POST", "/v1/feedback", json=_thumb(completion) | {"id": "fb_mine"})
    assert vote.status_code == 201, vote.text
    erasure = it.send("a", "DELETE", "/v1/users/somebody", admin=True).json()["job"]
    return {"completion": completion, "comparison": comparison, "feedback": vote.json()["id"], "erasure": erasure}


def _thumb(completion: str) -> dict[str, Any]:
    return {"target": {"type": "completion", "id": completion}, "kind": "thumb", "value": 1}


def test_everybody_sees_what_is_theirs(tenants: Tenants) -> None:
    """By the names that they gave it."""
    assert tenants.objects["feedback"] == "fb_mine"
    vote = tenants.send("a", "GET", "/v1/feedback/fb_mine").json()
    assert (vote["id"], vote["target"]["id"]) == ("fb_mine", tenants.objects["completion"])
    assert [it["id"] for it in tenants.send("a", "GET", "/v1/feedback?rater=ann").json()["data"]] == ["fb_mine"]
    assert tenants.send("a", "GET", f"/v1/erasures/{tenants.objects['erasure']}", admin=True).status_code == 200


def test_records_say_whose_they_are(tenants: Tenants) -> None:
    """And credit the tenant's own ann."""
    found = tenants.deployment.store.client().hget(keys.completion(tenants.objects["completion"]), "record")
    record = CompletionRecord.model_validate_json(found or "")
    assert (record.tenant, record.rater) == ("acme", "@acme/ann")


def paths(listener: openapi.Listener) -> list[tuple[str, str]]:
    found = openapi.document(listener)["paths"]
    return [(method, path) for path, methods in found.items() for method in methods if method in METHODS]


BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("patch", "/v1/feedback/{feedback_id}"): {"comment": "mine now"},
}


def filled(path: str, objects: dict[str, str]) -> str:
    """The path about tenant `a`'s object, whatever kind of object the parameter is."""
    kinds = {"feedback_id": "feedback", "completion_id": "completion", "comparison_id": "comparison", "job": "erasure"}
    return re.sub(r"{(\w+)}", lambda it: objects[kinds[it[1]]], path)


def about_objects(listener: openapi.Listener) -> list[tuple[str, str]]:
    """Every route that takes the id of something that a tenant has."""
    ids = ("{feedback_id}", "{completion_id}", "{comparison_id}", "{job}")
    return [(method, path) for method, path in paths(listener) if any(it in path for it in ids)]


@pytest.mark.parametrize("listener", ["public", "admin"])
def test_anothers_objects_do_not_exist(tenants: Tenants, listener: openapi.Listener) -> None:
    """404 to tenant `b` on every route about them, in the very words for what nobody has."""
    routes = about_objects(listener)
    assert routes
    nobodys = {name: re.sub(r"[0-9a-f]{8}$", "00000000", it) for name, it in tenants.objects.items()}
    nobodys["feedback"] = "fb_nobodys"
    for method, path in routes:
        options: dict[str, Any] = {"admin": listener == "admin"}
        if (method, path) in BODIES or method in ("post", "put"):
            options["json"] = BODIES.get((method, path), {"metadata": {}})
        theirs = tenants.send("b", method, filled(path, tenants.objects), **options)
        absent = tenants.send("b", method, filled(path, nobodys), **options)
        assert (theirs.status_code, theirs.text) == (404, absent.text), (method, path)


def test_what_is_the_deployments_does_not_exist_for_tenants(tenants: Tenants) -> None:
    """All other routes of the admin listener: 404 with a tenant's key, whatever its scopes."""
    per_tenant = ("/v1/users/", "/v1/erasures/", "/v1/raters/{")
    for method, path in paths("admin"):
        if not path.startswith(per_tenant):
            given = re.sub(r"{\w+}", "1", path)
            assert tenants.send("b", method, given, admin=True, json={}).status_code == 404, (method, path)


def test_votes_reach_ones_own_answers_only(tenants: Tenants) -> None:
    """Nor do receipts, batches, or tasks of the deployment."""
    completion, comparison = tenants.objects["completion"], tenants.objects["comparison"]
    unknown = tenants.send("b", "POST", "/v1/feedback", json=_thumb("chatcmpl-unknown"))
    theirs = tenants.send("b", "POST", "/v1/feedback", json=_thumb(completion))
    assert (theirs.status_code, theirs.text) == (404, unknown.text)
    preference = {"target": {"type": "comparison", "id": comparison}, "kind": "preference", "value": "a"}
    for who in ("b", "ops"):
        assert tenants.send(who, "POST", "/v1/feedback", json=preference).status_code == 404
        token = RECEIPT_KIND | {"target": {"type": "completion", "id": completion}}
        assert tenants.send(who, "POST", "/v1/feedback/tokens", json=token).status_code == 404
        batch = tenants.send(who, "POST", "/v1/feedback/batch", json={"items": [_thumb(completion)]})
        assert [it["status"] for it in batch.json()["results"]] == [404]
    task = {"kind": "rate", "target": {"type": "completion", "id": completion}}
    added = tenants.send("ops", "POST", "/v1/tasks", json={"items": [task]}, admin=True)
    assert [it["status"] for it in added.json()["results"]] == [404]
    assert tenants.send("a", "GET", "/v1/tasks/next?rater=ann").status_code == 404


def test_lists_hold_ones_own_only(tenants: Tenants) -> None:
    """Also when they are asked about another's rater or answer."""
    for query in ("", "?rater=ann", f"?target={tenants.objects['completion']}"):
        assert tenants.send("b", "GET", f"/v1/feedback{query}").json()["data"] == []
        assert tenants.send("ops", "GET", f"/v1/feedback{query}").json()["data"] == []
    assert tenants.send("b", "GET", "/v1/feedback?after=fb_mine").status_code == 400


def test_the_same_name_is_two_peoples(tenants: Tenants) -> None:
    """Both tenants may use an id, an idempotency key and a rater's name; a consent of one says nothing of the other."""
    completion = chat(tenants.replica.url, tenants.tokens["b"], user="ann").json()["id"]
    own = tenants.send("b", "POST", "/v1/feedback", json=_thumb(completion) | {"id": "fb_mine"})
    assert (own.status_code, own.json()["id"]) == (201, "fb_mine")
    assert tenants.send("b", "GET", "/v1/feedback/fb_mine").json()["target"]["id"] == completion
    said = tenants.send("a", "POST", "/v1/raters/ann/consent", json={"train": False})
    assert said.status_code == 201
    heard = [tenants.send(who, "GET", "/v1/raters/ann/consent").json()["train"] for who in ("a", "b", "ops")]
    assert heard == [False, None, None]


def test_nobody_takes_a_name_of_another_tenant(tenants: Tenants) -> None:
    """`@acme/ann` of the deployment would be acme's ann."""
    answer = chat(tenants.replica.url, tenants.tokens["ops"], user="@acme/ann")
    assert answer.status_code == 400
    path = "/v1/raters/@acme/ann/consent"
    assert tenants.send("ops", "GET", path).status_code == 400
    assert tenants.send("b", "GET", path).json()["train"] is None


def test_each_tenant_has_a_cache_of_its_own(tenants: Tenants) -> None:
    """The engine is given one salt for each tenant, never the client's; the deployment's own chats have none."""
    seen = tenants.replica.engine.seen
    for who in ("a", "b", "a", "ops"):
        chat(tenants.replica.url, tenants.tokens[who], user="eve")
    salts = [body.get("cache_salt") for body in seen[-4:]]
    assert salts[0] == salts[2] != salts[1]
    assert salts[3] is None and None not in salts[:3]
    assert chat(tenants.replica.url, tenants.tokens["b"], cache_salt=salts[0]).status_code == 400


def test_a_receipt_is_good_as_long_as_the_key_that_asked_for_it(tenants: Tenants) -> None:
    """It votes in its key's tenant, for its rater, and for nothing else; with the key revoked it is nothing."""
    token, key = tenants.deployment.key("chat", "feedback", tenant="acme", limits=Limits(votes_per_minute=2))
    tenants.replica.knows(key)
    completion = chat(tenants.replica.url, token, user="ann").json()["id"]
    asked = RECEIPT_KIND | {"target": {"type": "completion", "id": completion}}
    url = tenants.replica.url
    receipt = httpx.post(f"{url}/v1/feedback/tokens", json=asked, headers=bearer(token)).json()["token"]

    def vote() -> httpx.Response:
        return httpx.post(f"{url}/v1/feedback", json=_thumb(completion), headers=bearer(receipt))

    assert vote().status_code == 201
    assert httpx.get(f"{url}/v1/feedback", headers=bearer(receipt)).status_code == 401
    assert vote().status_code == 200
    limited = vote()
    assert (limited.status_code, limited.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(limited.headers["retry-after"]) <= 30
    api_keys.revoke(tenants.deployment.store.client(), key, actor="test", reason="test")
    eventually(lambda: vote().status_code == 401)

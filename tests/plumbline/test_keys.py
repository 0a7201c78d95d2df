"""API keys over two whole APIs on one Redis: who comes in, who is refused, and how soon everywhere."""

import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from core import api_keys, audit, key_table
from core.access import Limits
from core.errors import UsageError
from core.records import now
from plumbline import key_checks
from tests.plumbline.replicas import Deployment, bearer, chat
from tests.waiting import eventually


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Of one test alone: each begins without keys."""
    with Deployment(tmp_path) as it:
        yield it


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_the_table_is_looked_at_often_enough() -> None:
    """A change is seen everywhere within five seconds, even if the look before it took as long as a look may."""
    assert key_table.LOOK_TIMEOUT_S + key_table.LOOK_EVERY_S + key_table.LOOK_TIMEOUT_S <= 5.0


def test_a_revoked_key_is_refused_by_every_replica(deployment: Deployment) -> None:
    """And one that was made is taken by every replica; the audit tells of both."""
    one, other = deployment.replica(), deployment.replica()
    assert chat(one.url, "").status_code == 200, "without keys everybody is the deployment"
    token, key = deployment.key("chat")
    for it in (one, other):
        eventually(lambda it=it: chat(it.url, "").status_code == 401)
    assert [chat(it.url, token).status_code for it in (one, other)] == [200, 200]
    assert api_keys.revoke(deployment.store.client(), key, actor="test", reason="leaked") is True
    assert api_keys.revoke(deployment.store.client(), key, actor="test", reason="again") is False
    for it in (one, other):
        eventually(lambda it=it: chat(it.url, token).status_code == 401)
    assert refused(chat(one.url, token)) == (401, "invalid_api_key")
    assert chat(one.url, "").status_code == 401, "who ever had keys does not fall open"
    told = [(it.action, it.subject) for it in audit.history(deployment.store.client())[-2:]]
    assert told == [("key.create", key), ("key.revoke", key)]
    assert audit.check(deployment.store.client()).fault == ""


def test_refusals_are_openais(deployment: Deployment) -> None:
    """The SDK raises its own errors, and does not try again."""
    replica = deployment.replica()
    token, key = deployment.key("read")
    replica.knows(key)
    client = openai.OpenAI(base_url=f"{replica.url}/v1", api_key=token, max_retries=2)
    with pytest.raises(openai.PermissionDeniedError) as denied:
        client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "A dog is"}])
    assert denied.value.code == "insufficient_scope"
    assert denied.value.response.headers["www-authenticate"].endswith('scope="chat"')
    assert [it.id for it in client.models.list()][:1] == ["assistant"]
    wrong = client.with_options(api_key=token[:-1] + ("0" if token[-1] != "0" else "1"))
    with pytest.raises(openai.AuthenticationError) as unknown:
        wrong.models.list()
    assert (unknown.value.code, unknown.value.response.headers["x-should-retry"]) == ("invalid_api_key", "false")


def test_probes_and_pages_need_no_key(deployment: Deployment) -> None:
    """Whoever restarts us has none; metrics need `read`."""
    replica = deployment.replica()
    token, key = deployment.key("read")
    tenants, tenants_key = deployment.key("read", "admin", tenant="acme")
    replica.knows(tenants_key)
    assert [httpx.get(f"{replica.url}{path}").status_code for path in ("/health", "/ready", "/")] == [200] * 3
    metrics = f"{replica.admin_url}/metrics"
    assert [httpx.get(metrics, headers=it).status_code for it in ({}, bearer(token), bearer(tenants))] == [
        401,
        200,
        404,
    ]
    assert key in (replica.api.keys.known or {})


def test_chat_knows_its_keys_without_redis(deployment: Deployment) -> None:
    """Good and revoked ones, also after a restart, within the limits of one replica."""
    good, first = deployment.key("chat", limits=Limits(requests_per_minute=2))
    bad, second = deployment.key("chat")
    api_keys.revoke(deployment.store.client(), second, actor="test", reason="test")
    replica = deployment.replica()
    deployment.store.stop()
    statuses = [chat(replica.url, token).status_code for token in (good, bad, good, good)]
    assert statuses == [200, 401, 200, 429]
    eventually(lambda: any("API keys" in note for note in httpx.get(f"{replica.url}/ready").json()["notes"]))
    restarted = deployment.replica()
    assert [chat(restarted.url, token).status_code for token in (good, bad, "")] == [200, 401, 401]
    assert first in (restarted.api.keys.known or {})


def test_who_knows_of_no_keys_lets_nobody_in(deployment: Deployment) -> None:
    """A replica that never read the table cannot tell whether there are keys."""
    deployment.replica()
    deployment.store.stop()
    (deployment.settings.directory / "api-keys.json").unlink()
    cold = deployment.replica()
    assert refused(chat(cold.url, "")) == (503, "keys_unavailable")


def test_a_key_ends_when_it_expires(deployment: Deployment) -> None:
    """Without anybody doing anything."""
    replica = deployment.replica()
    token, key = deployment.key("chat", expires=now() + 8)
    replica.knows(key)
    assert chat(replica.url, token).status_code == 200
    eventually(lambda: chat(replica.url, token).status_code == 401)


def test_what_redis_and_the_disk_hold_opens_nothing(deployment: Deployment) -> None:
    """No token, nor its random half, lies in Redis or in a file; the secret is its owner's alone."""
    token, key = deployment.key("chat")
    replica = deployment.replica()
    replica.knows(key)
    chat(replica.url, token)
    secret_half = token.rpartition("_")[2]
    client = deployment.store.client()
    dump = " ".join(str(client.hgetall(name)) if client.type(name) == "hash" else "" for name in client.keys("*"))
    assert secret_half not in dump and api_keys.hashed(deployment.secret, token) in dump
    home = deployment.settings.directory
    files = [it for it in home.rglob("*") if it.is_file()]
    assert all(secret_half.encode() not in it.read_bytes() for it in files)
    for name in ("secret", "api-keys.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_another_secret_is_seen_at_once(deployment: Deployment) -> None:
    """A replica with another one would refuse every key: it does not start, or says so where it runs already."""
    settings = deployment.settings.model_copy(update={"secret": "another secret, as long as it need be"})
    key_checks.refuse_open_doors(settings, deployment.store.client())  # before there are keys it may change
    key_checks.refuse_open_doors(deployment.settings, deployment.store.client())
    deployment.key("chat")
    with pytest.raises(UsageError, match="another secret"):
        key_checks.refuse_open_doors(settings, deployment.store.client())
    foreign = deployment.replica(secret="another secret, as long as it need be")
    assert any("another PLUMBLINE_SECRET" in note for note in httpx.get(f"{foreign.url}/ready").json()["notes"])


@pytest.mark.parametrize("field", ["host", "admin_host"])
def test_a_public_address_needs_a_key(deployment: Deployment, field: str) -> None:
    """The refusal names the setting and the command; a key that was revoked is none."""
    client, public = deployment.store.client(), deployment.settings.model_copy(update={field: "0.0.0.0"})
    with pytest.raises(UsageError, match=rf"PLUMBLINE_{field.upper()} is 0\.0\.0\.0.*plumbline keys create"):
        key_checks.refuse_open_doors(public, client)
    _, key = deployment.key("chat")
    key_checks.refuse_open_doors(public, client)
    api_keys.revoke(client, key, actor="test", reason="test")
    with pytest.raises(UsageError):
        key_checks.refuse_open_doors(public, client)


def test_on_a_public_address_nobody_comes_in_without_a_key(deployment: Deployment) -> None:
    """Even if there is none at all."""
    replica = deployment.replica(host="0.0.0.0")
    assert replica.api.keys.known == {}
    assert refused(chat(replica.url, "")) == (401, "invalid_api_key")
    assert httpx.get(f"{replica.admin_url}/v1/snapshots").status_code == 200, "that listener is this machine's alone"


def test_keys_over_http(deployment: Deployment) -> None:
    """Made, listed, used, revoked: by whoever may, and audited with their name. The token is shown once."""
    replica = deployment.replica()
    made = httpx.post(f"{replica.admin_url}/v1/keys", json={"name": "ops", "scopes": ["admin", "chat"]})
    admin, first = made.json()["token"], made.json()["id"]
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    replica.knows(first)
    path = f"{replica.admin_url}/v1/keys"
    assert httpx.get(path).status_code == 401
    limits = {"requests_per_minute": 5}
    body = {"name": "shop", "tenant": "acme", "scopes": ["chat"], "limits": limits}
    second = httpx.post(path, json=body, headers=bearer(admin)).json()
    replica.knows(second["id"])
    assert refused(httpx.post(path, json=body, headers=bearer(second["token"])))[0] == 404
    listed = httpx.get(path, headers=bearer(admin)).json()["data"]
    assert [(it["id"], it["tenant"], it["actor"]) for it in listed] == [
        (first, "", "api:local"),
        (second["id"], "acme", f"api:{first}"),
    ]
    assert "token" not in listed[0] and listed[1]["limits"]["requests_per_minute"] == 5
    chat(replica.url, second["token"])
    usage = f"{path}/{second['id']}/usage"
    eventually(lambda: httpx.get(usage, headers=bearer(admin)).json()["days"] != [])
    [day] = httpx.get(usage, headers=bearer(admin)).json()["days"]
    assert {name: day[name] for name in day if name != "day"} == {
        "requests": 1,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "votes": 0,
    }
    gone = httpx.delete(f"{path}/{second['id']}", params={"reason": "leaked"}, headers=bearer(admin))
    assert (gone.status_code, gone.json()["revoked_at"] is not None) == (200, True)
    unknown = httpx.delete(f"{path}/key_1", params={"reason": "leaked"}, headers=bearer(admin))
    assert refused(unknown) == (404, "key_not_found")
    last = audit.history(deployment.store.client())[-1]
    assert (last.action, last.subject, last.actor, last.reason) == (
        "key.revoke",
        second["id"],
        f"api:{first}",
        "leaked",
    )

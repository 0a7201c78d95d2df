"""The admin API of policies, releases and the audit trail, over HTTP."""

from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import audit, http, keys, registry
from core.redis import connect
from core.settings import Settings
from plumbline import policy_endpoints
from tests.core.shadows import compared
from tests.plumbline.test_policies import family

__all__ = ["family"]


@pytest.fixture
def api(family: redis.Redis, redis_server: str, tmp_path: Path) -> TestClient:
    """v0 to v3; 3 is live."""
    app = FastAPI()
    http.install(app, max_body_bytes=10_000)
    app.include_router(policy_endpoints.routes(family, Settings(artifacts_url=str(tmp_path), redis_url=redis_server)))
    return TestClient(app)


def open_release(client: redis.Redis, *, run: str = "r") -> None:
    """A copy of version 3 becomes the next version and is on its way; the second waits."""
    live = registry.policy(client, 3)
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    gate = live.gate.model_copy(update={"live_version": 3})
    registry.publish(client, live.model_copy(update={"parent": 3, "run": run}), gate, run=run, attempt=1)


def test_policies_are_read(api: TestClient) -> None:
    """All, one, where it comes from, and how two differ: the records of core and plumbline/policies.py."""
    listed = api.get("/v1/policies").json()["data"]
    assert [(it["version"], it["state"]) for it in listed] == [
        (0, "retired"),
        (1, "previous"),
        (2, "rejected"),
        (3, "live"),
    ]
    assert api.get("/v1/policies/3").json()["gate"]["metrics"] == {"win_rate": 0.7}
    assert [step["version"] for step in api.get("/v1/policies/3/lineage").json()["data"]] == [3, 1, 0]
    difference = api.get("/v1/policies/2/diff/3").json()
    assert difference["recipe"][0] | {"schema": 1} == {
        "schema": 1, "name": "dpo.beta", "before": "0.2", "after": "0.3"
    }  # fmt: skip
    assert difference["people"]["votes"] == 0 and difference["people"]["win_rate"] is None


def test_promotion_and_rollback(api: TestClient, family: redis.Redis) -> None:
    """Each says what is live now, and stands in the audit trail with its caller and reason."""
    done = api.post("/v1/policies/2/promote", json={"force": True, "reason": " the gate was wrong "})
    assert (done.status_code, done.json()["live"]) == (200, 2)
    assert api.post("/v1/policies/rollback", json={"reason": "it was not"}).json()["live"] == 1
    told = [(it.action, it.actor, it.reason) for it in audit.history(family)[-2:]]
    assert told == [("promote", "api:local", "the gate was wrong"), ("rollback", "api:local", "it was not")]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/policies/2/promote", {"reason": "r"}, 400),
        ("/v1/policies/2/promote", {"force": False, "reason": "r"}, 400),
        ("/v1/policies/2/promote", {"force": True}, 400),
        ("/v1/policies/2/promote", {"force": True, "reason": "  "}, 400),
        ("/v1/policies/3/promote", {"force": True, "reason": "r"}, 400),
        ("/v1/policies/9/promote", {"force": True, "reason": "r"}, 404),
        ("/v1/policies/2/release", {"reason": "it was rejected"}, 400),
        ("/v1/policies/9/release", {"reason": "r"}, 404),
        ("/v1/policies/rollback", {}, 400),
        ("/v1/releases/rel_9/stop", {"reason": "r"}, 404),
        ("/v1/releases/rel_3/stop", {"reason": "it is over"}, 409),
    ],
)
def test_what_is_refused_changes_nothing(
    api: TestClient, family: redis.Redis, path: str, body: dict[str, object], status: int
) -> None:
    """Without `force`, without a reason, of what does not exist or is done already."""
    before = registry.state(family)
    answer = api.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert registry.state(family) == before


@pytest.mark.parametrize(
    "path",
    [
        "policies/9",
        "policies/9/lineage",
        "policies/0/diff/9",
        "releases/rel_9",
        "releases/rel_9/evidence",
        "releases/rel_9/shadow",
    ],
)
def test_what_does_not_exist_is_404(api: TestClient, path: str) -> None:
    """In OpenAI's shape."""
    answer = api.get(f"/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"][-9:]) == (404, "not_found")


def test_a_release_is_watched_and_stopped(api: TestClient, family: redis.Redis) -> None:
    """The open one is the last of the list; stopped, the incumbent answers everybody."""
    open_release(family)
    last = api.get("/v1/releases").json()["data"][-1]
    assert api.get("/v1/releases/rel_4/evidence").json()["wins"] == 0
    assert (last["id"], last["state"], last["share"]) == ("rel_4", "canary", 0.01)
    stopped = api.post("/v1/releases/rel_4/stop", json={"reason": "not today"}).json()
    assert (stopped["state"], stopped["actor"], stopped["reason"]) == ("stopped", "api:local", "not today")
    assert api.get("/v1/releases/rel_4").json() == stopped
    assert registry.state(family).canary is None


def test_what_nobody_saw_is_shown(api: TestClient, family: redis.Redis) -> None:
    """The judge's counts beside the release; nothing is known before it looked."""
    open_release(family)
    assert api.get("/v1/releases/rel_4/shadow").json()["candidate_reward"] is None
    compared(family, "rel_4", win=3, tie=1, loss=2)
    found = api.get("/v1/releases/rel_4/shadow").json()
    assert (found["wins"], found["ties"], found["losses"], found["judge"]) == (3, 1, 2, "reward")
    assert (found["candidate_tokens"], found["incumbent_tokens"]) == (30.0, 20.0)


def test_a_candidate_that_waits_is_released(api: TestClient, family: redis.Redis) -> None:
    """By name and reason; not while another release is open, and no version twice."""
    open_release(family)
    open_release(family, run="s")
    assert api.post("/v1/policies/5/release", json={"reason": "now"}).status_code == 409
    api.post("/v1/releases/rel_4/stop", json={"reason": "not today"})
    opened = api.post("/v1/policies/5/release", json={"reason": "now"}).json()
    assert (opened["id"], opened["actor"], opened["reason"]) == ("rel_5", "api:local", "now")
    assert api.post("/v1/policies/4/release", json={"reason": "again"}).status_code == 400


def test_the_audit_trail_is_verified_as_it_is_read(api: TestClient, family: redis.Redis) -> None:
    """Whole at first; after an entry was dropped the first fault is named."""
    whole = api.get("/v1/audit").json()
    assert (whole["fault"], whole["entries"]) == ("", len(audit.history(family)))
    assert whole["head"] == whole["data"][-1]["sha256"]
    family.xdel(keys.AUDIT, audit.history(family)[2].id)
    assert "does not follow the one before" in api.get("/v1/audit").json()["fault"]


def test_without_redis_it_says_so(tmp_path: Path) -> None:
    """503, to be tried again."""
    app = FastAPI()
    http.install(app, max_body_bytes=10_000)
    app.include_router(policy_endpoints.routes(connect(f"unix://{tmp_path}/nobody.sock"), Settings(home=tmp_path)))
    answer = TestClient(app).get("/v1/policies")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "registry_unavailable")

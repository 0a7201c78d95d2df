"""The feedback API does what its OpenAPI document says, whatever is sent: schemathesis over HTTP and a real Redis.

All requests bring an API key. Schemathesis sends some again without it, or with a wrong one, and wants a refusal.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, settings

import feedback.app
from core import api_keys, http, keys, registry, secret
from core.access import SCOPES
from core.key_table import Doorkeeper, KeyTable
from core.redis import connect, connect_async
from core.settings import Settings
from plumbline import (
    figure_endpoints,
    key_endpoints,
    openapi,
    policy_endpoints,
    run_endpoints,
    run_log_endpoints,
)
from tests.feedback.frozen import freeze
from tests.feedback.serving import listening
from tests.feedback.wire import COMPARISON, COMPLETION, PREFERENCE, THUMB
from tests.serving import policies
from training import runs

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: it comes with the dev extra")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

TASK = {"kind": "rate", "target": COMPLETION, "external_id": "planted", "overlap": 9}
TARGETS = {"thumb": COMPLETION, "rating": COMPLETION, "correction": COMPLETION}
"""What is planted, by the kinds that fit; the others fit the comparison."""
BATCHES = ("/v1/feedback/batch", "/v1/tasks")
"""200 whatever becomes of their items, each of which has a status of its own."""
PATIENCE_S = 30
"""A request that takes longer is a finding: nothing here waits for anything."""
SECRET = b"of this test, and of no deployment"
TOKEN, KEY = api_keys.mint(SECRET, name="test", scopes=list(SCOPES), actor="test")
BEARER = {"authorization": f"Bearer {TOKEN}"}
SEVERAL = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink one finding takes up to five minutes of requests
)


class Bearer:
    """Puts the key on each request."""

    def get(self, case: Any, context: Any) -> str:
        return BEARER["authorization"]

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["authorization"] = data


def described(listener: openapi.Listener) -> Any:
    """The listener's document without chat, which needs an engine, and the page's routes, which take no key."""
    schema = schemathesis.openapi.from_dict(openapi.document(listener))
    # What is well-formed may still be refused: a rating of 9, a ranking of an unknown side. The document says which
    # types there are, feedback/events.py what fits what.
    schema.config.checks.update(excluded_check_names=["positive_data_acceptance"])
    schema.auth()(Bearer)
    return schema.exclude(path_regex="^/(page/|v1/(chat|comparisons|models|samples))")


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """Both, over one Redis and one directory of artifacts, with a snapshot in it."""

    public: str
    admin: str
    snapshot: str


@pytest.fixture(scope="module")
def listeners(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """Once for all operations, as building them takes longer than what most operations do. Nothing of them outlives a
    test: all that they remember lies in Redis, which is emptied."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    config = Settings(feedback_window_s=3600, artifacts_url=str(artifacts), redis_url=redis_server, broker_url="")
    public, admin = openapi.applications()
    client = connect(redis_server)
    client.flushall()
    api_keys.create(client, KEY)
    table = KeyTable(connect_async(redis_server), SECRET, artifacts / "api-keys.json")
    asyncio.run(table.look())
    for app in (public, admin):
        http.install(app, max_body_bytes=config.max_body_bytes)
        app.state.keeper = Doorkeeper(keys=table, exposed=True)
    # Attached apart: each server has an event loop of its own here, and a client of Redis belongs to one.
    feedback.app.attach(public, redis_server, config)
    feedback.app.attach(FastAPI(), redis_server, config, admin=admin)
    admin.include_router(policy_endpoints.routes(client, config))
    admin.include_router(run_endpoints.routes(client, config))
    admin.include_router(run_log_endpoints.routes(client, artifacts))
    admin.include_router(figure_endpoints.routes(client, artifacts))
    admin.include_router(key_endpoints.routes(client, SECRET))
    snapshot = freeze(artifacts).manifest.id
    with listening(public) as public_url, listening(admin) as admin_url:
        yield Listeners(public=public_url, admin=admin_url, snapshot=snapshot)


@pytest.fixture
def planted(
    listeners: Listeners,
    redis_client: redis.Redis,
    put_completion: Callable[..., object],
    put_comparison: Callable[..., str],
) -> dict[str, object]:
    """A completion, a comparison, a vote on each, a task, a cancelled run, and a registry: version 1 was live before
    version 2, version 3 is on its way and version 4 waits. Values for the parameters of paths."""
    secret.check(redis_client, SECRET)
    api_keys.create(redis_client, KEY)
    put_completion("chatcmpl-1")
    put_comparison("1")
    feedback_url, tasks_url = f"{listeners.public}/v1/feedback", f"{listeners.admin}/v1/tasks"
    vote = httpx.post(feedback_url, json=THUMB | {"rater": {"id": "ann"}}, headers=BEARER).json()["id"]
    httpx.post(feedback_url, json=PREFERENCE | {"rater": {"id": "ann"}}, headers=BEARER).raise_for_status()
    [task] = httpx.post(tasks_url, json={"items": [TASK]}, headers=BEARER).json()["results"]
    policies.initialise(redis_client, "sha-0")
    for live in ("sha-1", "sha-2"):
        policies.promote(redis_client, live)
    for candidate in ("sha-3", "sha-4"):
        policies.publish(redis_client, candidate)
    redis_client.delete(*(keys.run(it.run) for it in registry.policies(redis_client) if it.run))  # nothing ran
    run = runs.planned(snapshot="s", parent=2, recipe="{}", last_vote=1.0)
    runs.create(redis_client, run, votes=1)
    runs.cancel(redis_client, run.id, actor="test", reason="test")
    known = {"feedback_id": vote, "task_id": task["id"], "snapshot": listeners.snapshot}
    return known | {"version": 4, "release": "rel_3", "run": run.id, "before": 97}


def aim(case: Any, planted: dict[str, object]) -> None:
    """Lets a valid request hit what there is: invented ids would be 404 for ever. But two versions' difference and an
    export are a process each: test_policy_endpoints.py and test_export_endpoints.py read what they write."""
    for name in case.path_parameters or {}:
        case.path_parameters[name] = planted.get(name, case.path_parameters[name])
    if case.operation.path == "/v1/export":
        case.query["snapshot"] = "00" * 32
    votes = case.body if isinstance(case.body, dict) else {}
    for vote in [votes, *(votes.get("items") or [])]:
        if isinstance(vote, dict) and "target" in vote:
            kind = vote.get("kind") or (vote.get("kinds") or ["thumb"])[0]
            vote["target"] = TARGETS.get(kind, COMPARISON)


def meet(case: Any, url: str, planted: dict[str, object]) -> None:
    """Sends the request and checks the answer."""
    if case.meta.generation.mode.is_positive:
        aim(case, planted)
    response = case.call(base_url=url, timeout=PATIENCE_S)
    taken = case.method == "POST" and case.operation.path in BATCHES and response.status_code == 200
    excluded = [checks.negative_data_rejection] if taken else []
    if case.operation.path == "/v1/policies/rollback":  # to GET it is a version that is no number: 400, not 405
        excluded.append(checks.unsupported_method)
    case.validate_response(response, excluded_checks=excluded, transport_kwargs={"timeout": PATIENCE_S})
    if taken and case.meta.generation.mode.is_negative:
        assert any(result["status"] >= 400 for result in response.json()["results"])


@described("public").parametrize()
@SEVERAL
def test_raters_and_applications(case: Any, listeners: Listeners, planted: dict[str, object]) -> None:
    """No 5xx, no status, content type or body that the document does not name, whether the request is valid or not."""
    meet(case, listeners.public, planted)


@described("admin").parametrize()
@SEVERAL
def test_operators(case: Any, listeners: Listeners, planted: dict[str, object]) -> None:
    """The same on the admin listener."""
    meet(case, listeners.admin, planted)

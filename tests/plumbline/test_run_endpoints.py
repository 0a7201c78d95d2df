"""Training runs over HTTP, for keys with the scope `train`."""

import json
from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import audit, http, keys, releases
from core.access import Caller, Scope
from core.records import RunState
from core.redis import connect
from core.settings import Settings
from plumbline import run_endpoints
from plumbline.scheduler import CHECK
from tests.serving import policies
from training import runs

BECAUSE = {"reason": "a test"}


class Keys:
    """One key, of these scopes."""

    def __init__(self, *scopes: Scope, tenant: str = "") -> None:
        self._caller = Caller(tenant=tenant, key_id="key_1", scopes=frozenset(scopes))

    def caller(self, authorization: str) -> Caller:
        return self._caller

    def issuer(self, key_id: str) -> Caller:
        return self._caller


@pytest.fixture
def config(redis_server: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_server, broker_url="")


def client_of(config: Settings, *scopes: Scope, tenant: str = "") -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=10_000)
    app.state.keeper = Keys(*scopes, tenant=tenant)
    app.include_router(run_endpoints.routes(connect(config.redis_url), config))
    return TestClient(app)


@pytest.fixture
def trainer(redis_client: redis.Redis, config: Settings) -> TestClient:
    """Who has the scope `train` and no other."""
    return client_of(config, "train")


def queued(client: redis.Redis) -> str:
    run = runs.planned(snapshot="s", parent=0, recipe="{}", last_vote=1.0)
    assert runs.create(client, run, votes=5) == "created"
    return run.id


def rung(client: redis.Redis, queue: str) -> list[str]:
    messages = client.lrange(keys.BROKER_PREFIX + queue, 0, -1)
    return [json.loads(message)["headers"]["task"] for message in messages]  # type: ignore[union-attr]


def test_a_round_is_asked_for(trainer: TestClient, redis_client: redis.Redis) -> None:
    """The scheduler hears of it, by force; the answer does not wait for a run."""
    redis_client.hset(keys.FEEDBACK_COUNTS, "preference", 7)
    answer = trainer.post("/v1/runs", json=BECAUSE)
    assert (answer.status_code, answer.json()) == (202, {"object": "round", "votes_new": 7})
    assert rung(redis_client, keys.OPS_QUEUE) == [CHECK]


def test_no_second_round(trainer: TestClient, redis_client: redis.Redis) -> None:
    """While a run is active, or a release is open, the scheduler is not asked."""
    run = queued(redis_client)
    busy = trainer.post("/v1/runs", json=BECAUSE)
    assert (busy.status_code, busy.json()["error"]["message"]) == (409, f"Not done: run {run} is queued.")
    runs.cancel(redis_client, run, actor="test", reason="test")
    policies.initialise(redis_client, "sha-0")
    policies.publish(redis_client, "sha-1")
    assert "release rel_1 is open" in trainer.post("/v1/runs", json=BECAUSE).json()["error"]["message"]
    assert rung(redis_client, keys.OPS_QUEUE) == []
    releases.end(redis_client, "rel_1", state="kept", reason="test", actor="test")
    assert trainer.post("/v1/runs", json=BECAUSE).status_code == 202


def test_runs_are_read_cancelled_and_repeated(trainer: TestClient, redis_client: redis.Redis) -> None:
    """The record of each; what is over is not cancelled, what is queued is not repeated."""
    policies.initialise(redis_client, "sha-0")
    run = queued(redis_client)
    assert [it["id"] for it in trainer.get("/v1/runs").json()["data"]] == [run]
    assert trainer.get(f"/v1/runs/{run}").json() == runs.get(redis_client, run).model_dump(mode="json", by_alias=True)
    assert trainer.post(f"/v1/runs/{run}/retry", json=BECAUSE).status_code == 409

    cancelled = trainer.post(f"/v1/runs/{run}/cancel", json=BECAUSE).json()
    assert (cancelled["state"], cancelled["reason"]) == (RunState.CANCELLED, "cancelled by api:key_1: a test")
    assert trainer.post(f"/v1/runs/{run}/cancel", json=BECAUSE).status_code == 409

    assert trainer.post(f"/v1/runs/{run}/retry", json=BECAUSE).json()["state"] == RunState.QUEUED
    assert rung(redis_client, keys.TRAIN_QUEUE) == ["plumbline.run_round"]


def test_runs_are_listed_page_by_page(trainer: TestClient, redis_client: redis.Redis) -> None:
    """Newest first, each once; a page says where the next one goes on. Of a run that is not there: 400."""
    for number in range(5):
        run = runs.planned(snapshot=f"s{number}", parent=0, recipe="{}", last_vote=1.0)
        assert runs.create(redis_client, run, votes=5) == "created"
        runs.cancel(redis_client, run.id, actor="test", reason="makes room")
    ids = [run.id for run in runs.all_runs(redis_client)][::-1]
    first = trainer.get("/v1/runs?limit=2").json()
    assert ([it["id"] for it in first["data"]], first["has_more"]) == (ids[:2], True)
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])
    rest = trainer.get(f"/v1/runs?after={first['last_id']}").json()
    assert ([it["id"] for it in rest["data"]], rest["has_more"]) == (ids[2:], False)
    assert trainer.get(f"/v1/runs?after={ids[-1]}").json()["data"] == []
    unknown = trainer.get("/v1/runs?after=9")
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "query.after")
    assert [trainer.get(f"/v1/runs?limit={limit}").status_code for limit in (0, 101)] == [400, 400]


def test_every_act_is_in_the_audit(trainer: TestClient, redis_client: redis.Redis) -> None:
    """Who asked for a round, cancelled and repeated a run, and why; what was refused is not."""
    assert trainer.post("/v1/runs", json=BECAUSE).status_code == 202
    run = queued(redis_client)
    assert trainer.post("/v1/runs", json=BECAUSE).status_code == 409
    assert trainer.post(f"/v1/runs/{run}/cancel", json={"reason": " too\nlong "}).status_code == 200
    assert trainer.post(f"/v1/runs/{run}/retry", json=BECAUSE).status_code == 200
    assert [(it.action, it.subject, it.actor, it.reason) for it in audit.history(redis_client)] == [
        ("run.start", "", "api:key_1", "a test"),
        ("run.cancel", run, "api:key_1", "too\nlong"),
        ("run.retry", run, "api:key_1", "a test"),
    ]
    assert audit.check(redis_client).fault == ""


@pytest.mark.parametrize("body", [None, {}, {"reason": " "}, {"reason": "x" * 501}, {"reason": "x", "force": True}])
@pytest.mark.parametrize("act", ["", "/{}/cancel", "/{}/retry"])
def test_an_act_needs_a_reason(trainer: TestClient, redis_client: redis.Redis, act: str, body: object) -> None:
    """Of 1 to 500 characters, and nothing else: else 400, and nothing happens."""
    run = queued(redis_client)
    assert trainer.post(f"/v1/runs{act.format(run)}", json=body).status_code == 400
    assert runs.get(redis_client, run).state is RunState.QUEUED
    assert (rung(redis_client, keys.OPS_QUEUE), audit.history(redis_client)) == ([], [])


@pytest.mark.parametrize("path", ["get /v1/runs/9", "post /v1/runs/9/cancel", "post /v1/runs/9/retry"])
def test_an_unknown_run(trainer: TestClient, path: str) -> None:
    """404 in OpenAI's shape."""
    method, _, url = path.partition(" ")
    answer = trainer.request(method, url, json=BECAUSE if method == "post" else None)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")


@pytest.mark.parametrize(
    ("scope", "looks", "acts"),
    [("train", 200, 202), ("admin", 200, 202), ("read", 200, 403), ("chat", 403, 403), ("feedback", 403, 403)],
)
def test_who_may(redis_client: redis.Redis, config: Settings, scope: Scope, looks: int, acts: int) -> None:
    """Looking takes `read` or `train`, asking for a round `train`; `admin` may both."""
    client = client_of(config, scope)
    assert (client.get("/v1/runs").status_code, client.post("/v1/runs", json=BECAUSE).status_code) == (looks, acts)


def test_training_is_the_deployments(redis_client: redis.Redis, config: Settings) -> None:
    """A tenant's key finds no such route, whatever its scopes."""
    client = client_of(config, "read", "train", "admin", tenant="acme")
    assert {client.get("/v1/runs").status_code, client.post("/v1/runs", json=BECAUSE).status_code} == {404}


def test_without_redis_it_says_so(config: Settings, tmp_path: Path) -> None:
    """503, to be tried again."""
    away = config.model_copy(update={"redis_url": f"unix://{tmp_path}/nobody.sock"})
    client = client_of(away, "train")
    answers = [client.get("/v1/runs"), client.get("/v1/runs/9"), client.post("/v1/runs", json=BECAUSE)]
    assert [(it.status_code, it.json()["error"]["code"]) for it in answers] == [(503, "storage_unavailable")] * 3

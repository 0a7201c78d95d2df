"""Figures for operators: what came, what was left out, and what each version's reward cost."""

from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import http, keys, registry, releases
from core.records import GateReport, Verdict
from plumbline import figure_endpoints
from tests.feedback.rounds import cut, policy


@pytest.fixture
def api(redis_client: redis.Redis, tmp_path: Path) -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=10_000)
    app.include_router(figure_endpoints.routes(redis_client, tmp_path))
    return TestClient(app)


def test_feedback_by_kind_and_what_was_left_out(api: TestClient, redis_client: redis.Redis, tmp_path: Path) -> None:
    """People and AIs apart; of the newest snapshot, why votes gave no row."""
    empty = {"people": {}, "ai": {}, "regenerated": {}, "snapshot": None, "dropped": {}}
    assert api.get("/v1/figures/feedback").json() == empty
    redis_client.hset(keys.FEEDBACK_COUNTS, mapping={"thumb": 8, "preference": 2, "ai_preference": 5})
    redis_client.hset(keys.REGENERATED, mapping={"10": 1, "2": 4})
    registry.initialise(redis_client, policy(0, None), actor="test")
    held = cut(redis_client, tmp_path)
    assert api.get("/v1/figures/feedback").json() == {
        "people": {"preference": 2, "thumb": 8},
        "ai": {"preference": 5},
        "regenerated": {"assistant@v2": 4, "assistant@v10": 1},
        "snapshot": held.manifest.id,
        "dropped": held.manifest.dropped,
    }


def test_reward_against_kl_version_by_version(api: TestClient, redis_client: redis.Redis) -> None:
    """Those that the live one comes from, oldest first, with what their gates measured; a rejected one is none."""
    assert api.get("/v1/figures/reward").json() == {"data": []}
    registry.initialise(redis_client, policy(0, None), actor="test")
    for version, verdict in ((1, Verdict.PASS), (2, Verdict.FAIL)):
        redis_client.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
        redis_client.hdel(keys.run("r"), "version")
        figures = {"win_rate": 0.5 + version / 10, "kl_to_base": version / 2, "mean_tokens": 20.0}
        gate = GateReport(verdict=verdict, live_version=version - 1, checks=[], metrics=figures, summary="s")
        registry.publish(redis_client, policy(version, version - 1, gate=gate), gate, run="r", attempt=1)
        if verdict is Verdict.PASS:
            releases.promote(redis_client, f"rel_{version}", actor="test", reason="test")
    assert api.get("/v1/figures/reward").json()["data"] == [
        {"version": "assistant@v1", "state": "live", "figures": {"win_rate": 0.6, "kl_to_base": 0.5}},
    ]

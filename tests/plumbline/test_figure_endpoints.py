"""Figures for operators: what came, what was left out, and what each version's reward cost."""

from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import evidence, http, keys, registry, releases
from core.evidence import Evidence
from core.records import GateReport, RunState, Verdict
from plumbline import figure_endpoints
from tests.feedback.rounds import cut, policy
from tests.plumbline.releasing import open_release
from training import runs
from training.recipe import Recipe
from training.reward_card import Calibration, RewardCard


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


def test_how_good_the_reward_models_are(api: TestClient, redis_client: redis.Redis, tmp_path: Path) -> None:
    """One of each run whose card is here and can be read; a run without one is left out."""
    assert api.get("/v1/figures/reward-models").json() == {"data": []}
    calibration = Calibration(error=0.06, by_chance=0.05, temperature=None, error_after=None, votes=40)
    fields = {"head": "last", "mean": 0.0, "sd": 1.0, "base_sha256": "b", "data": "d", "folds": ["optimize"], "seed": 0}
    fields |= {"pairs": 400, "ties": 3, "dropped": {}, "rows": {"pairs": 400}, "train_accuracy": 0.8, "test_pairs": 40}
    fields |= {"test_accuracy": 0.71, "test_accuracy_low": 0.6, "calibration": calibration}
    card = RewardCard.model_validate(fields)
    planned = [
        runs.planned(snapshot=name, parent=0, recipe=Recipe().model_dump_json(), last_vote=1.0) for name in "abc"
    ]
    for run, text in zip(planned, (card.model_dump_json(), "no card", None), strict=True):
        assert runs.create(redis_client, run, votes=1) == "created"
        assert runs.claim(redis_client, run.id, "test", 60.0) is not None
        runs.finish(redis_client, run.id, 1, RunState.FAILED, "test")
        if text is not None:
            (tmp_path / "runs" / run.id / "reward").mkdir(parents=True)
            (tmp_path / "runs" / run.id / "reward" / "reward.json").write_text(text)
    (found,) = api.get("/v1/figures/reward-models").json()["data"]
    assert (found["run"], found["rows"]) == (planned[0].id, {"pairs": 400})
    assert (found["accuracy"], found["accuracy_low"]) == (0.71, 0.6)
    assert (found["votes"], found["ceiling"], found["earlier"]) == (40, None, None)
    assert found["calibration"] == calibration.model_dump()


def test_how_the_evidence_of_a_release_grew(api: TestClient, redis_client: redis.Redis) -> None:
    """Point by point and up to now. Of ten wins E is 16.405 (tests/serving/test_evidence.py); nobody is no point."""
    release = open_release(redis_client).id
    assert api.get(f"/v1/figures/evidence/{release}").json() == {"data": []}
    found = Evidence(release=release, position="1-0", wins=10, trail=((1, 0, 0), (4, 0, 0)))
    assert evidence.claim(redis_client, "test", lease_s=60)
    assert evidence.save(redis_client, found, {}, before=None, owner="test")
    points = api.get(f"/v1/figures/evidence/{release}").json()["data"]
    assert [it["raters"] for it in points] == [1, 4, 10]
    assert points[-1]["log10_e"] == pytest.approx(1.215, abs=1e-3)
    assert points[-1]["win_rate"] == points[-1]["high"] == 1.0 and points[-1]["low"] > 0.5
    unknown = api.get("/v1/figures/evidence/rel_9")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "release_not_found")

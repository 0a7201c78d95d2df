"""What trainers say and when the next round is due, over HTTP."""

import os
from pathlib import Path

import pytest
import redis
from fastapi import FastAPI
from fastapi.testclient import TestClient

from core import http, keys
from core.records import Run
from plumbline import run_log_endpoints
from plumbline.run_log_endpoints import TAIL_BYTES
from training import runs
from training.recipe import Recipe


@pytest.fixture
def api(redis_client: redis.Redis, tmp_path: Path) -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=10_000)
    app.include_router(run_log_endpoints.routes(redis_client, tmp_path))
    return TestClient(app)


@pytest.fixture
def run(redis_client: redis.Redis) -> Run:
    planned = runs.planned(snapshot="s", parent=2, recipe=Recipe().model_dump_json(), last_vote=1.0)
    assert runs.create(redis_client, planned, votes=1) == "created"
    return planned


def test_what_its_trainers_say(api: TestClient, run: Run, tmp_path: Path) -> None:
    """The end of the log that was written last, or of one that is named; nothing else on the disk."""
    path = f"/v1/runs/{run.id}/log"
    assert api.get(path).json() == {"files": [], "file": None, "text": "", "is_whole": True}
    directory = tmp_path / "runs" / run.id / "attempt-1"
    directory.mkdir(parents=True)
    (tmp_path / "runs" / "secret.log").write_text("not yours")
    written = {"reward.log": "step 1\n", "candidate.log": "x" * TAIL_BYTES + "end"}
    for number, (name, text) in enumerate(written.items()):
        (directory / name).write_text(text)
        os.utime(directory / name, (1000 + number, 1000 + number))
    last = api.get(path).json()
    assert last["files"] == ["attempt-1/reward.log", "attempt-1/candidate.log"]
    assert (last["file"], last["is_whole"], last["text"][-4:]) == ("attempt-1/candidate.log", False, "xend")
    assert len(last["text"]) == TAIL_BYTES
    first = api.get(path, params={"file": "attempt-1/reward.log"}).json()
    assert (first["text"], first["is_whole"]) == ("step 1\n", True)
    for wrong in ("../secret.log", "/etc/passwd", "attempt-1/../../secret.log", "attempt-2/reward.log"):
        assert api.get(path, params={"file": wrong}).status_code == 404, wrong
    unknown = api.get("/v1/runs/9/log")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "run_not_found")


def test_when_the_next_round_is_due(api: TestClient, redis_client: redis.Redis) -> None:
    """As the scheduler left word, if it ever did."""
    never = {"votes_new": 0, "votes_needed": 0, "next_check_at": None, "reason": ""}
    assert api.get("/v1/rounds/next").json() == never
    said = {"votes_new": 12, "min_votes": 300, "next_check": 1790000000.5, "last_reason": "release rel_1 is open"}
    redis_client.hset(keys.SCHEDULER, mapping=said)
    expected = {"votes_new": 12, "votes_needed": 300, "next_check_at": 1790000000.5, "reason": "release rel_1 is open"}
    assert api.get("/v1/rounds/next").json() == expected

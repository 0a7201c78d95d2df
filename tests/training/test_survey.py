"""Surveys over a real Redis: asked for once, done once, and given up where nobody does them."""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import redis

from core import keys
from core.adapters import BaseShapes
from core.settings import Settings
from tests.training.examples import cut, pair_row
from tests.waiting import eventually
from training import survey, worker
from training.features import FILE
from training.recipe import Recipe

RECIPE = Recipe().model_dump_json()


@pytest.fixture
def config(tmp_path: Path, redis_server: str, qwen_directory: Path) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_server, broker_url="", base=str(qwen_directory), lease_s=5)


@pytest.fixture
def snapshot(config: Settings, qwen_shapes: BaseShapes) -> str:
    rows = [pair_row(number) for number in range(30)]
    return cut(config.artifacts / "snapshots", rows, qwen_shapes).directory.name


def state(client: redis.Redis, config: Settings) -> str:
    asked = survey.pending(client)
    assert asked is not None
    return survey.state(client, config.artifacts, asked)


def left(config: Settings) -> list[str]:
    return sorted(path.name for path in (config.artifacts / "trust").glob("*"))


def test_a_survey_is_there_when_it_is_whole(redis_client, config, snapshot):
    """Asked for, done, found; doing it again is nothing, and at the end nothing is asked for any more."""
    survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900)
    assert state(redis_client, config) == "silent"
    assert survey.carry_out(redis_client, config, snapshot)
    assert state(redis_client, config) == "ready"
    assert left(config) == [snapshot, f"{snapshot}.log"]
    made = (survey.directory(config.artifacts, snapshot) / FILE).stat().st_mtime_ns
    assert survey.carry_out(redis_client, config, snapshot)
    assert (survey.directory(config.artifacts, snapshot) / FILE).stat().st_mtime_ns == made
    assert not redis_client.exists(keys.survey_lease(snapshot))
    (config.artifacts / "trust" / "earlier").mkdir()
    survey.end(redis_client, config.artifacts, snapshot)
    assert survey.pending(redis_client) is None
    assert left(config) == [snapshot, f"{snapshot}.log"]


def test_the_first_who_asks_is_heard(redis_client, config, snapshot):
    """Another scheduler's snapshot waits for the next round; ending that one ends nothing."""
    assert survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900).snapshot == snapshot
    assert survey.ask(redis_client, "other", recipe="{}", votes=900).snapshot == snapshot
    survey.end(redis_client, config.artifacts, "other")
    assert survey.pending(redis_client) is not None
    assert not survey.carry_out(redis_client, config, "nobody asked") or left(config) == []


def test_one_rings_at_a_time_and_three_times_at_most(redis_client, config, snapshot):
    """While a ring is fresh nobody else rings; when it was not heard it is repeated, and then it is told."""
    asked = survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900)
    for _ in range(survey.MOST_RINGS):
        assert survey.may_ring(redis_client, asked, patience_s=60)
        assert not survey.may_ring(redis_client, asked, patience_s=60)
        assert state(redis_client, config) == "waiting"
        redis_client.delete(keys.survey_lease(snapshot))  # as when it runs out
    assert not survey.may_ring(redis_client, asked, patience_s=60)
    assert state(redis_client, config) == "failed"
    assert "does the worker run?" in survey.pending(redis_client).error


def test_a_crash_is_told_and_not_repeated(redis_client, config, snapshot):
    """The data are gone: the program's last words are the reason, and nothing of it is left but its log."""
    survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900)
    shutil.rmtree(config.artifacts / "snapshots" / snapshot)
    assert survey.carry_out(redis_client, config, snapshot)
    assert state(redis_client, config) == "failed"
    assert "manifest.json is missing" in survey.pending(redis_client).error
    assert left(config) == [f"{snapshot}.log"]


def test_a_stopped_worker_gives_the_survey_back(redis_client, config, snapshot):
    """SIGTERM's byte kills the program; the lease is free, and of two who are rung for next one does it: what is rung
    for is taken over, the second finds the lease taken and leaves."""
    asked = survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900)
    read, write = os.pipe()
    os.write(write, b"x")
    assert not survey.carry_out(redis_client, config, snapshot, stop=read)
    os.close(read)
    os.close(write)
    assert (state(redis_client, config), left(config)) == ("silent", [f"{snapshot}.log"])
    assert survey.may_ring(redis_client, asked, patience_s=60)
    first = threading.Thread(target=survey.carry_out, args=(redis_client, config, snapshot))
    first.start()
    eventually(lambda: redis_client.get(keys.survey_lease(snapshot)) not in (None, "rung"))
    assert not survey.carry_out(redis_client, config, snapshot)
    first.join()
    assert state(redis_client, config) == "ready"


def test_who_lost_the_lease_stops(redis_client, config, snapshot):
    """Another holder was put in its place: the program is killed, and the other's lease stays."""
    survey.ask(redis_client, snapshot, recipe=RECIPE, votes=900)
    found: list[bool] = []
    slow = config.model_copy(update={"lease_s": 2.0})
    first = threading.Thread(target=lambda: found.append(survey.carry_out(redis_client, slow, snapshot)))
    first.start()
    eventually(lambda: redis_client.get(keys.survey_lease(snapshot)))
    redis_client.set(keys.survey_lease(snapshot), "somebody else")
    first.join()
    assert found == [False]
    assert redis_client.get(keys.survey_lease(snapshot)) == "somebody else"
    assert state(redis_client, config) == "waiting"


def test_the_doorbell_names_the_snapshot(redis_client, config):
    """In the queue of the trainers."""
    worker.ring_for_survey("5d41", config)
    (message,) = redis_client.lrange(keys.BROKER_PREFIX + keys.TRAIN_QUEUE, 0, -1)
    assert json.loads(message)["headers"]["task"] == "plumbline.survey"
    assert json.loads(message)["headers"]["argsrepr"] == "['5d41']"
    assert worker.look_at_votes.name in worker.app.tasks

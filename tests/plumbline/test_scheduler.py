"""The scheduler over a real Redis: rounds start when they should, once, and lost runs are rung for again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import redis

from core import keys, registry, releases
from core.adapters import MANIFEST
from core.errors import UsageError
from core.records import (
    AdapterManifest,
    Choice,
    CompletionRecord,
    CompletionState,
    Feedback,
    Message,
    PolicyState,
    PolicyVersion,
    Run,
    RunState,
    Target,
)
from core.settings import Settings
from feedback import snapshot
from feedback.archiving import Moved
from plumbline import scheduler
from tests.serving import policies
from training import runs
from training.worker import send


@pytest.fixture
def config(tmp_path: Path, redis_server: str, redis_client: redis.Redis) -> Settings:
    """A deployment with version 0 live that wants ten votes for a round."""
    config = Settings(home=tmp_path, redis_url=redis_server, broker_url="", min_votes=10, base=str(tmp_path))
    zero = {"version": 0, "parent": None, "base_sha256": "b", "adapter_sha256": "00" * 32, "method": "zero"}
    registry.initialise(redis_client, PolicyVersion(**zero, created=1.0, state=PolicyState.LIVE), actor="test")
    manifest = {"sha256": "00" * 32, "base_sha256": "b", "tokenizer_sha256": "t", "rank": 1}
    directory = config.artifacts / "adapters" / ("00" * 32)
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text(AdapterManifest(**manifest, serving_dtype="float32", probe=[]).to_json())
    return config


@pytest.fixture
def vote(redis_client: redis.Redis) -> Callable[..., None]:
    """Leaves `count` votes as the vote script does, on completions of version 0 to prompts of their own."""
    given = iter(range(10_000))

    def cast(count: int, value: str = "a") -> None:
        for number, _ in zip(given, range(count), strict=False):
            ids = [f"chatcmpl-{number}-{side}" for side in "ab"]
            for identifier in ids:
                record = CompletionRecord(
                    id=identifier,
                    state=CompletionState.COMPLETE,
                    created=1.0,
                    messages=[Message(role="user", content=f"prompt {number}")],
                    prompt_token_ids=[1],
                    choices=[Choice(index=0, text=identifier, token_ids=[2], finish_reason="stop")],
                    policy_version=0,
                    adapter_sha256="00" * 32,
                    assignment="comparison",
                )
                redis_client.hset(keys.completion(identifier), "record", record.to_json())
            event = Feedback(
                id=f"fb_{number}",
                target=Target(type="comparison", id=f"cmp_{number}"),
                kind="preference",
                value=value,
                created_at=1790000000.0 + number,
                policy_versions=[0, 0],
                completion_ids=ids,
                train=True,
            )
            redis_client.xadd(keys.FEEDBACK, {"event": event.to_json()})
            redis_client.hincrby(keys.FEEDBACK_COUNTS, "preference", 1)

    return cast


def rung(client: redis.Redis) -> list[str]:
    """The runs whose doorbell lies in the broker."""
    messages = client.lrange(keys.BROKER_PREFIX + keys.TRAIN_QUEUE, 0, -1)
    return [json.loads(message)["headers"]["argsrepr"].strip("[]'") for message in messages]


def note(client: redis.Redis, name: str) -> str | None:
    return client.hget(keys.SCHEDULER, name)


def end(client: redis.Redis, run: Run, state: RunState = RunState.FAILED) -> None:
    client.hset(keys.run(run.id), mapping={"state": state})


def test_too_few_votes_start_nothing(redis_client, config, vote):
    """Nine of ten votes: no snapshot, no run; the status says how many and when it looks again."""
    vote(9)
    scheduler.check(redis_client, config)
    assert runs.all_runs(redis_client) == []
    assert not (config.artifacts / "snapshots").exists()
    assert (note(redis_client, "votes_new"), note(redis_client, "min_votes")) == ("9", "10")
    assert float(note(redis_client, "next_check")) > time.time()
    assert note(redis_client, "active_run") == ""


def test_enough_votes_start_a_round(redis_client, config, vote):
    """The tenth vote: a snapshot is cut, one run is queued on it and rung for, counting starts anew."""
    vote(10)
    scheduler.check(redis_client, config)
    (run,) = runs.all_runs(redis_client)
    frozen = snapshot.read(config.artifacts / "snapshots" / run.snapshot)
    assert (run.state, run.parent, frozen.manifest.rows) == (RunState.QUEUED, 0, 10)
    assert (frozen.manifest.base_sha256, frozen.manifest.tokenizer_sha256) == ("b", "t")
    assert run.last_vote == 1790000009.0
    assert json.loads(run.recipe)["method"] == "dpo"
    assert rung(redis_client) == [run.id]
    assert (note(redis_client, "votes_new"), note(redis_client, "active_run")) == ("0", run.id)


@pytest.mark.parametrize(("min_reading_s", "expected"), [(1.0, {"too_fast": 1}), (0.5, {})])
def test_votes_that_nobody_can_have_thought_about_train_nothing(redis_client, config, vote, min_reading_s, expected):
    """One vote came half a second after its answers began, the others long after theirs."""
    vote(10)
    for side in "ab":
        key = keys.completion(f"chatcmpl-3-{side}")
        record = CompletionRecord.model_validate_json(redis_client.hget(key, "record"))
        redis_client.hset(key, "record", record.model_copy(update={"created": 1790000002.5}).to_json())
    scheduler.check(redis_client, config.model_copy(update={"min_reading_s": min_reading_s}))
    (run,) = runs.all_runs(redis_client)
    assert snapshot.read(config.artifacts / "snapshots" / run.snapshot).manifest.dropped == expected


def test_one_round_at_a_time(redis_client, config, vote):
    """While a run is active the next waits, and starts at the first look after its end."""
    vote(10)
    first = scheduler.start_round(redis_client, config)
    vote(10)
    assert scheduler.start_round(redis_client, config) is None
    assert scheduler.start_round(redis_client, config, force=True) is None
    assert note(redis_client, "last_reason") == f"run {first.id[:8]} is queued"
    end(redis_client, first)
    second = scheduler.start_round(redis_client, config)
    assert second.id != first.id
    assert note(redis_client, "last_reason") == ""


def test_no_round_while_a_release_is_open(redis_client, config, vote):
    """Its votes are about two policies; the next round begins when one of them is live alone."""
    version = policies.publish(redis_client, "11" * 32)
    vote(10)
    scheduler.check(redis_client, config)
    assert runs.all_runs(redis_client) == []
    assert redis_client.hget(keys.SCHEDULER, "last_reason") == f"release rel_{version} is open"

    releases.end(redis_client, f"rel_{version}", state="kept", reason="test", actor="test")
    scheduler.check(redis_client, config)
    assert len(runs.all_runs(redis_client)) == 1


def test_the_judge_of_unseen_answers_is_rung_for_once(redis_client, config):
    """Enough wait: one doorbell, however many schedulers look."""
    policies.publish(redis_client, "11" * 32, stage=releases.SHADOW)
    scheduler.check(redis_client, config)
    assert rung(redis_client) == []
    redis_client.sadd(keys.shadow_waiting("rel_1"), *(f"chatcmpl-{number}" for number in range(50)))
    for _ in range(2):
        scheduler.check(redis_client, config)
    assert rung(redis_client) == ["rel_1"]


def test_rejected_candidate_needs_new_votes(redis_client, config, vote):
    """After a round the same votes do not start another one by themselves; with as many new ones they train again."""
    vote(10)
    first = scheduler.start_round(redis_client, config)
    end(redis_client, first, RunState.DONE)
    assert scheduler.start_round(redis_client, config) is None
    vote(10)
    second = scheduler.start_round(redis_client, config)
    assert snapshot.read(config.artifacts / "snapshots" / second.snapshot).manifest.rows == 20


def test_many_schedulers_start_one_round(redis_server, redis_client, config, vote):
    """Eight schedulers at the same moment, with votes still coming in: one run, one doorbell."""
    vote(10)

    def start(number: int) -> Run | None:
        with redis.Redis.from_url(redis_server, decode_responses=True) as client:
            if number % 2:
                client.xadd(keys.FEEDBACK, client.xrange(keys.FEEDBACK)[0][1])
            return scheduler.start_round(client, config)

    with ThreadPoolExecutor(8) as pool:
        started = [run for run in pool.map(start, range(8)) if run]
    assert len(started) == 1
    assert [run.id for run in runs.all_runs(redis_client)] == [started[0].id]
    assert rung(redis_client) == [started[0].id]


def test_nothing_to_learn_is_skipped_with_the_reason(redis_client, config, vote):
    """Only ties: no run; the status says why, and the same votes are not looked at again and again."""
    vote(10, value="tie")
    scheduler.check(redis_client, config)
    assert runs.all_runs(redis_client) == []
    assert note(redis_client, "last_reason") == "skipped: none of 10 rows may train the policy (10 tie)"
    assert note(redis_client, "votes_new") == "0"


def test_force_starts_with_few_votes_and_says_when_they_are_used(redis_client, config, vote):
    """`runs start` needs no minimum; the very same votes twice are one run, which can be retried."""
    vote(5)
    run = scheduler.start_round(redis_client, config, force=True)
    assert run.state is RunState.QUEUED
    end(redis_client, run)
    assert scheduler.start_round(redis_client, config, force=True) is None
    assert note(redis_client, "last_reason") == f"these very votes were used by run {run.id[:8]}, which is failed"


def test_missing_adapter_is_told_and_starts_nothing(redis_client, config, vote):
    """A scheduler without the artifacts says so, on the command line and in the status."""
    vote(10)
    (config.artifacts / "adapters" / ("00" * 32) / MANIFEST).unlink()
    with pytest.raises(UsageError, match="adapter of version 0 is not here"):
        scheduler.start_round(redis_client, config, force=True)
    scheduler.check(redis_client, config)
    assert "adapter of version 0 is not here" in note(redis_client, "last_reason")
    assert note(redis_client, "votes_new") == "10"


def test_lost_runs_are_rung_for_again(redis_client, config, vote):
    """A queued run that nobody claimed, and a run whose worker fell silent: their doorbells ring at each look."""
    vote(10)
    run = scheduler.start_round(redis_client, config)
    scheduler.check(redis_client, config)
    assert rung(redis_client) == [run.id]
    redis_client.hset(keys.run(run.id), "updated", 1.0)
    scheduler.check(redis_client, config)
    assert rung(redis_client) == [run.id] * 2
    runs.claim(redis_client, run.id, "w", 1000)
    scheduler.check(redis_client, config)
    assert rung(redis_client) == [run.id] * 2
    runs.heartbeat(redis_client, run.id, 1, "reward", 0.0, -1)
    scheduler.check(redis_client, config)
    assert rung(redis_client) == [run.id] * 3


def test_votes_are_archived_when_they_are_old_enough(redis_client, config, vote):
    """Copied after a day, or half a feedback window if that is sooner; kept in Redis for the whole window."""
    vote(3)
    assert scheduler.archive_votes(redis_client, config) == Moved()
    for given in ({"archive_after_s": 0.01}, {"feedback_window_s": 0.01}):
        time.sleep(0.02)
        assert scheduler.archive_votes(redis_client, config.model_copy(update=given)) == Moved(copied=3)
        assert (redis_client.xlen(keys.FEEDBACK), note(redis_client, "archive_error")) == (3, "")
        shutil.rmtree(config.artifacts / "archive")


def test_archive_that_does_not_belong_to_redis_is_told(redis_client, config, vote):
    """The status says why nothing is archived; nothing is overwritten."""
    vote(1)
    redis_client.set(keys.FEEDBACK_TRIMMED, "9-0")
    assert scheduler.archive_votes(redis_client, config) is None
    assert "ARTIFACTS_URL" in note(redis_client, "archive_error")


@pytest.mark.faults
def test_scheduler_process_checks_and_leaves_nothing(redis_server, redis_client, config, vote, tmp_path):
    """The real process starts a round by itself; SIGTERM ends it with 0, and kill -9 leaves no beat behind."""
    vote(10)
    root = Path(__file__).parents[2]
    fast = config.model_copy(update={"check_interval_s": 0.5, "archive_after_s": 0.01})

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "plumbline.scheduler"]
            environment = os.environ | fast.environment()
            return subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)

    def wait_for(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {(tmp_path / 'log').read_text()}"
            time.sleep(0.05)

    first = start()
    wait_for(lambda: note(redis_client, "active_run"), "a round")
    send(scheduler.ARCHIVE, [], queue=keys.OPS_QUEUE, config=fast)
    wait_for(lambda: len(list((config.artifacts / "archive").glob("events-*"))) == 1, "a partition")
    first.terminate()
    assert first.wait(timeout=30) == 0
    redis_client.hdel(keys.SCHEDULER, "next_check")
    second = start()
    wait_for(lambda: note(redis_client, "next_check"), "a look")
    family = psutil.Process(second.pid).children(recursive=True)
    assert family
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    wait_for(lambda: not any(child.is_running() and child.status() != "zombie" for child in family), "the end of beat")
    assert len(runs.all_runs(redis_client)) == 1

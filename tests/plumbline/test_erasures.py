"""Erasures as the scheduler carries them out: what training left behind, and the command line."""

from pathlib import Path

import pytest
import redis

from core import keys
from core.errors import UsageError
from core.records import Run, RunState
from core.settings import Settings
from plumbline import erasures, scheduler
from tests import warm
from training import runs


@pytest.fixture
def config(tmp_path: Path, redis_server: str) -> Settings:
    return Settings(home=tmp_path, redis_url=redis_server, base=str(tmp_path))


def ended(client: redis.Redis, config: Settings, name: str, *, snapshot: str, state: RunState, updated: float) -> Path:
    """A run with a directory."""
    run = Run(id=name, snapshot=snapshot, parent=0, recipe="{}", state=state, created=1.0, updated=updated)
    fields = {field: str(value) for field, value in run.model_dump(by_alias=True, exclude_none=True).items()}
    client.hset(keys.run(name), mapping=fields)
    client.zadd(keys.RUNS, {name: 1.0})
    directory = config.artifacts / "runs" / name
    (directory / "attempt-1" / "candidate").mkdir(parents=True)
    (directory / "attempt-1" / "candidate" / "rollouts.json").write_text("their words")
    return directory


def test_directories_of_these_runs_go_and_no_others(redis_client: redis.Redis, config: Settings) -> None:
    """By the snapshot that a run was made from; doing it again names them again."""
    gone = ended(redis_client, config, "r1", snapshot="s1", state=RunState.DONE, updated=1.0)
    kept = ended(redis_client, config, "r2", snapshot="s2", state=RunState.DONE, updated=1.0)
    assert erasures.forget_runs(redis_client, config, ["s1"]) == ["r1"]
    assert erasures.forget_runs(redis_client, config, ["s1"]) == ["r1"]
    assert (gone.exists(), kept.exists()) == (False, True)


def test_a_run_under_way_is_stopped_first(redis_client: redis.Redis, config: Settings) -> None:
    """Its trainer may still be writing, so its directory goes once it has had time to stop."""
    directory = ended(redis_client, config, "r1", snapshot="s1", state=RunState.RUNNING, updated=1.0)
    for _ in range(2):
        with pytest.raises(UsageError, match="r1 is being stopped"):
            erasures.forget_runs(redis_client, config, ["s1"])
        assert (runs.get(redis_client, "r1").state, directory.exists()) == (RunState.CANCELLED, True)
    redis_client.hset(keys.run("r1"), "updated", 1.0)
    assert erasures.forget_runs(redis_client, config, ["s1"]) == ["r1"]
    assert not directory.exists()


def plumbline(*arguments: str, config: Settings) -> str:
    done = warm.run("plumbline.cli", *arguments, **config.environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_asked_on_the_command_line_done_by_the_scheduler(redis_client: redis.Redis, config: Settings) -> None:
    """The job is queued, the scheduler's task brings it to its end, and the rater's id is in no key afterwards."""
    redis_client.hset(keys.rater("ann@example.org"), "consent", "True")
    asked = plumbline("raters", "erase", "ann@example.org", config=config)
    job, state = asked.split()[:2]
    assert state == "queued"
    erasures.carry_out(redis_client, config)
    assert plumbline("raters", "erasure", job, config=config).startswith(f"{job} done\n")
    assert not redis_client.exists(keys.rater("ann@example.org"))
    assert set(redis_client.hkeys(keys.erasure(job))) == {"record", "tombstone"}
    assert scheduler.ERASE in scheduler.app.tasks

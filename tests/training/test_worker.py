"""The worker: its broker, its doorbell, and what is left of it when it is killed or stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from core import audit, keys, registry
from core.adapters import MANIFEST
from core.errors import UsageError
from core.records import AdapterManifest, PolicyState, PolicyVersion, RunState
from core.settings import Settings
from tests.processes import is_alive
from tests.waiting import eventually
from training import runs, worker
from training.recipe import Recipe

ADAPTER = "ad" * 32
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
    ],
)
def test_broker_url_is_the_redis_url_unless_set(url, expected):
    """Celery spells a unix socket in its own way; BROKER_URL wins over REDIS_URL."""
    assert worker.broker_url(Settings(redis_url=url, broker_url="")) == expected
    assert worker.broker_url(Settings(redis_url="redis://other", broker_url=url)) == expected


def test_without_redis_there_is_nothing_to_ring_at():
    """One line says what to do."""
    with pytest.raises(UsageError, match="REDIS_URL is not set"):
        worker.broker_url(Settings(redis_url="", broker_url=""))


def test_ring_leaves_one_message_with_the_runs_id(redis_server, redis_client):
    """The doorbell is a JSON message in the train queue, under the broker's own prefix."""
    worker.ring("abc", Settings(redis_url=redis_server, broker_url=""))
    (message,) = redis_client.lrange(keys.BROKER_PREFIX + keys.TRAIN_QUEUE, 0, -1)
    assert json.loads(message)["headers"]["task"] == "plumbline.run_round"
    assert json.loads(message)["headers"]["argsrepr"] == "['abc']"
    assert {name.split(":")[0] for name in redis_client.scan_iter()} == {"plumbline-broker"}


def test_ring_without_a_broker_is_no_error(tmp_path):
    """The run is queued all the same, and the scheduler rings again."""
    worker.ring("abc", Settings(redis_url=f"unix://{tmp_path}/nobody.sock", broker_url=""))


class Rig:
    """A deployment with one queued run, and workers whose `candidate` stage waits for a file `go`."""

    def __init__(self, home: Path, redis_url: str, client: redis.Redis) -> None:
        self.config = Settings(home=home, base=str(home), redis_url=redis_url, broker_url="", lease_s=2)
        self.client = client
        self.workers: list[subprocess.Popen[bytes]] = []
        zero = PolicyVersion(
            version=0,
            parent=None,
            base_sha256="b",
            adapter_sha256="00" * 32,
            method="zero",
            created=1.0,
            state=PolicyState.LIVE,
        )
        registry.initialise(client, zero, actor="test")
        for sha256 in ("00" * 32, ADAPTER):
            directory = self.config.artifacts / "adapters" / sha256
            directory.mkdir(parents=True)
            manifest = {"sha256": sha256, "base_sha256": "b", "tokenizer_sha256": "t", "rank": 1}
            whole = AdapterManifest(**manifest, serving_dtype="float32", probe=[])
            (directory / MANIFEST).write_text(whole.to_json())
        run = runs.planned(snapshot="s", parent=0, recipe=Recipe().model_dump_json(), last_vote=1.0)
        runs.create(client, run, votes=1)
        self.run_id, self.directory = run.id, self.config.artifacts / "runs" / run.id

    def start_worker(self) -> subprocess.Popen[bytes]:
        environment = os.environ | self.config.environment() | {"PYTHONPATH": str(ROOT)}
        with (self.config.home / "worker.log").open("ab") as log:
            command = [sys.executable, str(Path(__file__).with_name("stand_in_worker.py"))]
            self.workers.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
        return self.workers[-1]

    def run(self) -> Any:
        return runs.get(self.client, self.run_id)

    def trainer(self) -> int:
        """The process of the waiting stage, as soon as it runs."""
        path = self.directory / "pid"
        return int(eventually(lambda: path.exists() and path.read_text()))


@pytest.fixture
def rig(tmp_path: Path, redis_server: str, redis_client: redis.Redis) -> Iterator[Rig]:
    rig = Rig(tmp_path, redis_server, redis_client)
    yield rig
    for process in rig.workers:
        process.kill()
        process.wait()


def assert_committed_once(rig: Rig, *, attempt: int) -> None:
    """The run is done, its stages ran once but for the interrupted one, and the registry saw one candidate."""
    run = eventually(lambda: rig.run().state is RunState.DONE and rig.run())
    assert (run.attempt, run.version) == (attempt, 1)
    starts = {name: (rig.directory / f"{name}.starts").read_text() for name in ("reward", "candidate", "publish")}
    assert starts == {"reward": "x", "candidate": "xx", "publish": "x"}
    assert [event.action for event in audit.history(rig.client)] == ["register", "register", "release.opened"]


@pytest.mark.faults
def test_killed_worker_leaves_nothing_and_the_run_goes_on(rig):
    """kill -9 while training: no child is left; after the lease attempt 2 resumes and commits once."""
    first = rig.start_worker()
    worker.ring(rig.run_id, rig.config)
    trainer = rig.trainer()
    family = [child.pid for child in psutil.Process(first.pid).children(recursive=True)]
    assert trainer in family
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    eventually(lambda: not any(is_alive(pid) for pid in family))
    assert rig.run().state is RunState.RUNNING
    eventually(lambda: runs.lost(rig.client))
    (rig.directory / "go").touch()
    rig.start_worker()
    worker.ring(rig.run_id, rig.config)
    assert_committed_once(rig, attempt=2)


@pytest.mark.faults
def test_stopped_worker_gives_its_run_back(rig):
    """SIGTERM while training: the worker exits with 0 at once, its run can be claimed at once, nothing is left."""
    first = rig.start_worker()
    worker.ring(rig.run_id, rig.config)
    trainer = rig.trainer()
    first.terminate()
    assert first.wait(timeout=30) == 0
    assert not is_alive(trainer)
    assert (rig.run().state, rig.run().forgiven) == (RunState.QUEUED, 1)
    (rig.directory / "go").touch()
    rig.start_worker()
    worker.ring(rig.run_id, rig.config)
    assert_committed_once(rig, attempt=2)

"""A worker that dies while it looks at votes: the real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core import keys
from core.adapters import BaseShapes
from tests.plumbline.test_trust import HONEST, VOTES, Crowd, deployed, report
from tests.training.conftest import qwen_directory, qwen_shapes  # noqa: F401 (fixtures)
from training import runs, survey

ROOT = Path(__file__).parents[2]


@pytest.mark.faults
def test_a_worker_that_is_killed_while_it_looks_costs_time_only(
    redis_server,
    redis_client,
    tmp_path,
    qwen_directory: Path,  # noqa: F811
    qwen_shapes: BaseShapes,  # noqa: F811
):
    """The real processes: the first worker is killed in the middle of the survey, a second one is rung for when the
    lease has run out, does it, and rings for the scheduler, which starts the round."""
    config = deployed(tmp_path, redis_server, redis_client, base=qwen_directory, sha256=qwen_shapes.sha256)
    config = config.model_copy(update={"lease_s": 3.0, "check_interval_s": 1.0})
    Crowd(redis_client).honest()
    processes: list[subprocess.Popen[bytes]] = []

    def started(module: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            environment = os.environ | config.environment()
            command = [sys.executable, "-m", module]
            processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        return processes[-1]

    def until(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {(tmp_path / 'log').read_text()}"
            time.sleep(0.05)

    try:
        first = started("training.worker")
        started("plumbline.scheduler")
        until(lambda: survey.pending(redis_client), "a snapshot to look at")
        lease = keys.survey_lease(survey.pending(redis_client).snapshot)
        until(lambda: redis_client.get(lease) not in (None, "rung"), "a worker that looks")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert runs.all_runs(redis_client) == []
        started("training.worker")
        until(lambda: runs.all_runs(redis_client) and not redis_client.exists(keys.SURVEY), "the round")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert redis_client.hget(keys.SCHEDULER, "trust_error") == ""
    assert (report(redis_client).surveyed, report(redis_client).raters) == (HONEST * VOTES, HONEST)

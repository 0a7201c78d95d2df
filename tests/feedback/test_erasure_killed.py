"""An erasure, killed between any two of its steps (files, commands to Redis): the next attempt ends it.

Every death starts from the same Redis and the same files.
"""

import shutil
import signal
from pathlib import Path

import pytest
import redis

from feedback import erasure, snapshot, store
from feedback.archive import Archive
from tests.feedback.canaries import OTHER, RATER, Kept, deployed, plant
from tests.feedback.nursery import nursery

pytestmark = pytest.mark.faults
EVERY = 4
"""Steps between two deaths that are tried: all of them take minutes."""


def is_step(event: str, path: str) -> bool:
    return event in ("open", "os.rename", "os.remove") and "artifacts" in path


def work(client: redis.Redis, artifacts: str, job: str) -> None:
    erasure.run(client, Path(artifacts), job, forget_runs=lambda snapshots: [])


def test_killed_at_any_step_the_next_attempt_ends_it(tmp_path: Path) -> None:
    """Nothing of the person is left, the snapshot and the policy are named, and others' votes stand."""
    files = tmp_path / "files"
    with deployed(tmp_path / "redis", tmp_path / "artifacts") as d:
        plant(d)
        job = d.api.delete(f"/v1/users/{RATER}").json()["job"]
        state, archive = d.state(), Archive(d.artifacts)
        shutil.copytree(d.artifacts, files)
        others = [it for it in store.log(d.client, archive)[0] if it.feedback.rater == OTHER]
        others = [it for it in others if it.feedback.target.id == "chatcmpl-other"]
        with nursery(__name__, d.url, str(d.artifacts), job) as dies_before:
            status, deaths = -signal.SIGKILL, 0
            while status == -signal.SIGKILL:
                status = dies_before(1 + deaths * EVERY)
                if d.client.scard("plumbline:erasures"):
                    d.erase(Kept())
                assert d.found() == set()
                assert store.log(d.client, archive)[0] == others
                shown = d.api.get(f"/v1/erasures/{job}").json()
                assert (shown["state"], shown["tainted"], len(shown["snapshots"])) == ("done", ["assistant@v1"], 1)
                standing = [path for path in (d.artifacts / "snapshots").iterdir() if not _erased(path)]
                assert [snapshot.read(path).manifest.thumbs for path in standing] == [1]
                d.restore(state, files)
                deaths += status != 0
        assert (status, deaths > 20) == (0, True)


def _erased(directory: Path) -> bool:
    return snapshot.read_manifest(directory).erased is not None

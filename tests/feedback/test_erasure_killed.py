"""An erasure, killed between any two of its steps (files, commands to Redis): the next attempt ends it.

Forked and killed as in test_archive_killed.py; every death starts from the same Redis and the same files.
"""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feedback import snapshot, store
from feedback.archive import Archive
from tests.feedback.canaries import OTHER, RATER, Kept, deployed, plant

pytestmark = pytest.mark.faults
EVERY = 4
"""Steps between two deaths that are tried: all of them take minutes."""

NURSERY = """
import os, signal, sys
import pyarrow, redis
from pathlib import Path
from feedback import erasure

left = 0
pyarrow.array([1])  # imports pandas where there is one; not anew in each child

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    if event in ("open", "os.rename", "os.remove") and left > 0 and "artifacts" in str(arguments[0]):
        step()

class Mortal(redis.Redis):
    def execute_command(self, *arguments, **options):
        step()
        return super().execute_command(*arguments, **options)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        left = int(line)
        sys.addaudithook(audit)
        client = Mortal.from_url(sys.argv[1], decode_responses=True)
        erasure.run(client, Path(sys.argv[2]), sys.argv[3], forget_runs=lambda snapshots: [])
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


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
        command = [sys.executable, "-c", NURSERY, f"unix://{d.directory / 's'}", str(d.artifacts), job]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
            assert nursery.stdin is not None
            assert nursery.stdout is not None
            status, deaths = -signal.SIGKILL, 0
            while status == -signal.SIGKILL:
                nursery.stdin.write(f"{1 + deaths * EVERY}\n")
                nursery.stdin.flush()
                status = int(nursery.stdout.readline())
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
            nursery.stdin.close()
        assert (status, deaths > 20) == (0, True)


def _erased(directory: Path) -> bool:
    return snapshot.read_manifest(directory).erased is not None

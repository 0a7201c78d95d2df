"""The archiver, killed between any two of its steps (files, commands to Redis): nothing is lost and nothing doubled.

A nursery forks one archiver for each death, which kills itself with SIGKILL right before its n-th step. Steps are seen
from outside: Python's audit events of files in the archive, and commands on the Redis connection.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import keys
from feedback import store
from feedback.archive import MANIFEST

pytestmark = pytest.mark.faults
SIDES = ["chatcmpl-1", "chatcmpl-1-a", "chatcmpl-1-b"]

NURSERY = """
import os, signal, sys
import pyarrow, redis
from pathlib import Path
from feedback import archiving
from feedback.archive import Archive

left = 0
pyarrow.array([1])  # imports pandas where there is one; not anew in each child

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(event, arguments):
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock", "os.listdir") and left > 0:
        if event == "fcntl.flock" or "archive" in str(arguments[0]):
            step()

class Mortal(redis.Redis):
    def execute_command(self, *arguments, **options):
        step()
        return super().execute_command(*arguments, **options)

def work(url, artifacts):
    client = Mortal.from_url(url, decode_responses=True)
    archive = Archive(Path(artifacts))
    while archiving.run(client, archive, copy_after_s=0, keep_s=0, most=4).copied:
        pass
    redis.Redis.from_url(url).delete(*sys.argv[3:])  # the feedback window is over
    while archiving.run(client, archive, copy_after_s=0, keep_s=0, most=4).trimmed:
        pass

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        left = int(line)
        sys.addaudithook(audit)
        work(*sys.argv[1:3])
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def nursery(redis_server: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    targets = [keys.completion("chatcmpl-1"), keys.comparison("cmp_1"), keys.comparison("cmp_2")]
    command = [sys.executable, "-c", NURSERY, redis_server, str(tmp_path), *targets]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=10)


def test_killed_at_any_step_it_goes_on_as_if_it_never_was(redis_client, archive, varied, expire, move, nursery):
    """After each death readers see the same log at once; the next run ends the work, and leaves no stray file."""
    entries = redis_client.xrange(keys.FEEDBACK)
    hashes = {key: redis_client.hgetall(key) for key in redis_client.keys(keys.PREFIX + "comp*")}
    before, records = store.log(redis_client), store.completions(redis_client, SIDES)
    deaths = 0
    while True:
        nursery.stdin.write(f"{deaths + 1}\n")
        nursery.stdin.flush()
        status = int(nursery.stdout.readline())
        assert store.log(redis_client, archive) == before
        assert store.completions(redis_client, SIDES, archive) == records
        move(most=4)
        expire()
        move(most=4)
        assert redis_client.xlen(keys.FEEDBACK) == 0
        assert store.log(redis_client, archive) == before
        assert store.completions(redis_client, SIDES, archive) == records
        partitions = archive.manifest().partitions
        named = {file.name for partition in partitions for file in partition.files.values()}
        assert set(os.listdir(archive.directory)) == named | {MANIFEST, ".lock"}  # noqa: PTH208
        assert [partition.missing for partition in partitions] == [0, 0, 0]
        if status == 0:
            break
        assert status == -signal.SIGKILL
        deaths += 1
        shutil.rmtree(archive.directory)
        redis_client.flushall()
        for position, fields in entries:
            redis_client.xadd(keys.FEEDBACK, fields, id=position)
        for key, fields in hashes.items():
            redis_client.hset(key, mapping=fields)
    assert deaths > 60

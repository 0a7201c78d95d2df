"""The archiver, killed between any two of its steps (files, commands to Redis): nothing is lost and nothing doubled."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from core import keys
from feedback import archiving, store
from feedback.archive import MANIFEST, Archive
from tests.feedback.nursery import nursery

pytestmark = pytest.mark.faults
SIDES = ["chatcmpl-1", "chatcmpl-1-a", "chatcmpl-1-b"]
TARGETS = [keys.completion("chatcmpl-1"), keys.comparison("cmp_1"), keys.comparison("cmp_2")]
FILES = ("open", "os.rename", "os.remove", "os.mkdir", "os.listdir")


def is_step(event: str, path: str) -> bool:
    return event == "fcntl.flock" or (event in FILES and "archive" in path)


def work(client: redis.Redis, artifacts: str) -> None:
    archive = Archive(Path(artifacts))
    while archiving.run(client, archive, copy_after_s=0, keep_s=0, most=4).copied:
        pass
    redis.Redis(connection_pool=client.connection_pool).delete(*TARGETS)  # the feedback window is over: no step of ours
    while archiving.run(client, archive, copy_after_s=0, keep_s=0, most=4).trimmed:
        pass


@pytest.fixture
def dies_before(redis_server: str, tmp_path: Path) -> Iterator[Callable[[int], int]]:
    with nursery(__name__, redis_server, str(tmp_path)) as forks:
        yield forks


def test_killed_at_any_step_it_goes_on_as_if_it_never_was(redis_client, archive, varied, expire, move, dies_before):
    """After each death readers see the same log at once; the next run ends the work, and leaves no stray file."""
    entries = redis_client.xrange(keys.FEEDBACK)
    hashes = {key: redis_client.hgetall(key) for key in redis_client.keys(keys.PREFIX + "comp*")}
    before, records = store.log(redis_client), store.completions(redis_client, SIDES)
    deaths = 0
    while True:
        status = dies_before(deaths + 1)
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

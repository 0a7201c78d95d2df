"""The controller killed in the middle of the log, and a scheduler whose queue hangs: the release ends as it must."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import redis

from core import evidence as evidence_store
from core import keys, releases
from core.releases import Release
from core.settings import Settings
from feedback import archiving
from feedback.archive import Archive
from plumbline import release as controller
from plumbline.scheduler import ARCHIVE, request_round
from tests.plumbline.releasing import OWNER, open_release, votes
from tests.waiting import eventually
from training.worker import send

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parent.parent.parent


def test_kills_change_no_decision(redis_client: redis.Redis, redis_server: str, tmp_path: Path) -> None:
    """Controllers are killed in the middle of the log, twice; the one after them ends the release by the very vote
    that one uninterrupted count of the same log finds."""
    release = open_release(redis_client)
    votes(redis_client, release, "ab" * 300 + "b" * 150)
    places = set()
    for _ in range(2):
        before = _place(redis_client, release)
        with _controller(redis_server, tmp_path):
            eventually(lambda before=before: _place(redis_client, release) != before, every_s=0.002)
        places.add(_place(redis_client, release))
    with _controller(redis_server, tmp_path):
        eventually(lambda: releases.current(redis_client) is None)

    killed = evidence_store.load(redis_client, release.id)
    assert killed is not None
    redis_client.delete(keys.release_evidence(release.id), keys.release_voters(release.id))
    redis_client.delete(keys.RELEASE_LEASE)
    assert evidence_store.claim(redis_client, OWNER, lease_s=60)
    whole = controller.follow(redis_client, release, Archive(tmp_path), owner=OWNER)
    assert whole is not None
    assert len(places) == 2, "the kills met the log at two places"
    assert (killed.finding, killed.found_at) == (whole.finding, whole.found_at)
    assert whole.finding == "worse"
    assert releases.release(redis_client, release.id).state == "rolled_back"


def test_the_scheduler_decides_while_its_queue_is_busy(
    redis_client: redis.Redis, redis_server: str, tmp_path: Path
) -> None:
    """The real process ends a release by its votes while its worker hangs in archiving, on a disk that does not
    answer, and a look waits behind that: here the archive's lock is a pipe that nobody reads."""
    config = Settings(home=tmp_path, redis_url=redis_server, check_interval_s=60)
    archive = Archive(config.artifacts).directory
    archive.mkdir(parents=True)
    os.mkfifo(archive / archiving.LOCK)
    release = open_release(redis_client)
    send(ARCHIVE, [], queue=keys.OPS_QUEUE, config=config)
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-m", "plumbline.scheduler"]
        environment = os.environ | config.environment()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: redis_client.exists(keys.RELEASE_LEASE) == 1)
        request_round(redis_client, config, actor="test", reason="test")
        votes(redis_client, release, "b" * 11)
        eventually(lambda: releases.current(redis_client) is None)
        assert redis_client.llen(f"{keys.BROKER_PREFIX}{keys.OPS_QUEUE}") > 0
    finally:
        process.kill()
        process.wait()
    assert releases.release(redis_client, release.id).state == "rolled_back"


@contextmanager
def _controller(url: str, home: Path) -> Iterator[None]:
    """A controller in a process of its own, killed at the end."""
    process = subprocess.Popen([sys.executable, "-m", "tests.plumbline.releasing", url, str(home)], cwd=ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _place(client: redis.Redis, release: Release) -> str | None:
    return cast(str | None, client.hget(keys.release_evidence(release.id), "position"))
